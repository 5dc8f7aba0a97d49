"""`acoupi.services.program_hooks` under the name in rendered files."""

from acoupi.services.program_hooks import main

if __name__ == "__main__":
    raise SystemExit(main())
