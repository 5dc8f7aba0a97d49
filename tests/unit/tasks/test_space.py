"""What is given up before a disk is full, in which order, and what a kill leaves."""

import datetime
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.clips import Clip
from acoupi.components import SqliteStore
from acoupi.components.recording_conditions import HasReserve
from acoupi.sampling import Sampling
from acoupi.space import FileClass, SpacePolicy
from acoupi.tasks.space import Room, generate_space_task
from acoupi.testing import InMemoryStore
from tests.faulty import Faulty
from tests.stores import SITE, detection, output, recording

from .conftest import Crash

BLOCK = 4096
"""Bytes that each file takes."""
NIGHT = datetime.datetime(2024, 6, 1, 21, tzinfo=datetime.UTC)
ORDER = (FileClass.UNREMARKABLE, FileClass.BEYOND_BEST, FileClass.REVIEW)


class Sensor:
    """A store, and a disk for so many files of one block each."""

    def __init__(self, folder: Path, blocks: int, *, sample: int = 0, **policy: Any) -> None:
        self.kept = folder / "kept"
        self.kept.mkdir()
        store = InMemoryStore()
        store.sampling = Sampling(size=sample)
        self.store: Any = Faulty(store)
        self.total = blocks * BLOCK
        self.number = count()
        self.policy = SpacePolicy(
            home=folder,
            spool=self.kept,
            recordings=self.kept,
            rate=0,
            **{"reserve": 0, "high": 0.9, "low": 0.8, "order": ORDER, **policy},
        )
        self.task = generate_space_task(self.store, self.policy, sizes=self.sizes)

    def sizes(self, _: Path) -> tuple[int, int]:
        return self.total - BLOCK * sum(1 for _ in self.kept.iterdir()), self.total

    @property
    def room(self) -> Room:
        return Room(self.store, self.policy, sizes=self.sizes)

    @property
    def names(self) -> set[str]:
        return {path.stem for path in self.kept.iterdir()}

    def keep(
        self, name: str = "", *species: tuple[str, float], minute: float | None = None
    ) -> data.Recording:
        """Keep a recording in which species were found, each with its score."""
        number = next(self.number)
        began = NIGHT + datetime.timedelta(minutes=number if minute is None else minute)
        one = recording(None, created_on=began)
        self.store.store_recording(one)
        found = [detection(score, ("species", what, score)) for what, score in species]
        self.store.store_model_output(output(one, *found))
        path = self.kept / f"{name or number}.wav"
        path.write_bytes(b"\1" * BLOCK)
        self.store.update_recording_path(one, path)
        return one.model_copy(update={"path": path})

    def state(self, one: data.Recording) -> Path | None:
        ((row, _),) = self.store.get_recordings([one.id])
        path: Path | None = row.path
        return path


@pytest.fixture
def sensor(tmp_path: Path) -> Sensor:
    return Sensor(tmp_path, 10, best=1, newest=0)


def test_nothing_goes_while_there_is_room(sensor: Sensor) -> None:
    for _ in range(9):
        sensor.keep()

    sensor.task()

    assert len(sensor.names) == 9
    assert sensor.store.count_given_up() == {}


def test_sound_in_which_nothing_was_found_goes_first_and_the_oldest_before(sensor: Sensor) -> None:
    for name in ("best", "second", "third"):
        sensor.keep(name, ("bat", {"best": 0.9}.get(name, 0.5)))
    for number in range(7):
        sensor.keep(f"quiet{number}")

    sensor.task()

    assert sensor.names == {"best", "second", "third", *(f"quiet{n}" for n in range(2, 7))}


def test_the_best_and_the_newest_of_each_species_and_night_stay(tmp_path: Path) -> None:
    sensor = Sensor(tmp_path, 10, best=2, newest=1, low=0.1, high=0.2)
    sensor.keep("low", ("bat", 0.3))
    sensor.keep("good", ("bat", 0.8))
    sensor.keep("best", ("bat", 0.9))
    sensor.keep("poor, and of a wren", ("bat", 0.1), ("wren", 0.2))
    sensor.keep("middle", ("bat", 0.5))
    sensor.keep("newest", ("bat", 0.2))
    sensor.keep("of the next night", ("bat", 0.1), minute=24 * 60)

    sensor.task()

    assert sensor.names == {"good", "best", "poor, and of a wren", "newest", "of the next night"}


def test_what_a_model_failed_on_was_not_heard_by_anybody_and_stays(sensor: Sensor) -> None:
    for number in range(10):
        one = sensor.keep(f"{number}")
        if number == 0:
            sensor.store.begin_analysis(one, "birds")
            failed = data.Analysis(
                recording_id=one.id, name_model="birds", state=data.AnalysisState.FAILED
            )
            sensor.store.end_analysis(failed)

    sensor.task()

    assert sensor.names == {"0", *map(str, range(3, 10))}


def test_protected_recordings_stay_unless_the_order_names_them(tmp_path: Path) -> None:
    sensor = Sensor(tmp_path, 10, low=0.1, high=0.2, best=1, newest=0)
    first, second = sensor.keep("first"), sensor.keep("second")
    for number in range(4):
        sensor.keep(f"{number}")
    sensor.store.protect([first.id, second.id])
    sensor.store.unprotect([second.id])

    sensor.task()
    assert sensor.names == {"first"}

    sensor.policy = replace(sensor.policy, order=(FileClass.PROTECTED,), low=0.01, high=0.05)
    generate_space_task(sensor.store, sensor.policy, sizes=sensor.sizes)()
    assert sensor.names == set()


def test_the_sample_that_is_left_is_still_that_with_the_smallest_hashes(tmp_path: Path) -> None:
    sensor = Sensor(tmp_path, 10, best=1, newest=0, low=0.2, high=0.3, sample=4)
    sensor.keep("best", ("bat", 0.59))
    sampled = [sensor.keep("", ("bat", 0.52)) for _ in range(4)]
    for one in sampled:
        sensor.store.sample_recording(one, sensor.store.get_recording_model_outputs(one))

    sensor.task()

    (left,) = [one for one in sampled if sensor.state(one) is not None]
    ranks = {one.id: Sampling().rank(one.id) for one in sampled}
    assert ranks[left.id] == min(ranks.values())
    late = sensor.keep("late", ("bat", 0.52))
    is_in = sensor.store.sample_recording(late, sensor.store.get_recording_model_outputs(late))
    assert is_in == (Sampling().rank(late.id) < sorted(ranks.values())[1])


def test_every_file_that_went_is_in_the_store_with_the_reason_and_stays_heard(
    sensor: Sensor,
) -> None:
    sounds = [sensor.keep(f"{number}") for number in range(10)]

    sensor.task()

    gone = [one for one in sounds if sensor.state(one) is None]
    assert len(gone) == 2
    for one in gone:
        kind, reason, _ = sensor.store.why_given_up(one.id)
        assert (kind, reason) == (
            FileClass.UNREMARKABLE,
            "0 MB of 0 MB were free, 0 MB should be",
        )
        assert sensor.store.get_recording_model_outputs(one)
    assert fates(sensor)["given up, for room on the disk"] == 2
    assert sensor.store.why_given_up(sounds[-1].id) is None
    ((kind, total),) = sensor.store.count_given_up().items()
    assert (kind, total.recordings, total.seconds) == (FileClass.UNREMARKABLE, 2, 6.0)
    assert total.bytes == 2 * BLOCK
    assert sensor.store.count_given_up(SITE, until=NIGHT) == {}


def fates(sensor: Sensor) -> Counter[str]:
    """What the view for other tools says of recordings."""
    with sensor.store._database.reading() as connection:
        rows = connection.execute("SELECT reason FROM v_effort")
        return Counter(reason for (reason,) in rows)


def test_a_clip_goes_like_a_file_and_its_recordings_are_no_longer_clipped(
    tmp_path: Path,
) -> None:
    sensor = Sensor(tmp_path, 10, best=1, newest=0, low=0.1, high=0.11)
    better, worse = sensor.keep("", ("bat", 0.9)), sensor.keep("", ("bat", 0.2))
    for one in (better, worse):
        assert one.path is not None
        one.path.unlink()
        sensor.store.end_recording(one, data.RecordingState.DELETED)
        path = sensor.kept / f"clip of {one.id}.wav"
        path.write_bytes(b"\1" * BLOCK)
        clip = Clip(
            id=one.id,
            path=path,
            stream_id=one.id,
            first_frame=0,
            frames=256_000,
            samplerate=256_000,
            parts={one.id: 0.5},
        )
        sensor.store.put_clip(clip)

    sensor.task()

    assert sensor.names == {f"clip of {better.id}"}
    assert sensor.store.count_recordings()[data.RecordingState.CLIPPED] == 1
    assert sensor.store.count_given_up()[FileClass.BEYOND_BEST].seconds == 1.0


def test_new_sound_goes_when_nothing_else_may_and_only_detections_are_wanted(
    tmp_path: Path,
) -> None:
    sensor = Sensor(tmp_path, 10, best=99, newest=0, on_full="detections_only")
    for number in range(10):
        sensor.keep(f"{number}", ("bat", 0.5))

    sensor.task()

    assert sensor.names == {str(number) for number in range(8)}
    assert sensor.store.count_given_up()[FileClass.NEW].recordings == 2


@pytest.mark.parametrize("on_full", ["stop", "discard_new"])
def test_nothing_else_goes_otherwise_and_it_is_said_once(
    tmp_path: Path, on_full: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sensor = Sensor(tmp_path, 10, best=9, newest=9, on_full=on_full)
    for number in range(10):
        sensor.keep(f"{number}", ("bat", 0.5))

    sensor.task()
    sensor.task()

    assert len(sensor.names) == 10
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert on_full in caplog.text


def test_a_plan_names_what_then_goes_and_changes_nothing(sensor: Sensor) -> None:
    for number in range(10):
        sensor.keep(f"{number}")

    (demand,) = sensor.room.demands()
    planned = {one.spare.path.stem for one in sensor.room.chosen(demand)}
    assert len(sensor.names) == 10
    before = sensor.names
    sensor.task()

    assert before - sensor.names == planned == {"0", "1"}


def test_a_class_over_its_quota_goes_though_there_is_room(tmp_path: Path) -> None:
    sensor = Sensor(tmp_path, 10, quotas={FileClass.UNREMARKABLE: 0.2})
    for number in range(4):
        sensor.keep(f"{number}")
    sensor.keep("heard", ("bat", 0.5))

    sensor.task()

    assert sensor.names == {"2", "3", "heard"}


def test_of_very_many_files_the_first_tell_how_much_all_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = Sensor(tmp_path, 100)
    for _ in range(6):
        sensor.keep()
    monkeypatch.setattr("acoupi.tasks.space.MOST_SPARE", 2)
    first = sensor.store.get_spare_files(FileClass.UNREMARKABLE, sensor.policy, 2)

    with sensor.store.replaced("get_spare_files", lambda *_, **__: first):
        used = sensor.room.used(FileClass.UNREMARKABLE, lambda _: True)

    assert used == (6, 6 * BLOCK)


def test_a_folder_over_its_quota_gives_up_its_own_files(tmp_path: Path) -> None:
    sensor = Sensor(tmp_path, 10)
    sensor.policy = replace(sensor.policy, folders={sensor.kept / "full": 0.1})
    (sensor.kept / "full").mkdir()
    sensor.keep("elsewhere")
    sensor.keep("full/old")
    sensor.keep("full/new")

    generate_space_task(sensor.store, sensor.policy, sizes=sensor.sizes)()

    assert {one.name for one in (sensor.kept / "full").iterdir()} == {"new.wav"}
    assert "elsewhere" in sensor.names


# Crashes


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("call", ["give_up", "note_removed"])
def test_a_kill_at_any_step_leaves_nothing_half_and_nothing_stranded(
    sensor: Sensor, call: str, is_done: bool
) -> None:
    sounds = [sensor.keep(f"{number}") for number in range(10)]
    with sensor.store.failing(call, Crash(), after=is_done), pytest.raises(Crash):
        sensor.task()

    sensor.task()

    assert_files_match_rows(sensor, sounds)
    assert sensor.names == {str(number) for number in range(2, 10)}


def test_a_kill_before_a_file_is_removed_leaves_its_name_in_the_store(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = [sensor.keep(f"{number}") for number in range(10)]
    with monkeypatch.context() as system:
        system.setattr(Path, "unlink", die)
        with pytest.raises(Crash):
            sensor.task()
    assert len(sensor.names) == 10

    sensor.task()

    assert_files_match_rows(sensor, sounds)


def test_a_name_that_another_recording_took_meanwhile_is_not_removed(sensor: Sensor) -> None:
    sounds = [sensor.keep(f"{number}") for number in range(10)]
    with sensor.store.failing("note_removed", Crash()), pytest.raises(Crash):
        sensor.task()
    again = sensor.keep("0")

    sensor.task()

    assert again.path is not None
    assert again.path.exists()
    assert_files_match_rows(sensor, [*sounds, again])
    assert sensor.store.get_unremoved() == []


def die(*_: object, **__: object) -> None:
    raise Crash


def assert_files_match_rows(sensor: Sensor, sounds: list[data.Recording]) -> None:
    rows = {path.stem for one in sounds if (path := sensor.state(one)) is not None}
    assert rows == sensor.names


# A month


def test_the_best_of_each_species_is_there_after_a_month_and_the_reserve_was_never_touched(
    tmp_path: Path,
) -> None:
    chance = random.Random(14)
    blocks, reserve = 600, 30
    sensor = Sensor(
        tmp_path,
        blocks,
        best=1,
        newest=0,
        reserve=reserve * BLOCK,
        order=(FileClass.UNREMARKABLE, FileClass.BEYOND_BEST),
    )
    best: dict[tuple[int, str], tuple[float, data.Recording]] = {}
    common = [f"species {number}" for number in range(20)]
    lowest = blocks
    for night in range(30):
        for step in range(40):
            found = []
            if chance.random() < 0.7:
                what = common[min(19, int(chance.expovariate(0.25)))]
                found = [(what, round(chance.uniform(0.2, 0.99), 6))]
            one = sensor.keep("", *found, minute=24 * 60 * night + 8 * step)
            for what, score in found:
                if score > best.get((night, what), (0.0, one))[0]:
                    best[night, what] = score, one
            if step % 10 == 9:
                sensor.task()
            lowest = min(lowest, sensor.sizes(sensor.kept)[0] // BLOCK)

    assert lowest >= reserve
    assert len({what for _, what in best}) == 20
    assert all(sensor.state(one) is not None for _, one in best.values())
    assert sensor.store.count_given_up()[FileClass.BEYOND_BEST].recordings > 100


# The recorder


def condition(folder: Path, **changes: Any) -> tuple[HasReserve, Callable[[int], None]]:
    """A condition on a disk of which a test says how much is free."""
    policy = SpacePolicy(
        home=folder,
        spool=folder,
        recordings=folder,
        rate=1000,
        **{"reserve": 10**8, "recording_bytes": 10**6, **changes},
    )
    free = [0]
    made = HasReserve(policy, sizes=lambda _: (free[0], 10**10))
    return made, lambda size: free.__setitem__(0, size)


def test_a_recording_begins_only_if_it_leaves_the_reserve(tmp_path: Path) -> None:
    asked, set_free = condition(tmp_path, on_full="discard_new")
    set_free(asked.policy.needed_to_record)
    assert asked.should_record()
    assert asked.why is None

    set_free(asked.policy.needed_to_record - 1)
    assert not asked.should_record()
    assert asked.why is not None
    assert "reserve of 100 MB" in asked.why
    assert "discard_new" in asked.why
    assert asked.refusal is data.EffortState.DISK_FULL

    set_free(asked.policy.needed_to_record)
    assert asked.should_record()


def test_once_stopped_it_records_again_when_the_disk_is_out_of_the_marks(tmp_path: Path) -> None:
    asked, set_free = condition(tmp_path, on_full="stop")
    set_free(10**8)
    assert not asked.should_record()

    set_free(asked.policy.marks(10**10).act_below - 1)
    assert not asked.should_record()
    set_free(asked.policy.marks(10**10).act_below)
    assert asked.should_record()
    set_free(asked.policy.needed_to_record)
    assert asked.should_record()


def test_nothing_is_recorded_where_the_disk_is_not_mounted(tmp_path: Path) -> None:
    asked, set_free = condition(tmp_path, mounts=(tmp_path,))
    set_free(10**10)

    assert not asked.should_record()
    assert asked.why == f"no disk is mounted at {tmp_path}"


def test_a_store_that_knows_nothing_of_room_lets_record() -> None:
    assert SqliteStore.space is None
    assert SqliteStore.own_conditions == ()
