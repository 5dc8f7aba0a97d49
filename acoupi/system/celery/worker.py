"""`acoupi.services.worker` under the name that rendered files have for it."""

import faulthandler

from acoupi.services.worker import main

if __name__ == "__main__":
    faulthandler.enable()
    raise SystemExit(main())
