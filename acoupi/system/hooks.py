"""`acoupi.services.program_hooks` under the name that rendered files have for it."""

from acoupi.services.program_hooks import main

if __name__ == "__main__":
    raise SystemExit(main())
