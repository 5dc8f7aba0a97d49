"""What services see of the home, and of the folders that the configuration names."""

from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel

from acoupi.programs.core.workers import DEFAULT_QUEUE, DETECTION_QUEUE
from acoupi.stack.access import Job, Mount, Place
from acoupi.stack.rights import places_of
from acoupi.stack.settings import Settings

__all__ = [
    "cache_folder",
    "cache_variable",
    "jobs_of",
    "own_environment",
    "own_mounts",
    "worker_places",
]


def jobs_of(
    queues: Collection[str], *, recording_queue: str | None, records: bool, network: bool
) -> list[Job]:
    """Return what a worker does, as the table of `acoupi.stack.access` calls it."""
    others = set(queues) - {recording_queue, DETECTION_QUEUE}
    sends_only = network and bool(others) and DEFAULT_QUEUE not in others
    jobs: dict[Job, bool] = {
        "recorder": records,
        "model": DETECTION_QUEUE in queues,
        "manager": bool(others) and not sends_only,
        "sender": network and (bool(others) or not records),
    }
    return [job for job, has_it in jobs.items() if has_it]


def worker_places(config: BaseModel | None, settings: Settings) -> dict[Path, set[Place]]:
    """Return every folder and file that a worker of a program may need, and what it is."""
    home, folder = settings.home, settings.program_config_file.parent
    places = {
        path: kinds
        for path, kinds in places_of(config, home).items()
        if not path.is_relative_to(folder)  # there, nobody writes
    }
    known = set().union(*places.values())
    usual: dict[Path, Place] = {home / "data": "data", cache_folder(home): "cache"}
    usual |= {} if "spool" in known else {home / "data" / "spool": "spool"}
    for path, place in usual.items():
        places.setdefault(path, set()).add(place)
    return {settings.program_file: {"config"}, **places}


def cache_folder(home: Path) -> Path:
    """Return where libraries keep what they fetch: in containers nobody has a folder of a user.

    A model that is fetched once (``acoupi task run detection_task``) is there for the detector,
    which has no network. While the sensor runs, nobody writes there.
    """
    return home / "data" / "cache"


def cache_variable(home: Path) -> dict[str, str]:
    """Return the variable by which libraries find that folder."""
    return {"XDG_CACHE_HOME": str(cache_folder(home))}


def own_environment(settings: Settings, name: str) -> tuple[tuple[str, str], ...]:
    """Return the variables that every service of ours has in its container."""
    own = settings.of_service(name)
    variables = {
        "ACOUPI_HOME": str(settings.home),
        "ACOUPI_SERVICE": name,
        "ACOUPI_LOG_DIR": str(own.log_dir),
        "ACOUPI_RUN_DIR": str(own.run_dir),
    }
    return tuple((variables | cache_variable(settings.home)).items())


def own_mounts(settings: Settings, name: str) -> tuple[Mount, ...]:
    """Return what every service of ours sees of the home: the configuration, and its own folders.

    Nobody sees all of it, nor ``secrets/``.
    """
    own = settings.of_service(name)
    return (
        Mount(settings.program_config_file.parent, read_only=True),
        Mount(own.log_dir),
        Mount(own.run_dir),
    )
