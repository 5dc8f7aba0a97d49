"""The disk policy: given to a program, and checked against the disks of a machine."""

import datetime
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from acoupi.audio.formats import is_sound_file
from acoupi.components.recording_conditions import HasReserve
from acoupi.components.stores import ballast
from acoupi.config.disk import Disk, policy_of
from acoupi.errors import ConfigurationError
from acoupi.programs import AcoupiProgram
from acoupi.space import SpacePolicy, device_of, disk_sizes, existing
from acoupi.stack.settings import Settings
from acoupi.tasks.space import generate_space_task

__all__ = ["check_disks", "program_policy", "space_tasks"]

MANAGEMENT_TASK = "file_management_task"
LONGEST_S = 60.0
SHORTEST_S = 5.0


def program_policy(program: AcoupiProgram[Any], settings: Settings, disk: Disk) -> SpacePolicy:
    """Return the disk policy of a sensor."""
    config: BaseModel = program.config
    timezone = getattr(config, "timezone", None)
    zone = ZoneInfo(str(timezone)) if timezone else datetime.UTC
    return policy_of(disk, config.model_dump(), settings.home, zone)


def space_tasks(
    program: AcoupiProgram[Any], settings: Settings, disk: Disk
) -> list[tuple[Callable[[], None], datetime.timedelta]]:
    """Let a program give up files, and record only while the reserve is free.

    Raises
    ------
    ValueError
        If it cannot; the message says what is missing.
    """
    store: Any = program.store  # type: ignore[attr-defined]
    if not store.can_give_up:
        raise ValueError("its store cannot tell which files may be deleted")
    policy = program_policy(program, settings, disk)
    if policy.on_full == "detections_only" and not _models(program):
        raise ValueError("sensor.disk.on_full is detections_only, and it has no model")
    store.space, store.own_conditions = policy, [HasReserve(policy)]
    manage = program.tasks.get(MANAGEMENT_TASK)
    task = generate_space_task(
        store,
        policy,
        manage=None if manage is None else manage.function,
        reserve_for_stores=partial(_reserve, _store_folders(program)),
        logger=program.logger.getChild("space"),
    )
    return [(task, datetime.timedelta(seconds=_interval(policy)))]


def _models(program: AcoupiProgram[Any]) -> list[str]:
    ask = getattr(program, "get_required_models", None)
    return [] if ask is None else list(ask(program.config))


def _interval(policy: SpacePolicy) -> float:
    """Return the seconds between two checks: a quarter of the time in which the margin fills."""
    if not policy.rate:
        return LONGEST_S
    marks = policy.marks(disk_sizes(policy.spool)[1])
    seconds = (marks.act_below - marks.reserve) / policy.rate / 4
    return float(round(min(LONGEST_S, max(SHORTEST_S, seconds))))


def _store_folders(program: AcoupiProgram[Any]) -> set[Path]:
    stores = (getattr(program, name, None) for name in ("store", "message_store"))
    paths = (getattr(one, "db_path", None) for one in stores)
    return {Path(path).parent for path in paths if path is not None}


def _reserve(folders: set[Path]) -> None:
    for folder in folders:
        ballast.take(folder)


# At setup


def check_disks(program: AcoupiProgram[Any], disk: Disk) -> None:
    """Refuse a policy that is not possible on the disks of this machine.

    Raises
    ------
    ConfigurationError
        Naming the setting.
    """
    if not disk.enabled:
        _refuse_unguarded(disk.mounts)
        return
    policy: SpacePolicy | None = getattr(getattr(program, "store", None), "space", None)
    if policy is None:
        return
    for mount in policy.mounts:
        _check_mount(policy, mount)
    _check_stores(policy, _store_folders(program))
    _check_sizes(policy)
    _check_quotas(policy)
    _check_folders(policy)


def _refuse_unguarded(mounts: Sequence[Path]) -> None:
    for mount in mounts:
        raise ConfigurationError(
            f"sensor.disk.mounts: acoupi does not check whether a disk is mounted at {mount}.",
            "acoupi config set sensor.disk.enabled true"
            "   (or name none: acoupi config set sensor.disk.mounts '[]')",
            why="sensor.disk.enabled is false, so files would fill the disk below it.",
        )


def _check_mount(policy: SpacePolicy, mount: Path) -> None:
    if device_of(mount) == device_of(mount.parent):
        raise ConfigurationError(
            f"sensor.disk.mounts: no disk is mounted at {mount}.",
            f"mount {mount}   (or correct it: acoupi config set sensor.disk.mounts '[]')",
            why="files written there now would fill the disk below it.",
        )
    if device_of(mount) == device_of(policy.home / "config"):
        raise ConfigurationError(
            f"sensor.disk.mounts: {mount} is the disk of the sensor itself.",
            "acoupi config set sensor.disk.mounts '[]'",
            why=f"{policy.home} is on it; this setting is for other disks only.",
        )


def _check_stores(policy: SpacePolicy, folders: set[Path]) -> None:
    for folder in folders:
        for mount in policy.mounts:
            if folder.is_relative_to(mount):
                raise ConfigurationError(
                    f"sensor.disk.mounts: {mount} holds the databases, in {folder}.",
                    f"acoupi config set paths.db_metadata {policy.home / 'data' / 'metadata.db'}",
                    why="they must be available even while that disk is not mounted.",
                )


def _check_sizes(policy: SpacePolicy) -> None:
    for folder in dict.fromkeys((policy.spool, policy.recordings)):
        total = disk_sizes(folder)[1]
        needed = policy.needed_to_record
        if needed >= total:
            raise ConfigurationError(
                f"sensor.disk.reserve_megabytes: {policy.reserve_bytes / 1e6:.0f} MB cannot stay "
                f"free on the disk of {folder}.",
                f"acoupi config set sensor.disk.reserve_megabytes {max(16, total // 10_000_000)}",
                why=f"the disk has {total / 1e6:.0f} MB, one recording takes "
                f"{policy.recording_bytes / 1e6:.1f} MB, and an hour by the schedule "
                f"{policy.rate * 3600 / 1e6:.0f} MB.",
            )


def _check_quotas(policy: SpacePolicy) -> None:
    """Refuse folders whose shares add up to more than their disk."""
    shares: dict[int, list[tuple[Path, float]]] = {}
    for folder, share in policy.folders.items():
        shares.setdefault(existing(folder).stat().st_dev, []).append((folder, share))
    for some in shares.values():
        total = sum(share for _, share in some)
        names = ", ".join(str(folder) for folder, _ in some)
        if total > 1 + 1e-9:
            raise ConfigurationError(
                f"sensor.disk.folders: {names} may take {total:.0%} of one disk.",
                "acoupi config set sensor.disk.folders '{}'",
                why="together they may take 100 %.",
            )
    for inner, outer in _nested(policy):
        raise ConfigurationError(
            f"sensor.disk.folders: {inner} is below {outer}.",
            "acoupi config set sensor.disk.folders '{}'",
            why="its files would count twice.",
        )


def _check_folders(policy: SpacePolicy) -> None:
    """Refuse a quota that would hold for nothing, such as of a folder whose name is mistyped."""
    for folder in policy.folders:
        if not _may_hold_recordings(folder.resolve(), policy):
            raise ConfigurationError(
                f"sensor.disk.folders: there are no recordings below {folder}.",
                f"""acoupi config set sensor.disk.folders '{{"{policy.recordings}": 90}}'""",
                why=f"they are kept in {policy.recordings}, and wait in {policy.spool}.",
            )


def _may_hold_recordings(folder: Path, policy: SpacePolicy) -> bool:
    """Return whether recordings come to be below a folder, or are there from before."""
    for own in (policy.spool.resolve(), policy.recordings.resolve()):
        if folder.is_relative_to(own) or own.is_relative_to(folder):
            return True
    return any(is_sound_file(one.name) for one in folder.rglob("*"))


def _nested(policy: SpacePolicy) -> Iterator[tuple[Path, Path]]:
    for inner in policy.folders:
        for outer in policy.folders:
            if inner != outer and inner.is_relative_to(outer):
                yield inner, outer
