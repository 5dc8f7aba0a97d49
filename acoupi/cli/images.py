"""Building an image with its progress on the terminal."""

import re
from collections import deque
from collections.abc import Callable

from acoupi.cli.output import done, say, working
from acoupi.cli.terminal import echo, shows_commands

__all__ = ["build_image_of", "doing_in"]

STEP = re.compile(r"#\d+ \[[^\]]*?(\d+/\d+)\] (\w+ .*)")
"""A line of the engine's output that begins a step."""
PIP = re.compile(r"#\d+ [\d.]+ ((?:Collecting|Downloading|Installing|Get:\d+) \S.*)")
"""A line of output from pip or apt in a step."""
LONGEST = 60
LAST_LINES = 20
"""The number of lines shown of a failed build."""


def build_image_of(packages: list[str]) -> str:
    """Build an image with these packages, with one line of progress; return its name.

    With ``acoupi -v``, the engine's whole output is shown; after a failure, the end of it.
    """
    from acoupi.bundles.images import build_image

    said: deque[str] = deque(maxlen=LAST_LINES)
    with working("Building the image") as tell:
        try:
            name = build_image(packages, on_line=_following(said, tell), echo=echo)
        except Exception:
            for line in said:
                say(line, err=True)
            raise
    done(f"The image {name} is built.")
    return name


def _following(said: deque[str], tell: Callable[[str], None]) -> Callable[[str], None]:
    def follow(line: str) -> None:
        if shows_commands():
            say(line, err=True)
            return
        said.append(line)
        if doing := doing_in(line):
            tell(f"Building the image: {doing}")

    return follow


def doing_in(line: str) -> str | None:
    """Return the step that a line of the engine's output describes, in a few words, or None.

    Examples
    --------
    >>> doing_in("#9 [sensor 4/7] RUN pip install -r requirements.txt")
    'step 4/7, RUN pip install -r requirements.txt'
    >>> doing_in("#9 10.92 Collecting torch>=1.13")
    'Collecting torch>=1.13'
    >>> doing_in("#9 CACHED")
    """
    if step := STEP.match(line):
        text = f"step {step[1]}, {step[2]}"
    elif pip := PIP.match(line):
        text = pip[1]
    else:
        return None
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
