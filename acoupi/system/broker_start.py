"""`acoupi.services.broker_start` under the name that rendered files have for it."""

from acoupi.services.broker_start import main

if __name__ == "__main__":
    raise SystemExit(main())
