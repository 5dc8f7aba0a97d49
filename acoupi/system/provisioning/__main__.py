"""`acoupi.provisioning.__main__` under the name in rendered files."""

from acoupi.provisioning.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
