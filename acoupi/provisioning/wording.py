"""Errors about options, in the words of who sets variables."""

import re

from acoupi.errors import AcoupiError

__all__ = ["in_variables"]

_OPTION = re.compile(r"(?:acoupi setup )?--([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)(?:[ =](?=\S))?")
_NO_SETTINGS = ("target", "force", "package", "help", "diff", "debug")


def in_variables(error: AcoupiError) -> AcoupiError:
    """Return the error with the variables that stand for its options.

    Examples
    --------
    >>> error = in_variables(AcoupiError("no.", "acoupi setup --program default"))
    >>> error.help
    'ACOUPI_PROGRAM=default'
    >>> in_variables(AcoupiError("--recording.duration is wrong.", "--timezone UTC")).lines()
    ['Error: ACOUPI_CONFIG__RECORDING__DURATION is wrong.', '  Try: ACOUPI_CONFIG__TIMEZONE=UTC']
    """
    error.message = _replaced(error.message, " ") or ""
    error.why, error.help = _replaced(error.why, " "), _replaced(error.help, "=")
    return error


def _replaced(text: str | None, between: str) -> str | None:
    """Replace options; `between` is what stands before their values."""
    return text and _OPTION.sub(lambda found: _variable(found, between), text)


def _variable(found: re.Match[str], between: str) -> str:
    name = found[1]
    if name in _NO_SETTINGS:
        return found[0]
    if name == "program":
        variable = "ACOUPI_PROGRAM"
    elif name == "broker":
        variable = "ACOUPI_CELERY__BROKER_URL"
    elif name.startswith("celery."):
        variable = "ACOUPI_CELERY__" + name.removeprefix("celery.").upper()
    else:
        variable = "ACOUPI_CONFIG__" + name.replace(".", "__").upper()
    return variable + (between if found[0][-1] in " =" else "")
