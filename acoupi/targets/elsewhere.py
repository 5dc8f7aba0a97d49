"""Targets whose services run on other machines, from a folder that is made here."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import ClassVar, Literal

import acoupi
from acoupi.bundles.rendering import Manifest, check_not_edited
from acoupi.errors import ConfigurationError, TargetError
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Stack
from acoupi.targets import ServiceStatus, Target
from acoupi.writing import RenderedFile, write_files

__all__ = ["Act", "ElsewhereTarget", "write_folder"]

Act = Literal["start", "stop", "check", "read the logs of"]


class ElsewhereTarget(Target):
    """A place that acoupi renders for but cannot reach."""

    has_own_python: ClassVar[bool] = True
    renders_folder: ClassVar[bool] = True

    @abstractmethod
    def refusal(self, act: Act) -> tuple[str, str]:
        """Return why something cannot be done here, and the command that does it."""

    @property
    def next_step(self) -> str:
        """Return what starts it where it runs, as a command."""
        return self.refusal("start")[1]

    @property
    @abstractmethod
    def whereabouts(self) -> str:
        """Where the services are, and the command that shows them."""

    def up(self) -> None:
        """Refuse: it runs elsewhere."""
        raise self._refused("start")

    def down(self) -> None:
        """Refuse: it runs elsewhere."""
        raise self._refused("stop")

    def start_workers(self) -> None:
        """Refuse: they run elsewhere."""
        raise self._refused("start")

    def stop_workers(self) -> None:
        """Refuse: they run elsewhere."""
        raise self._refused("stop")

    def stop_recorder(self) -> None:
        """Refuse: it runs elsewhere."""
        raise self._refused("stop")

    def check(self) -> None:
        """Refuse: it runs elsewhere."""
        raise self._refused("check")

    def status(self) -> list[ServiceStatus]:
        """Return the services; their state is unknown here."""
        return [
            ServiceStatus(name=one.name, role=one.role, state="unknown", message=self.whereabouts)
            for one in self.services
        ]

    def logs(self, service: str | None = None, lines: int = 50) -> dict[str, list[str]]:
        """Refuse: they are elsewhere."""
        raise self._refused("read the logs of")

    def _refused(self, act: Act) -> TargetError:
        why, command = self.refusal(act)
        return TargetError(f"cannot {act} the services here.", command, why=why)


def write_folder(
    folder: Path,
    files: Mapping[PurePath, RenderedFile],
    stack: Stack,
    settings: Settings,
    *,
    target: str,
    force: bool,
) -> None:
    """Write rendered files into a folder anywhere, with a record of what was written.

    Parameters
    ----------
    folder, files
        Where; by their path there.
    stack, settings
        What runs; of the home that the stack was made for.
    target
        Its name.
    force
        Overwrite files that were edited by hand.

    Raises
    ------
    AcoupiError
        If the folder holds something that acoupi did not make, or (unless `force`)
        something that was edited by hand.
    """
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
        target=target,
        program=stack.program,
        files={path.as_posix(): one.digest for path, one in files.items()},
    )
    write_files({**{folder / path: one for path, one in files.items()}, record: manifest.to_file()})
