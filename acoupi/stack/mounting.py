"""The mounts of services: parts of the home, and folders named in the configuration."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel

from acoupi.audio.live_ring import live_folder
from acoupi.door.folders import door_folder, waiting_folder
from acoupi.programs.core.workers import DEFAULT_QUEUE, DETECTION_QUEUE
from acoupi.stack.access import Job, Mount, Place, mounts_for
from acoupi.stack.rights import places_of
from acoupi.stack.settings import Settings

__all__ = [
    "Surroundings",
    "cache_folder",
    "cache_variable",
    "own_environment",
    "own_files",
    "own_mounts",
    "user_variable",
    "writes_only_its_own",
]


@dataclass(frozen=True)
class Surroundings:
    """The facts about a program on which its workers' mounts depend."""

    settings: Settings
    places: Mapping[Path, Collection[Place]]
    recording_queue: str | None
    keeper: str | None
    """The worker that keeps the stores."""
    callers: Collection[str]
    """The workers that reach the stores through a door of their own."""

    @classmethod
    def of(
        cls,
        queues: Mapping[str, Collection[str]],
        config: BaseModel | None,
        settings: Settings,
        *,
        recorder: str | None,
        recording_queue: str | None,
    ) -> Self:
        """Return those of workers that listen to these queues."""
        keeper = next((name for name, some in queues.items() if DEFAULT_QUEUE in some), None)
        models = [
            name
            for name, some in queues.items()
            if DETECTION_QUEUE in some and DEFAULT_QUEUE not in some and name != recorder
        ]
        callers = models if keeper is not None else ()
        return cls(settings, _places(config, settings), recording_queue, keeper, callers)

    def mounts(
        self, name: str, queues: Collection[str], *, records: bool, network: bool
    ) -> tuple[Mount, ...]:
        """Return the mounts of a worker."""
        jobs = self._jobs(name, queues, records=records, network=network)
        named = mounts_for(jobs, self.places)
        return own_mounts(self.settings, name) + named + self._doors(name)

    def _jobs(
        self, name: str, queues: Collection[str], *, records: bool, network: bool
    ) -> list[Job]:
        """Return the jobs of a worker, as named in the table of `acoupi.stack.access`."""
        if name in self.callers:
            return ["model"]
        others = set(queues) - {self.recording_queue, DETECTION_QUEUE}
        sends_only = network and bool(others) and DEFAULT_QUEUE not in others
        is_model = DETECTION_QUEUE in queues
        jobs: dict[Job, bool] = {
            "recorder": records,
            "model": is_model,
            # A model without a keeper of the stores keeps them itself.
            "manager": (bool(others) or is_model) and not sends_only,
            "sender": network,
        }
        return [job for job, has_it in jobs.items() if has_it]

    def _doors(self, name: str) -> tuple[Mount, ...]:
        home, run = self.settings.home, self.settings.home / "run"
        if name in self.callers:
            return Mount(door_folder(run, name), read_only=True), Mount(waiting_folder(home, name))
        if name != self.keeper:
            return ()
        folders = (door_folder(run, one) for one in self.callers)
        return (*map(Mount, folders), *(Mount(waiting_folder(home, one)) for one in self.callers))


def _places(config: BaseModel | None, settings: Settings) -> dict[Path, set[Place]]:
    """Return every folder and file that a worker of a program may need, with its kinds."""
    home, folder = settings.home, settings.program_config_file.parent
    places = {
        path: kinds
        for path, kinds in places_of(config, home).items()
        if not path.is_relative_to(folder)  # nothing is written there
    }
    known = set().union(*places.values())
    usual: dict[Path, Place] = {home / "data": "data", cache_folder(home): "cache"}
    usual |= {} if "spool" in known else {home / "data" / "spool": "spool"}
    for path, place in usual.items():
        places.setdefault(path, set()).add(place)
    return {settings.program_file: {"config"}, **places}


def cache_folder(home: Path) -> Path:
    """Return the cache folder of libraries: in containers, users have no home folder.

    A model that is downloaded once (``acoupi task run detection_task``) is there for the detector,
    which has no network. While the sensor is running, nothing is written there.
    """
    return home / "data" / "cache"


def cache_variable(home: Path) -> dict[str, str]:
    """Return the variable by which libraries find that folder."""
    return {"XDG_CACHE_HOME": str(cache_folder(home))}


def own_environment(settings: Settings, name: str) -> tuple[tuple[str, str], ...]:
    """Return the variables that every acoupi service has in its container."""
    own = settings.of_service(name)
    variables = {
        "ACOUPI_HOME": str(settings.home),
        "ACOUPI_SERVICE": name,
        "ACOUPI_LOG_DIR": str(own.log_dir),
        "ACOUPI_RUN_DIR": str(own.run_dir),
    }
    return tuple((variables | cache_variable(settings.home)).items())


def writes_only_its_own(settings: Settings, name: str, mounts: Iterable[Mount]) -> bool:
    """Return whether a service shares no written folder, so that it can have its own user."""
    own = settings.of_service(name)
    home = settings.home
    folders = {own.log_dir, own.run_dir, waiting_folder(home, name), live_folder(home, name)}
    return folders.issuperset(one.source for one in mounts if not one.read_only)


def user_variable(service: str) -> str:
    """Return the variable with a service's own user in a container."""
    return f"ACOUPI_UID_{service.upper().replace('-', '_')}"


def own_files(settings: Settings, name: str) -> tuple[Path, ...]:
    """Return all files that a service writes in its folders in ``log/`` and ``run/``.

    They are written in place, so a container can get only these files and not the folders: then it
    can make no other files.
    """
    own = settings.of_service(name)
    logs = (own.log_dir / f"{name}.log{end}" for end in ("", ".1"))
    states = (own.run_dir / f"{name}.{kind}" for kind in ("json", "lock", "pid", "aside.jsonl"))
    return (*logs, *states)


def own_mounts(settings: Settings, name: str) -> tuple[Mount, ...]:
    """Return the mounts of every acoupi service: the configuration, and its own folders.

    None gets the whole home, or ``secrets/``.
    """
    own = settings.of_service(name)
    return (
        Mount(settings.program_config_file.parent, read_only=True),
        Mount(own.log_dir),
        Mount(own.run_dir),
    )
