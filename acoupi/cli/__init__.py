"""The command line: ``acoupi``.

Only this layer prints, asks and ends the process. Nothing heavy is imported before a
command runs, so that ``acoupi --help`` is quick.
"""

import gc

__all__ = ["main"]

GARBAGE = 50_000
"""Objects made between two runs of the garbage collector. Imports make many objects that all
stay; at the default of 700, a sixth of a command's time goes into looking through them."""


def main() -> None:
    """Run the command line on the arguments of this process."""
    gc.set_threshold(GARBAGE)
    from acoupi.cli.app import app
    from acoupi.cli.handler import run_console

    try:
        run_console(app)
    finally:
        gc.freeze()  # Python scans all objects once more when it exits
