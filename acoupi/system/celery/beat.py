"""`acoupi.services.beat` under the name in rendered files."""

from acoupi.services.beat import main

if __name__ == "__main__":
    raise SystemExit(main())
