"""`acoupi.services.worker` under the name in rendered files."""

import faulthandler

from acoupi.services.worker import main

if __name__ == "__main__":
    faulthandler.enable()
    raise SystemExit(main())
