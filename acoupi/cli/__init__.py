"""The command line: ``acoupi``.

Only this layer prints, asks and ends the process. Nothing heavy is imported before a
command runs, so that ``acoupi --help`` is quick.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line on the arguments of this process."""
    from acoupi.cli.app import app
    from acoupi.cli.handler import run_console

    run_console(app)
