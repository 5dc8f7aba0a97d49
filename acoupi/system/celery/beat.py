"""`acoupi.services.beat` under the name that rendered files have for it."""

from acoupi.services.beat import main

if __name__ == "__main__":
    raise SystemExit(main())
