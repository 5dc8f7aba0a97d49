"""`acoupi.services.broker_start` under the name in rendered files."""

from acoupi.services.broker_start import main

if __name__ == "__main__":
    raise SystemExit(main())
