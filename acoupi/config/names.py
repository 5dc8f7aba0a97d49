"""The names of settings for people, and finding the setting that a name means."""

import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "BY_OPTIONS",
    "BY_VARIABLES",
    "CELERY",
    "PROGRAM",
    "SENSOR",
    "SETUP_OPTIONS",
    "Key",
    "Names",
    "Place",
    "Style",
    "Wording",
    "nearest",
]

Key = str | int
Place = tuple[Key, ...]
"""The path from the top of a configuration to one of its values."""


SETUP_OPTIONS = frozenset({
    *("adopt-folder", "broker", "config", "diff", "force", "help", "json", "no-prompt", "no-web"),
    *("package", "preset", "program", "prompt", "system", "target", "weights", "web"),
})  # fmt: skip
"""What `acoupi setup` takes itself; a setting of that name is the option --program.NAME."""

Style = Literal["option", "variable", "plain"]


@dataclass(frozen=True)
class Names:
    """How people write the settings of one configuration.

    Parameters
    ----------
    variables
        Prefix of its environment variables.
    section
        Prefix of its dotted names, as in ``celery.task_time_limit``.
    style
        How to name a setting that has no value from any source: by its option, by its variable,
        or by its plain name, as in ``config set``.
    program
        The program that has them, where perhaps none is set up yet; empty: the one that is.
    command
        What gives a setting a value, where the style is plain.

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
    program: str = ""
    command: str = "acoupi config set"

    @property
    def listing(self) -> str:
        """The command that lists the settings."""
        return f"acoupi config schema --program {self.program}".removesuffix(" --program ")

    def dotted(self, place: Place) -> str:
        """Return the name with dots; empty for the top of a program's configuration."""
        name = ".".join(str(key) for key in place)
        return ".".join(filter(None, (self.section, name)))

    def option(self, place: Place) -> str:
        """Return the option."""
        name = self.dotted(place)
        return f"--program.{name}" if name.replace("_", "-") in SETUP_OPTIONS else f"--{name}"

    def variable(self, place: Place) -> str:
        """Return the environment variable."""
        return self.variables + "__".join(str(key).upper() for key in place)

    def usual(self, place: Place) -> str:
        """Return the name in the style that is usual here."""
        named = {"option": self.option, "variable": self.variable, "plain": self.dotted}
        return named[self.style](place)

    def edit(self, place: Place, value: str) -> str:
        """Return what gives a setting a value, in that style."""
        before = f"{self.command} " if self.style == "plain" else ""
        between = "=" if self.style == "variable" else " "
        return f"{before}{self.usual(place)}{between}{shlex.quote(value)}"

    def in_style(self, style: Style, program: str = "") -> "Names":
        """Return the same names in another style, and of a program that is named."""
        return replace(self, style=style, program=program)


PROGRAM = Names()
CELERY = Names("ACOUPI_CELERY__", "celery")
SENSOR = Names("ACOUPI_SENSOR__", "sensor")


@dataclass(frozen=True)
class Wording:
    """How the errors of a setup name settings: by options, or by variables.

    Parameters
    ----------
    style
        Style of the names of settings.
    program, broker
        How to choose a program and a broker; ``{}`` stands for the choice.
    """

    style: Style
    program: str
    broker: str


BY_OPTIONS = Wording("option", "acoupi setup --program {}", "--broker {}")
BY_VARIABLES = Wording("variable", "ACOUPI_PROGRAM={}", "ACOUPI_CELERY__BROKER_URL={}")


def nearest(text: str, valid: Sequence[str]) -> str | None:
    """Return the word that was probably meant, or None.

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
