"""What happens when a command fails: three lines, an exit code, and no traceback.

=====  ==============================================
0      done
1      it failed
2      the configuration or the arguments are wrong
3      a health check failed
130    interrupted
=====  ==============================================
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from acoupi.cli.table import COMMANDS, LazyCommands
from acoupi.cli.terminal import painted
from acoupi.errors import AcoupiError, ProgramNotFoundError
from acoupi.printing import printable

__all__ = ["AcoupiGroup", "run_console", "show_error"]

INTERRUPTED = 130
USAGE = 2


def show_error(error: AcoupiError) -> None:
    """Print the one to three lines of an error on stderr."""
    for lines in error.lines():
        line = printable(" ".join(lines.splitlines()), keep="\t")
        word, colon, rest = line.partition(":")
        colour = typer.colors.RED if word == "Error" else None
        typer.echo(painted(word + colon, fg=colour, bold=True) + rest, err=True)


class AcoupiGroup(TyperGroup):
    """The group of all commands: turns any exception into lines and an exit code."""

    debug = False
    """Whether to show tracebacks; the option ``--debug`` sets it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        if not self.commands:
            self.commands = LazyCommands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands without importing them."""
        if not isinstance(self.commands, LazyCommands):
            super().format_commands(ctx, formatter)
            return
        for title, is_advanced in (("Commands", False), ("Advanced", True)):
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (name, entry.purpose)
                        for name, entry in COMMANDS.items()
                        if entry.is_advanced == is_advanced
                    ]
                )

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and end the process, like typer, but with acoupi's exit codes."""
        run = partial(
            super().main, args, prog_name, complete_var, False, windows_expand_args, **extra
        )
        if not standalone_mode:
            return run()
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = run()
        except Exception as error:  # noqa: BLE001 - the edge of the program
            code = self._failed(error, words)
        sys.exit(code if isinstance(code, int) else 0)

    def _failed(self, error: Exception, words: Sequence[str]) -> int:
        if isinstance(error, ProgramNotFoundError):
            from acoupi.cli.inside import instead

            code = instead(words)
            if code is not None:
                return code
        if self.debug and not isinstance(error, TyperException | typer.Abort):
            import traceback

            traceback.print_exception(error)
        if isinstance(error, AcoupiError):
            show_error(error)
            return error.exit_code
        if isinstance(error, TyperException):
            return _usage(error, self._path(words))
        if isinstance(error, typer.Abort):
            return _aborted(error)
        show_error(_unexpected(error, words, debug=self.debug))
        return 1

    def _path(self, words: Sequence[str]) -> str:
        """Return the command that these words name, with its groups."""
        path, below = ["acoupi"], self.commands
        for word in words:
            if word in below:
                path.append(word)
                below = getattr(below[word], "commands", {})
        return " ".join(path)


def _usage(error: TyperException, path: str) -> int:
    """Report an error in the command line itself."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message())
        return USAGE
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split()).rstrip(".")
    usage = context.get_usage().removeprefix("Usage: ") if context is not None else f"{path} ..."
    why = f"usage: {' '.join(usage.split())}"
    show_error(AcoupiError(f"{message[:1].lower()}{message[1:]}.", f"{path} --help", why=why))
    return error.exit_code


def _aborted(error: typer.Abort) -> int:
    """Distinguish an interrupt from the end of the input."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, EOFError):
        why = "the input ended before the last question."
        help = "give the answers as options, and --no-prompt"  # noqa: A001
        show_error(AcoupiError("not finished; nothing was changed.", help, why=why))
        return USAGE
    typer.echo("", err=True)
    return INTERRUPTED if isinstance(cause, KeyboardInterrupt) else 1


def _unexpected(error: Exception, words: Sequence[str], *, debug: bool) -> AcoupiError:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return AcoupiError(
        "acoupi, or the program it runs, has a bug.",
        "report it with the lines above" if debug else f"acoupi --debug {' '.join(words)}",
        why=f"{text if len(text) <= 300 else text[:297] + '...'}",
    )


def run_console(app: typer.Typer) -> NoReturn:
    """Run the command line of this process; a closed pipe is not an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code: int | str | None = 0
    try:
        typer.main.get_command(app)(prog_name="acoupi")
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:
        code = INTERRUPTED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    sys.exit(code)
