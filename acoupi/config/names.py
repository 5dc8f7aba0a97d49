"""What the settings of a configuration are called outside it, and what was meant by a name."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "BY_OPTIONS",
    "BY_VARIABLES",
    "CELERY",
    "PROGRAM",
    "SENSOR",
    "Key",
    "Names",
    "Place",
    "Style",
    "Wording",
    "nearest",
]

Key = str | int
Place = tuple[Key, ...]
"""The way from the top of a configuration to one of its values."""


Style = Literal["option", "variable", "plain"]


@dataclass(frozen=True)
class Names:
    """How the settings of one configuration are written by people.

    Parameters
    ----------
    variables
        What its environment variables begin with.
    section
        What stands before its dotted names, as in ``celery.task_time_limit``.
    style
        What a setting is called whose value came from nowhere: by its option, by its variable,
        or by its plain name, as ``config set`` takes it.

    Examples
    --------
    >>> place = ("recording", "duration")
    >>> [PROGRAM.dotted(place), PROGRAM.option(place), PROGRAM.variable(place)]
    ['recording.duration', '--recording.duration', 'ACOUPI_CONFIG__RECORDING__DURATION']
    >>> CELERY.option(("task_time_limit",))
    '--celery.task_time_limit'
    """

    variables: str = "ACOUPI_CONFIG__"
    section: str = ""
    style: Style = "option"

    def dotted(self, place: Place) -> str:
        """Return the name with dots; empty for the top of a program's configuration."""
        name = ".".join(str(key) for key in place)
        return ".".join(filter(None, (self.section, name)))

    def option(self, place: Place) -> str:
        """Return the option."""
        return f"--{self.dotted(place)}"

    def variable(self, place: Place) -> str:
        """Return the environment variable."""
        return self.variables + "__".join(str(key).upper() for key in place)

    def usual(self, place: Place) -> str:
        """Return the name in the style that is usual here."""
        named = {"option": self.option, "variable": self.variable, "plain": self.dotted}
        return named[self.style](place)

    def edit(self, place: Place, value: str) -> str:
        """Return what gives a setting a value, in that style."""
        before = "acoupi config set " if self.style == "plain" else ""
        between = "=" if self.style == "variable" else " "
        return f"{before}{self.usual(place)}{between}{quoted(value)}"

    def in_style(self, style: Style) -> "Names":
        """Return the same names in another style."""
        return replace(self, style=style)


PROGRAM = Names()
CELERY = Names("ACOUPI_CELERY__", "celery")
SENSOR = Names("ACOUPI_SENSOR__", "sensor")


@dataclass(frozen=True)
class Wording:
    """How the errors of a setup name what its caller writes: options, or variables.

    Parameters
    ----------
    style
        Of the names of settings.
    program, broker
        What chooses a program and a broker; ``{}`` stands for it.
    """

    style: Style
    program: str
    broker: str


BY_OPTIONS = Wording("option", "acoupi setup --program {}", "--broker {}")
BY_VARIABLES = Wording("variable", "ACOUPI_PROGRAM={}", "ACOUPI_CELERY__BROKER_URL={}")


def quoted(text: str) -> str:
    """Quote a value for a shell, where that is needed."""
    safe = text and all(char.isalnum() or char in "_-./:+,@%=~" for char in text)
    return text if safe else "'" + text.replace("'", "'\\''") + "'"


def nearest(text: str, valid: Sequence[str]) -> str | None:
    """Return the one of some words that was probably meant, or None.

    Examples
    --------
    >>> nearest("Newest", ["oldest_first", "newest_first"])
    'newest_first'
    """
    wanted = text.lower().replace("-", "_")
    folded = {word.lower(): word for word in reversed(valid)}
    if wanted in folded:
        return folded[wanted]
    begun = [word for word in folded if word.startswith(wanted)] if len(wanted) > 2 else []
    if begun:
        return folded[min(begun, key=len)]
    close = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.65)
    return folded[close[0]] if close else None
