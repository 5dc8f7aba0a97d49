"""`acoupi.provisioning.__main__` under the name that rendered files have for it."""

from acoupi.provisioning.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
