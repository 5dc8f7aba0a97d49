"""Commands that run in the bundle's image, because the program is only installed there."""

import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from acoupi.cli import home
from acoupi.cli.terminal import echo
from acoupi.errors import AcoupiError

if TYPE_CHECKING:
    from acoupi.stack.settings import Settings

__all__ = ["instead", "run_inside"]


SETTING_UP = ("setup", "config", "web")
"""Commands after which other folders may be mounted."""


def run_inside(
    found: "Settings",
    words: Sequence[str],
    image: str | None = None,
    packages: Sequence[str] | None = None,
) -> int:
    """Run ``acoupi WORDS`` in an image on this terminal; return its exit code.

    Parameters
    ----------
    found
        The target of the home.
    words
        The command line, without "acoupi".
    image
        None: that of the bundle.
    packages
        The extra packages in it, to be recorded with it.

    Raises
    ------
    TargetError
        If docker cannot be run, or the program in the image left files that containers could be
        started from.
    ConfigurationError
        If the bundle written there is not safe to start.
    """
    from acoupi.bundles.engine import hand_over
    from acoupi.bundles.overrides import files_of_others
    from acoupi.targets.compose import ComposeTarget

    target = ComposeTarget(found)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    command = target.command_inside(words, image, packages=packages, terminal=terminal)
    echo(shlex.join(command))
    before = files_of_others(found.home)
    code = hand_over(command)
    if words[0] in SETTING_UP and found.manifest_file.exists():
        target.check_written(before)
        target.prepare()
    return code


def instead(words: Sequence[str]) -> int | None:
    """Run a command in the image of the bundle, which has the program; return its exit code.

    None if there is no bundle here, or no image for it; then the error is shown.
    """
    from acoupi.bundles.program_image import is_inside
    from acoupi.system.sensor import Sensor
    from acoupi.targets.running import RunningBundle

    try:
        found = Sensor.at(home.settings())
        if is_inside() or _names_another(words, found.target_name):
            return None
        target = found.target
        if not isinstance(target, RunningBundle) or not target.engine.has_image(target.image):
            return None
        return run_inside(found.settings, words)
    except AcoupiError:
        return None


def _names_another(words: Sequence[str], target: str) -> bool:
    """Return whether a command line names another target."""
    given = [word.partition("=")[2] for word in words if word.startswith("--target=")]
    given += [after for word, after in pairwise(words) if word == "--target"]
    return any(name != target for name in given)
