"""``python -m acoupi.web``: the service that serves the page of a sensor."""

import sys

from acoupi.services.serving import main

if __name__ == "__main__":
    sys.exit(main(["web", "acoupi.web.service", *sys.argv[1:]]))
