"""A folder that ``balena push`` takes as it is: a fleet of sensors that set themselves up.

It contains the compose file, the sources of the image, and files for balena and
its operators. Nothing of it runs here; the reasons for its form are in
``compose/balena/README.md``.
"""

import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, ClassVar

import acoupi
from acoupi.bundles.compose_file import Sound
from acoupi.bundles.engine import COMPOSE_FILE
from acoupi.bundles.images import (
    copy_sources,
    fill_program_context,
    named_packages,
    source_dir,
)
from acoupi.bundles.rendering import Manifest, check_not_edited, render_tree
from acoupi.bundles.self_setup import (
    FOLDERS,
    HOME,
    USER,
    SelfSetupSite,
    fleet_stack,
    image_arguments,
    render_self_setup,
    schema_of,
)
from acoupi.config.names import SENSOR
from acoupi.config.variables import as_variables, settings_table
from acoupi.errors import ConfigurationError, TargetError
from acoupi.home import using_home
from acoupi.stack.settings import Settings
from acoupi.stack.stack import BROKER, SETUP, Mount, Service, Stack, is_sound_worker
from acoupi.stack.variables import VARIABLES
from acoupi.targets import ServiceStatus, Target
from acoupi.writing import RenderedFile, disk_error, write_files

__all__ = ["BalenaTarget", "balena_files", "write_balena_folder"]

FOLDER = PurePath("balena")
"""Below the home: where setup puts it."""
SOURCES = "sensor"
"""Sources of the image, in the folder."""
PROGRAM = "program"
"""Extra packages, in the sources."""
AUDIO_GROUP = 29
"""Of the sound devices on balenaOS, as on Debian."""
DEVICE_TYPES = (
    *("raspberrypi4-64", "raspberrypi5", "raspberrypi3-64", "raspberrypi0-2w-64"),
    *("raspberrypi400-64", "generic-aarch64", "generic-amd64", "intel-nuc"),
)
"""All 64 bit: there is no numpy for 32. The first is the default."""
MICROPHONE_PATIENCE = 600
"""Seconds without a microphone after which the recorder ends itself: a restart gives it devices
that were plugged in since."""
TIMEZONE = "ACOUPI_CONFIG__TIMEZONE"
SHOWN_FIRST = (
    TIMEZONE,
    "ACOUPI_CONFIG__RECORDING__DURATION",
    "ACOUPI_CONFIG__RECORDING__INTERVAL",
)
"""Settings that balena offers when somebody deploys from its hub."""


class BalenaSite(SelfSetupSite):
    """A balena device; its variables come from the dashboard, not from the file."""

    def literal(self, service: Service, stack: Stack) -> dict[str, str]:
        """Return also how long the recorder waits for the devices that it was given."""
        patience = {"ACOUPI_MICROPHONE_PATIENCE": str(MICROPHONE_PATIENCE)}
        return super().literal(service, stack) | (patience if is_sound_worker(service) else {})


class BalenaTarget(Target):
    """The devices of a balena fleet; on this machine there is only the folder to push."""

    name: ClassVar[str] = "balena"
    has_own_python: ClassVar[bool] = True
    renders_folder: ClassVar[bool] = True

    @property
    def next_step(self) -> str:
        """Return what sends the folder to the devices."""
        return _push(self.settings.home / FOLDER)

    def render_folder(
        self, folder: Path, stack: Stack, *, packages: Sequence[str] = (), force: bool = False
    ) -> str:
        """Write the folder that ``balena push`` takes."""
        write_balena_folder(folder, stack, self.settings, packages=packages, force=force)
        return _push(folder)

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return the folder without the sources of the image."""
        files = balena_files(stack, self.settings.home)
        return {FOLDER / path: one for path, one in files.items()}

    def prepare(self, stack: Stack) -> None:
        """Add the sources of the image."""
        del stack
        _put_sources(self.settings.home / FOLDER)

    def up(self) -> None:
        """Refuse: it runs elsewhere."""
        raise self._elsewhere("start")

    def down(self) -> None:
        """Refuse: it runs elsewhere."""
        raise self._elsewhere("stop")

    def check(self) -> None:
        """Refuse: it runs elsewhere."""
        raise self._elsewhere("check")

    def status(self) -> list[ServiceStatus]:
        """Return the services; their state is not known here."""
        return [
            ServiceStatus(
                name=one.name,
                role=one.role,
                state="unknown",
                message="it runs on the devices of the fleet: balena device list",
            )
            for one in self.services
        ]

    def logs(self, service: str | None = None, lines: int = 50) -> dict[str, list[str]]:
        """Refuse: they are elsewhere."""
        del service, lines
        raise self._elsewhere("read the logs of")

    def _elsewhere(self, what: str) -> TargetError:
        return TargetError(
            f"cannot {what} the services here.",
            f"{self.next_step}   (README.md there says the rest)",
            why="this home was set up for a balena fleet, and its devices run them.",
        )


def _push(folder: Path) -> str:
    return f"cd {shlex.quote(str(folder))} && balena push FLEET"


def write_balena_folder(
    folder: Path,
    stack: Stack,
    settings: Settings,
    *,
    packages: Sequence[str] = (),
    force: bool = False,
) -> None:
    """Write the folder anywhere.

    Parameters
    ----------
    folder, stack, settings
        Where; what runs; of the home that the stack was made for.
    packages
        Extra packages in the image: pip requirements or local paths.
    force
        Write over files that were edited by hand.

    Raises
    ------
    AcoupiError
        If the folder holds something that acoupi did not make, or (unless `force`)
        something that was edited by hand; if a path leads to no package.
    """
    packages = named_packages(packages)
    files = balena_files(stack, settings.home, with_packages=bool(packages))
    record = folder / settings.manifest_file.name
    previous = Manifest.read(record)
    if previous is None and folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(
            f'cannot write into "{folder}".',
            "-o with a new folder",
            why="it is not empty, and acoupi did not make it.",
        )
    if not force:
        check_not_edited(folder, files, previous)
    manifest = Manifest(
        version=acoupi.__version__,
        target=BalenaTarget.name,
        program=stack.program,
        files={path.as_posix(): one.digest for path, one in files.items()},
    )
    write_files({**{folder / path: one for path, one in files.items()}, record: manifest.to_file()})
    _put_sources(folder, packages)


def _put_sources(folder: Path, packages: Sequence[str] = ()) -> None:
    place = folder / SOURCES
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        copy_sources(place)
        if packages:
            (place / PROGRAM).mkdir()
            fill_program_context(place / PROGRAM, packages)
            (place / "Dockerfile").write_text(_dockerfile_with_program())
    except OSError as error:
        raise disk_error("write", place, error) from error


def _dockerfile_with_program() -> str:
    """Return both Dockerfiles as one: our images are in no registry."""
    images = source_dir() / "images"
    program = (images / "program" / "Dockerfile").read_text()
    for old, new in (
        ("ARG SENSOR=acoupi/sensor\n", ""),
        ("FROM ${SENSOR}", "FROM sensor"),
        ("COPY . /context", f"COPY {PROGRAM} /context"),
    ):
        assert old in program, f"images/program/Dockerfile has no {old!r} any more"
        program = program.replace(old, new)
    return f"{(images / 'sensor' / 'Dockerfile').read_text()}\n{program}"


# --- what is in it ----------------------------------------------------------------------


def balena_files(
    stack: Stack, home: Path, *, with_packages: bool = False
) -> dict[PurePath, RenderedFile]:
    """Return the files of the folder, by their path in it.

    Parameters
    ----------
    stack
        Of a program; its settings become variables of the service ``setup``.
    home
        That the stack was made for; paths below it are moved to the device's.
    with_packages
        Whether extra packages are in the image.

    Raises
    ------
    ConfigurationError
        Naming the part of the stack that a balena device cannot provide.
    """
    _refuse_mounts(stack, home)
    answers = _answers(stack, home)
    dockerfile = "Dockerfile" if with_packages else "images/sensor/Dockerfile"
    site = BalenaSite(
        header=(
            f"A fleet of sensors: {' '.join(stack.program.split())}.",
            "Generated by acoupi for balena; see README.md.",
        ),
        restart="always",
        has_logging=False,
        build={"context": SOURCES, "dockerfile": dockerfile, "args": image_arguments(stack)},
        sound=Sound(group=str(_audio_group()), device="/dev/snd:/dev/snd:rw"),
        answers=answers,
    )
    compose = render_self_setup(stack, site)
    context = _context(fleet_stack(stack), answers)
    texts = render_tree(
        source_dir() / "compose" / "balena", context, below=("README.md", "balena.yml")
    )
    return {**texts, PurePath(COMPOSE_FILE): RenderedFile(compose)}


def _audio_group() -> int:
    text = os.environ.get("ACOUPI_AUDIO_GID") or str(AUDIO_GROUP)
    if text.isascii() and text.isdigit():
        return int(text)
    raise ConfigurationError(
        f"ACOUPI_AUDIO_GID cannot be {text!r}.",
        f"ACOUPI_AUDIO_GID={AUDIO_GROUP}",
        why="it is the number of the group that the sound devices have on the fleet's boards.",
    )


def _refuse_mounts(stack: Stack, home: Path) -> None:
    """Raise if a service needs a folder that is not in a volume of the home."""
    inside = [
        *(home / name for name in FOLDERS if name != "secrets"),
        home / "waiting",
        *_generated(home),
    ]
    mounts = dict.fromkeys(mount for one in stack.services for mount in one.mounts)
    outside = [mount for mount in mounts if not _is_below(mount, inside)]
    if outside:
        names = ", ".join(f'"{mount.source}"' for mount in outside)
        raise ConfigurationError(
            f"a balena device cannot be given {names}.",
            f'leave it at its default, or put it below "{home / "data"}"',
            why="its containers have named volumes only, and no folder of the device.",
        )


def _generated(home: Path) -> tuple[Path, ...]:
    return (Settings(home=home).program_file,)


def _is_below(mount: Mount, folders: Iterable[Path]) -> bool:
    return any(mount.source.is_relative_to(folder) for folder in folders)


def _answers(stack: Stack, home: Path) -> dict[str, str]:
    """Return the settings as variables, with the paths that they have on a device."""
    if stack.config is None:
        return {}
    with using_home(home):
        given = as_variables(stack.config)
        given |= as_variables(stack.sensor, SENSOR) if stack.sensor is not None else {}
    return {name: _moved(text, home) for name, text in given.items()}


def _moved(text: str, home: Path) -> str:
    path = Path(text)
    return str(HOME / path.relative_to(home)) if path.is_relative_to(home) else text


def _context(stack: Stack, answers: Mapping[str, str]) -> dict[str, Any]:
    """Return the names that the templates use, but for the compose file."""
    with using_home(HOME):
        schema = type(stack.config) if stack.config is not None else schema_of(stack.program)
        settings = settings_table(schema)
    defaults = {row.variable: row.default for row in settings}
    # The time zone only if it was answered: else each device takes that of its coordinates.
    first = {
        name: answers.get(name, defaults[name])
        for name in SHOWN_FIRST
        if name in answers or (defaults.get(name) and name != TIMEZONE)
    }
    return {
        "name": fleet_name(stack.program),
        "program": stack.program,
        "version": release_version(acoupi.__version__),
        "device_types": DEVICE_TYPES,
        "variables": [("ACOUPI_LOG_LEVEL", "INFO"), *first.items()],
        "answers": list(answers.items()),
        "secrets": stack.secrets,
        "services": _rights(stack),
        "user": USER,
        "patience": MICROPHONE_PATIENCE,
        "general": [one for one in VARIABLES if one.scope != "bundle"],
        "sections": [
            {"name": name, "is_optional": rows[0].is_optional, "rows": rows}
            for name in dict.fromkeys(row.section for row in settings)
            if (rows := [row for row in settings if row.section == name])
        ],
    }


def _rights(stack: Stack) -> list[dict[str, str]]:
    """Return what each service may use, in words."""
    rows = [
        {"name": BROKER, "rights": "nothing but the volume of its socket"},
        {"name": SETUP, "rights": "the network, and as the only one the configuration to write"},
    ]
    for one in stack.services:
        network = "the network" if one.network else "no network"
        words = [
            *(["the sound device"] if one.devices else []),
            f"{network} but the port {one.port.number}" if one.port else network,
        ]
        rows.append({"name": one.name, "rights": ", ".join(words)})
    return rows


def fleet_name(program: str) -> str:
    """Return the name of a fleet: its program's, or its package's for a module `program`.

    Examples
    --------
    >>> fleet_name("default"), fleet_name("acoupi.programs.demo"), fleet_name("acoupi_bats.program")
    ('acoupi-default', 'acoupi-demo', 'acoupi-bats')
    """
    *before, last = program.split(".")
    word = before[-1] if before and last == "program" else last
    return "acoupi-" + word.lower().removeprefix("acoupi_").replace("_", "-")


def release_version(version: str) -> str:
    """Return a version as balena wants it: three numbers.

    Examples
    --------
    >>> release_version("1.2.0.dev3+local"), release_version("2.0"), release_version("1.2.3rc1")
    ('1.2.0', '2.0.0', '1.2.3')
    """
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = release[0].split(".") if release else []
    return ".".join([*numbers, "0", "0", "0"][:3])
