"""A sensor heals its stores by itself, from the files that describe themselves, and says so."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.alarms.limits import Alarms
from acoupi.alarms.rules import RULES
from acoupi.audio import formats
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.cli.deployment import is_well
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.stores.healings import told_by
from acoupi.effort import CapturePlan, PlanFrom, ledger
from acoupi.errors import StoreError
from acoupi.programs.status import StatusReport
from acoupi.services.alarm_facts import FactFinder
from acoupi.services.healing import Healer, Kept
from acoupi.system import Settings, get_status, setup_program, start_deployment
from acoupi.system.stores import heal_stores, healings_here
from acoupi.testing import make_recording, make_wav
from tests.services import DEADLINE
from tests.stores import detection, output


class Builder:
    def build_message(self, output: data.ModelOutput) -> data.Message:
        return data.Message(content=f"heard in {output.recording.id}")


@pytest.fixture
def settings(home: Path) -> Settings:
    settings = Settings()
    setup_program(settings, "connected", ["--messaging.mqtt.host", "localhost"])
    return settings


@pytest.fixture
def oak(settings: Settings) -> data.Deployment:
    return start_deployment(settings, "Oak", 51.5, 0)


@pytest.fixture
def kept(settings: Settings, oak: data.Deployment) -> Kept:
    data_dir = settings.home / "data"
    return Kept(
        SqliteStore(data_dir / "metadata.db"),
        SqliteMessageStore(data_dir / "messages.db"),
        spool=data_dir / "spool",
        recordings=data_dir / "recordings",
        builders=[Builder()],
    )


def filled(kept: Kept, deployment: data.Deployment) -> list[data.Recording]:
    """Two recordings that are kept, one that waits, and one without a file."""
    assert kept.store is not None
    assert kept.spool is not None
    assert kept.recordings is not None
    made = []
    for name in ("a.wav", "b.wav", "c.wav", "d.wav"):
        one = make_recording(deployment=deployment)
        one.path = kept.spool / name
        one.path.parent.mkdir(parents=True, exist_ok=True)
        make_wav(one.path)
        formats.add_guano(one.path, build_guano(guano_of_recording(one)))
        kept.store.store_recording(one)
        kept.store.store_model_output(output(one, detection(), created_on=data.utc_now()))
        made.append(one)
    for one in made[:2]:
        place = kept.recordings / "2026" / one.path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        one.path.rename(place)
        one.path = kept.store.update_recording_path(one, place).path
    made[3].path.unlink()
    kept.store.end_recording(made[3], data.RecordingState.DELETED)
    return made


def ruin(store: Any) -> None:
    store.close()
    store.db_path.write_bytes(b"\xa5" * store.db_path.stat().st_size)


def test_a_store_comes_back_from_the_files_that_describe_themselves(
    kept: Kept, oak: data.Deployment, settings: Settings
) -> None:
    store, made = kept.store, filled(kept, oak)
    assert store is not None
    ruin(store)

    [healing] = Healer(kept).heal()

    assert store.get_deployments() == [oak]
    found = {row.id: row for row, _ in store.get_recordings([one.id for one in made])}
    assert {id_: row.path for id_, row in found.items()} == {one.id: one.path for one in made[:3]}
    assert store.count_recordings()[data.RecordingState.KEPT] == 2
    assert all(row.deployment == oak for row in found.values())
    assert healing.from_files == 3
    assert healing.lost == ["everything that only the database held"]
    assert healings_here(settings) == [healing]
    assert Healer(kept).heal() == []


@pytest.mark.parametrize("is_there", [False, True])
def test_a_store_that_was_emptied_or_moved_away_is_filled_again(
    kept: Kept, oak: data.Deployment, is_there: bool
) -> None:
    store, made = kept.store, filled(kept, oak)
    assert store is not None
    store.close()
    if is_there:
        store.db_path.write_bytes(b"")
    else:
        store.db_path.unlink()
    store.get_current_deployment()  # another service was faster

    [healing] = Healer(kept).heal()

    assert {row.id for row, _ in store.get_recordings([one.id for one in made])} == {
        one.id for one in made[:3]
    }
    assert healing.lost == ["everything that only the database held"]
    assert Healer(kept).heal() == []


def test_a_new_sensor_has_nothing_to_heal(kept: Kept) -> None:
    assert Healer(kept).heal() == []
    assert kept.store is not None
    kept.store.get_current_deployment()
    assert Healer(kept).heal() == []


def test_the_ledger_says_why_it_does_not_know(kept: Kept, oak: data.Deployment) -> None:
    store = kept.store
    assert store is not None
    filled(kept, oak)
    ruin(store)
    [healing] = Healer(kept).heal()

    history = store.get_effort(oak)
    assert history is not None
    spans = ledger(history, data.utc_now())
    assert any(healing.aside.name in span.detail for span in spans), spans


def test_the_plan_is_there_again_which_a_running_recorder_does_not_repeat(
    kept: Kept, oak: data.Deployment
) -> None:
    filled(kept, oak)
    assert kept.store is not None
    plan = CapturePlan(duration=3, interval=5)
    kept.store.note_plan(oak, plan, oak.started_on)
    ruin(kept.store)

    Healer(replace(kept, plan=plan)).heal()

    history = kept.store.get_effort(oak)
    assert history is not None
    assert history.plans == [PlanFrom(oak.started_on, plan)]


def test_where_nothing_was_lost_the_ledger_explains_nothing_by_it(
    kept: Kept, oak: data.Deployment
) -> None:
    store = kept.store
    assert store is not None
    filled(kept, oak)
    store.close()
    with closing(sqlite3.connect(store.db_path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'recording_created_on'"
        ).fetchone()
    with store.db_path.open("r+b") as file:
        file.seek((page - 1) * 1024)
        file.write(b"\xa5" * 1024)

    [healing] = Healer(kept).heal()

    assert (healing.lost, healing.from_files) == ([], 0)
    history = store.get_effort(oak)
    assert history is not None
    named = [one for one in history.notes if healing.aside.name in one.detail]
    assert len(named) == 1
    assert (named[0].end - named[0].start).total_seconds() < 1e-3


def test_messages_that_cannot_be_read_are_made_again_under_the_same_ids(
    kept: Kept, oak: data.Deployment
) -> None:
    filled(kept, oak)
    messages = kept.message_store
    assert messages is not None
    messages.store_message(data.Message(content="x" * 20_000))
    ruin(messages)

    [healing] = Healer(kept).heal()

    first = messages.claim_messages("mqtt")
    assert len(first) == 4
    assert any("had been sent" in one for one in healing.lost)
    messages.release_messages("mqtt", first)
    ruin(messages)
    Healer(kept).heal()
    assert {one.id for one in messages.claim_messages("mqtt")} == {one.id for one in first}


def test_a_command_makes_messages_again_too(
    kept: Kept, oak: data.Deployment, settings: Settings
) -> None:
    recording = filled(kept, oak)[0]
    assert kept.store is not None
    heard = detection(0.8, ("species", "Myotis", 0.9))
    kept.store.store_model_output(output(recording, heard, created_on=data.utc_now()))
    messages = kept.message_store
    assert messages is not None
    messages.store_message(data.Message(content="x" * 20_000))
    ruin(messages)
    setup_program(settings, "demo", [])  # it tells of detections

    [healing] = heal_stores(settings)

    assert healing.rows["messages made again, with their earlier ids"] == 1
    assert len(messages.get_unsent_messages()) == 1


def test_messages_that_only_a_program_elsewhere_can_make_again_are_left_to_the_services(
    kept: Kept, oak: data.Deployment, settings: Settings
) -> None:
    filled(kept, oak)
    messages = kept.message_store
    assert messages is not None
    messages.store_message(data.Message(content="x"))
    ruin(messages)
    (settings.home / "config" / "name").write_text("in_an_image_only")

    assert heal_stores(settings) == []

    with pytest.raises(StoreError):
        messages.get_unsent_messages()


def test_a_healing_that_was_cut_is_completed_at_the_next_start(
    kept: Kept, oak: data.Deployment, settings: Settings
) -> None:
    filled(kept, oak)
    assert kept.store is not None
    ruin(kept.store)
    [healing] = Healer(kept).heal()
    healing.finished_on, healing.from_files = None, 0
    healing.write()

    [again] = Healer(kept).heal()

    assert again.finished_on is not None
    assert again.aside == healing.aside


def test_a_healed_store_is_said_so_until_somebody_moves_the_file(
    kept: Kept, oak: data.Deployment, settings: Settings, tmp_path: Path
) -> None:
    filled(kept, oak)
    assert kept.store is not None
    ruin(kept.store)
    [healing] = heal_stores(settings)

    status = get_status(settings)
    assert not is_well(status)
    assert str(healing.aside) in (status.program.message or "")
    assert str(healing.aside) in StatusReport(kept.store, kept.message_store)()
    finder = FactFinder(
        kept.store, kept.message_store, None, Alarms(), run_dirs=[], services=[], folders=[tmp_path]
    )
    [rule] = [one for one in RULES if one.key == "store_damaged"]
    verdict = rule.judge(finder({})[0], Alarms())
    assert verdict.is_wrong
    assert str(healing.aside) in verdict.detail

    healing.aside.rename(tmp_path / "seen")
    assert told_by(kept.store) == ()
    assert rule.judge(finder({})[0], Alarms()).is_wrong is False


def test_a_worker_heals_what_another_process_has_found_damaged(
    kept: Kept, oak: data.Deployment
) -> None:
    filled(kept, oak)
    store = kept.store
    assert store is not None
    healer = Healer(kept)
    healer.start()
    healer.look()  # nobody has found anything
    assert told_by(store) == ()
    ruin(store)
    with pytest.raises(StoreError):
        store.get_deployments()

    healer.look()
    healer.wait(DEADLINE)

    assert len(told_by(store)) == 1
    assert store.get_deployments() == [oak]
