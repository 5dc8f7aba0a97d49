"""Running ``acoupi`` itself inside an image, where the program is.

The host then needs neither the program nor its dependencies: setup, and every
other command that loads the program, runs in a container that exists as long
as the command.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acoupi.bundles.bundle_checks import SOUND_RULE, TOO_WIDE, folders_of
from acoupi.bundles.engine import OVERRIDE_FILE
from acoupi.bundles.home_folder import own_names
from acoupi.devices.clock import get_system_timezone
from acoupi.stack.mounting import cache_variable
from acoupi.stack.settings import Settings

__all__ = ["INSIDE", "bind_option", "image_command", "is_inside"]

INSIDE = "ACOUPI_INSIDE"
"""Variable that is set inside such a container, where commands run directly."""
SOUND = Path("/dev/snd")
PASSED_ON = ("TZ", "TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")


LIMITS = ("--pids-limit=512", "--memory=2g")
"""Memory limit: more than any acoupi command needs, less than would stop a board."""


@dataclass(frozen=True)
class Needs:
    """The rights that a command gets."""

    home: bool = False
    """What setup writes in the home; else the settings, to read, and no file of the bundle."""
    data: bool = False
    """To write in the folders of the data."""
    network: bool = False
    sound: bool = False


NEEDS: Mapping[tuple[str, ...], Needs] = {
    ("setup",): Needs(home=True, sound=True),
    ("config", "set"): Needs(home=True),
    ("config", "undo"): Needs(home=True),
    ("config",): Needs(),
    ("task", "run"): Needs(data=True, network=True, sound=True),
    ("task",): Needs(),
    ("check",): Needs(data=True, network=True, sound=True),
    ("devices",): Needs(sound=True),
    ("effort",): Needs(data=True),
    ("messages",): Needs(data=True),
}
"""By the first words of a command; any other gets everything."""
READ = ("config", "app.py", ".generated.json", "run", "secrets/config")
"""What a command reads that may not write all of the home."""


def needs_of(words: Sequence[str]) -> Needs:
    """Return the rights that a command line of acoupi needs.

    Examples
    --------
    >>> needs_of(["config", "get", "recording"]).home, needs_of(["config", "set"]).home
    (False, True)
    """
    for length in (2, 1):
        if found := NEEDS.get(tuple(words[:length])):
            return found
    return Needs(home=True, data=True, network=True, sound=True)


def is_inside() -> bool:
    """Return whether this process runs in such a container."""
    return bool(os.environ.get(INSIDE))


def image_command(
    settings: Settings,
    image: str,
    words: Sequence[str],
    *,
    owner: tuple[int, int],
    sound_group: str,
    variables: Mapping[str, str] | None = None,
    terminal: bool = False,
) -> list[str]:
    """Return the command that runs ``acoupi WORDS`` in an image, as if it ran on the host.

    What the command needs of the home (`NEEDS`) is mounted where it is, with the
    folders that its bundle uses and, read-only, each file that the words name. Only some
    commands have a network. Variables are passed by name, so that no secret stands in
    the command line.

    Parameters
    ----------
    settings
        Of the home.
    image
        That contains the program.
    words
        The command line of acoupi, without "acoupi".
    owner
        The user and group to run as.
    sound_group
        The number of the group that may use the sound device.
    variables
        To be set in addition to those of the environment.
    terminal
        Whether the command is interactive.
    """
    home, needs = settings.home, needs_of(words)
    set_here = {"ACOUPI_HOME": str(home), INSIDE: "1", **cache_variable(home), **(variables or {})}
    if zone := os.environ.get("TZ") or get_system_timezone():
        set_here["TZ"] = zone
    passed = [
        name
        for name in sorted(os.environ)
        if (name.startswith("ACOUPI_") or name in PASSED_ON) and name not in set_here
    ]
    return [
        *("docker", "run", "--rm", "--init", "--interactive", *(["--tty"] if terminal else [])),
        *("--user", ":".join(map(str, owner)), "--read-only", "--tmpfs", "/tmp:mode=1777"),  # noqa: S108 - its own
        *("--cap-drop=ALL", "--security-opt=no-new-privileges:true", *LIMITS),
        *(() if needs.network else ("--network=none",)),
        *(part for name in passed for part in ("--env", name)),
        *(part for name, text in set_here.items() for part in ("--env", f"{name}={text}")),
        *(part for mount in _mounts(settings, words, needs) for part in ("--mount", mount)),
        *(_sound(sound_group) if needs.sound and SOUND.is_dir() else ()),
        *("--workdir", os.getcwd(), image, "acoupi", *words),  # noqa: PTH109 - as it is called
    ]


def _sound(group: str) -> tuple[str, ...]:
    """Return the options that let it look for microphones, as a command on the host does."""
    mount = bind_option(SOUND, read_only=True)
    return ("--mount", mount, "--device-cgroup-rule", SOUND_RULE, "--group-add", group)


def _mounts(settings: Settings, words: Sequence[str], needs: Needs) -> Iterator[str]:
    home, may_write = settings.home, needs.data
    if needs.home:
        yield bind_option(home)
        kept = () if needs.data else _kept(settings)
        yield from (bind_option(path, read_only=True) for path in kept)
    else:
        for path in (home / name for name in READ):
            if path.exists():
                yield bind_option(path, read_only=path.name != "run" or not needs.data)
        if (home / "data").exists():
            yield bind_option(home / "data", read_only=not may_write)
    folders = folders_of(home)
    for folder, read_only in folders.items():
        if folder.exists() and not folder.is_relative_to(home):
            yield bind_option(folder, read_only=read_only or not may_write)
    for file in sorted({path for word in words for path in _named(word)}):
        if not any(file.is_relative_to(seen) for seen in (home, *folders)):
            yield bind_option(file, read_only=True)


def _kept(settings: Settings) -> list[Path]:
    """Return the contents of a home that setup does not write: data, models, the owner's files.

    The rest is what a setup is for. Folders for new data are made on the host afterwards.
    """
    own = own_names(settings) - {"data", OVERRIDE_FILE}
    found = sorted(settings.home.iterdir()) if settings.home.exists() else []
    return [
        path
        for path in found
        if path.name not in own and not path.is_symlink() and not path.name.endswith(".part")
    ]


def _named(word: str) -> Iterator[Path]:
    """Yield the file or folder that a word of a command line may name."""
    option, is_option, value = word.partition("=")
    text = value if is_option and option.startswith("-") else word
    if not text or text.startswith("-") or "\n" in text:
        return
    path = Path(os.path.abspath(text))  # noqa: PTH100 - a link stays a link
    try:
        if path.exists() and str(path) not in TOO_WIDE:
            yield path
    except OSError:  # too long to name a file
        return


def bind_option(path: Path, *, read_only: bool = False) -> str:
    """Return a bind mount at the same place, as the docker command reads it."""
    text = io.StringIO()
    fields = ["type=bind", f"source={path}", f"target={path}", *(["readonly"] if read_only else [])]
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()
