"""A folder for ``balena push``: a fleet of sensors that set themselves up.

It contains the compose file, the sources of the image, and files for balena and
its operators. Nothing of it runs here; the reasons for its form are in
``compose/balena/README.md``.
"""

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
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
from acoupi.bundles.rendering import render_tree
from acoupi.bundles.self_setup import (
    HOME,
    MICROPHONE_PATIENCE,
    USER,
    DeviceSite,
    answers_of,
    audio_group,
    fleet_stack,
    image_arguments,
    refuse_mounts,
    render_self_setup,
    schema_of,
)
from acoupi.config.variables import settings_table
from acoupi.home import using_home
from acoupi.stack.settings import Settings
from acoupi.stack.stack import BROKER, SETUP, Stack
from acoupi.stack.variables import VARIABLES
from acoupi.targets.elsewhere import Act, ElsewhereTarget, write_folder
from acoupi.writing import RenderedFile, disk_error

__all__ = ["BalenaTarget", "balena_files", "write_balena_folder"]

FOLDER = PurePath("balena")
"""Below the home: where setup puts it."""
SOURCES = "sensor"
"""Sources of the image, in the folder."""
PROGRAM = "program"
"""Extra packages, in the sources."""
DEVICE_TYPES = (
    *("raspberrypi4-64", "raspberrypi5", "raspberrypi3-64", "raspberrypi0-2w-64"),
    *("raspberrypi400-64", "generic-aarch64", "generic-amd64", "intel-nuc"),
)
"""Device types, all 64-bit: there is no numpy for 32. The first is the default."""
TIMEZONE = "ACOUPI_CONFIG__TIMEZONE"
SHOWN_FIRST = (
    TIMEZONE,
    "ACOUPI_CONFIG__RECORDING__DURATION",
    "ACOUPI_CONFIG__RECORDING__INTERVAL",
)
"""Settings that balena offers when deploying from its hub."""


class BalenaTarget(ElsewhereTarget):
    """The devices of a balena fleet; on this machine there is only the folder to push."""

    name: ClassVar[str] = "balena"

    @property
    def next_step(self) -> str:
        """Return the command that sends the folder to the devices."""
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
        _put_sources(self.settings.home / FOLDER)

    def refusal(self, act: Act) -> tuple[str, str]:
        """Return why it cannot be done here, and what does it."""
        why = "this home was set up for a balena fleet, and its devices run them."
        return why, f"{self.next_step}   (see README.md there)"

    @property
    def whereabouts(self) -> str:
        """Return where the services are, and what shows them."""
        return "it runs on the devices of the fleet: balena device list"


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
        Overwrite files that were edited by hand.

    Raises
    ------
    AcoupiError
        If the folder holds something that acoupi did not make, or (unless `force`)
        something that was edited by hand; if a path is not a package.
    """
    packages = named_packages(packages)
    files = balena_files(stack, settings.home, with_packages=bool(packages))
    write_folder(folder, files, stack, settings, target=BalenaTarget.name, force=force)
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
    """Return both Dockerfiles as one: acoupi's images are not in a registry."""
    images = source_dir() / "images"
    program = (images / "program" / "Dockerfile").read_text()
    for old, new in (
        ("ARG SENSOR=acoupi/sensor\n", ""),
        ("FROM ${SENSOR}", "FROM sensor"),
        ("requirements.txt source[s]", f"{PROGRAM}/requirements.txt {PROGRAM}/source[s]"),
        (":1000 weights", f":1000 {PROGRAM}/weights"),
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
    refuse_mounts(stack, home, "a balena device")
    answers = answers_of(stack, home)
    dockerfile = "Dockerfile" if with_packages else "images/sensor/Dockerfile"
    site = DeviceSite(
        header=(
            f"A fleet of sensors: {' '.join(stack.program.split())}.",
            "Generated by acoupi for balena; see README.md.",
        ),
        restart="always",
        has_logging=False,
        build={"context": SOURCES, "dockerfile": dockerfile, "args": image_arguments(stack)},
        sound=Sound(group=str(audio_group()), device="/dev/snd:/dev/snd:rw"),
        answers=answers,
    )
    compose = render_self_setup(stack, site)
    context = _context(fleet_stack(stack), answers)
    texts = render_tree(
        source_dir() / "compose" / "balena", context, below=("README.md", "balena.yml")
    )
    return {**texts, PurePath(COMPOSE_FILE): RenderedFile(compose)}


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
    """Return the rights of each service, in words."""
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
    """Return a version in balena's form: three numbers.

    Examples
    --------
    >>> release_version("1.2.0.dev3+local"), release_version("2.0"), release_version("1.2.3rc1")
    ('1.2.0', '2.0.0', '1.2.3')
    """
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = release[0].split(".") if release else []
    return ".".join([*numbers, "0", "0", "0"][:3])
