"""The sensor that commands work on."""

import os
from typing import TYPE_CHECKING, Any

from acoupi.errors import AcoupiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from acoupi.components.stores import SqliteReader
    from acoupi.programs import AcoupiProgram
    from acoupi.stack.settings import Settings
    from acoupi.system.sensor import Sensor

__all__ = ["complete", "load", "sensor", "settings"]


def settings() -> "Settings":
    """Return the settings of the home: where all files of the sensor are.

    Raises
    ------
    ConfigurationError
        If an ``ACOUPI_`` variable has a value that is not allowed.
    """
    from acoupi.stack.settings import Settings

    return Settings()


def sensor() -> "Sensor":
    """Return the sensor of the home, read once for the command.

    Raises
    ------
    NotConfiguredError
        If none is set up there.
    """
    from acoupi.system.sensor import Sensor

    return Sensor.read(settings())


def load(found: "Sensor", *, only_reads: bool = False) -> "AcoupiProgram[Any]":
    """Return the program of the home, with the microphone that its services use.

    Parameters
    ----------
    only_reads
        Whether its stores are opened for reading only.
    """
    from contextlib import nullcontext

    from acoupi.components.stores.database import stores_that_only_read
    from acoupi.config.env_files import read_env
    from acoupi.targets.process import PASSED_ON

    written_down = read_env(found.settings.env_file)
    for name in PASSED_ON:
        if name in written_down:
            os.environ.setdefault(name, written_down[name])
    with stores_that_only_read() if only_reads else nullcontext():
        return found.program


MOST_IDS = 50
"""The most ids that shell completion offers."""


def _known(ask: "Callable[[SqliteReader], Iterable[object]]") -> list[str]:
    """Return data from the sensor's stores; nothing if they cannot be read."""
    from contextlib import closing

    from acoupi.system.reading import reader_of

    try:
        with closing(reader_of(settings())) as reader:
            return list(dict.fromkeys(map(str, ask(reader))))
    except AcoupiError:
        return []


class complete:
    """Words for shell completion; none if anything goes wrong."""

    @staticmethod
    def programs(incomplete: str) -> list[str]:
        """Return the names of installed programs."""
        from acoupi.stack.loading import available_programs

        return [name for name in available_programs() if name.startswith(incomplete)]

    @staticmethod
    def presets(incomplete: str) -> list[str]:
        """Return the names of presets."""
        from acoupi.config.presets import PRESETS

        return [name for name in PRESETS if name.startswith(incomplete)]

    @staticmethod
    def targets(incomplete: str) -> list[str]:
        """Return the names of targets."""
        from acoupi.targets import available_targets

        return [name for name in available_targets() if name.startswith(incomplete)]

    @staticmethod
    def fields(incomplete: str) -> list[str]:
        """Return the settings of the program that is set up."""
        return complete.fields_of(None, incomplete)

    @staticmethod
    def fields_of(program: str | None, incomplete: str) -> list[str]:
        """Return the settings of a program; None: the one that is set up."""
        from acoupi.config.sensor import setting_trees
        from acoupi.stack.loading import load_program_class

        try:
            kind = sensor().program_class if program is None else load_program_class(program)
            trees = setting_trees(kind.get_config_schema())
        except AcoupiError:
            return []
        names = [node.name for tree in trees for node in tree.walk()]
        return [name for name in names if name.startswith(incomplete)]

    @staticmethod
    def recordings(incomplete: str) -> list[str]:
        """Return the ids of recordings."""
        return _known(lambda reader: reader.ids_of_recordings(incomplete, MOST_IDS))

    @staticmethod
    def detections(incomplete: str) -> list[str]:
        """Return the ids of detections."""
        return _known(lambda reader: reader.ids_of_detections(incomplete, MOST_IDS))

    @staticmethod
    def deployments(incomplete: str) -> list[str]:
        """Return the names of deployments, also those without one."""
        names = _known(lambda reader: [one.name for one in reader.get_deployments()])
        return [name for name in names if name.startswith(incomplete)]

    @staticmethod
    def tasks(incomplete: str) -> list[str]:
        """Return the tasks of the program that is set up."""
        try:
            return [name for name in load(sensor()).tasks if name.startswith(incomplete)]
        except AcoupiError:
            return []
