"""What a sensor says of its room: on two disks, and while it waits for the high mark."""

import datetime
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acoupi import clock, data
from acoupi.programs.status import StatusReport
from acoupi.services.space_state import space_state
from acoupi.space import SpacePolicy, free_bytes
from acoupi.testing import InMemoryStore, make_deployment
from tests.services import require


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[list[Path]]:
    """One on each of two disks, the one with more room first."""
    memory = Path("/dev/shm")
    is_other = memory.is_dir() and memory.stat().st_dev != tmp_path.stat().st_dev
    require("a second file system at /dev/shm", is_other)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield sorted((tmp_path, Path(folder)), key=free_bytes, reverse=True)


def policy(folders: list[Path], **changes: Any) -> SpacePolicy:
    """Keep so much free that the second disk is full, and the first is not."""
    spool, recordings = folders
    reserve = (free_bytes(spool) + free_bytes(recordings)) // 2
    settings = {"reserve": reserve, "on_full": "stop", "rate": 1000.0, **changes}
    return SpacePolicy(home=spool, spool=spool, recordings=recordings, **settings)


def test_a_heartbeat_tells_of_the_disk_that_is_full_first(folders: list[Path]) -> None:
    store = InMemoryStore()
    store.space = policy(folders)

    found = [measure() for measure in StatusReport(store).space_metrics()]

    assert {one.name: one.value for one in found if one is not None}["disk_hours_left"] == 0
    full = f"only the reserve is left on the disk of {folders[1]}"
    assert full in StatusReport(store)()


def test_a_second_disk_without_room_is_not_well_and_told_by_name(folders: list[Path]) -> None:
    full = space_state(InMemoryStore(), policy(folders))
    has_room = space_state(InMemoryStore(), policy(folders, reserve=0))

    assert [one.is_full for one in full.disks] == [False, True]
    assert not full.is_full
    assert not full.is_well
    assert f"{folders[1]} is full: recordings wait in the spool" in full.words()
    assert has_room.is_well
    for folder in folders:
        assert f"{folder}: " in has_room.words()


@pytest.mark.parametrize(
    ("changes", "is_full"),
    [
        ({}, True),
        ({"on_full": "discard_new"}, False),
        ({"high": 0.9999999, "low": 0.9}, False),  # above the high mark: it was something else
    ],
)
def test_a_sensor_that_waits_for_the_high_mark_is_full(
    tmp_path: Path, changes: dict[str, Any], is_full: bool
) -> None:
    store, now = InMemoryStore(), clock.utc_now()
    second = datetime.timedelta(seconds=1)
    site = make_deployment(started_on=now - 60 * second)
    store.store_deployment(site)
    full = data.EffortSpan(now - 30 * second, now, data.EffortState.DISK_FULL, "no room")
    store.note_effort(site, [full])
    below_the_mark = {"high": 0.0000001, "low": 0.00000001, "reserve": 0, "rate": 0.0}

    kept = policy([tmp_path, tmp_path], **{**below_the_mark, **changes})

    state = space_state(store, kept)
    store.update_deployment(site.model_copy(update={"ended_on": now}))

    assert state.is_full is is_full
    assert state.is_well is not is_full
    assert not space_state(store, kept).is_full


def test_a_disk_for_the_spool_that_is_missing_is_not_called_full(tmp_path: Path) -> None:
    state = space_state(InMemoryStore(), policy([tmp_path, tmp_path], mounts=[tmp_path]))

    assert state.not_mounted == [tmp_path]
    assert not state.is_well
    assert "full" not in state.words()
