"""Whether an update is good, what it keeps, and what an interrupted one leaves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from acoupi.bundles.engine import Answer, Engine
from acoupi.bundles.variables import choose
from acoupi.components import SqliteStore
from acoupi.components.stores.sql import SCHEMA
from acoupi.data import utc_now
from acoupi.effort import CapturePlan
from acoupi.errors import AcoupiError, TargetError
from acoupi.provisioned import CACHE, CONFIRMED, FROM_HUB
from acoupi.system import Settings, setup_program, start_deployment
from acoupi.system.state import get_status
from acoupi.system.update_records import (
    KEPT,
    KeptImage,
    UpdateRecord,
    all_records,
    forget_oldest,
    only_update,
    put_files_back,
    update_trouble,
    updates_folder,
)
from acoupi.system.update_verdict import MOST_RESTARTS, Facts, judge
from acoupi.system.updating import Update, roll_back, update
from acoupi.targets import ServiceStatus
from acoupi.targets.compose import ComposeTarget

READY = ServiceStatus(name="recording", role="recorder", state="ready")
OLD = KeptImage(name="acoupi/sensor:1", id="sha256:" + "1" * 64)
NEW = KeptImage(name="acoupi/sensor:2", id="sha256:" + "2" * 64)


def facts(**others: object) -> Facts:
    known = {
        "services": [READY], "recordings": 2, "silent": 0, "was_silent": False, "analyses": 1,
        "needs_analysis": True, **others,
    }  # fmt: skip
    return Facts(**known)  # type: ignore[arg-type]


def service(**others: object) -> ServiceStatus:
    return ServiceStatus(**{"name": "detection", "role": "worker", "state": "ready", **others})  # type: ignore[arg-type]


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize(
    "found",
    [
        facts(),
        facts(silent=1),
        facts(silent=2, was_silent=True),
        facts(analyses=0, needs_analysis=False),
        facts(services=[READY, service(restarts=1, health="healthy")]),
    ],
)
def test_an_update_is_good_once_all_is_well_and_has_arrived(found: Facts, is_last: bool) -> None:
    assert judge(found, is_last=is_last).is_good is True


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (facts(recordings=0), "no recording was made"),
        (facts(recordings=0, services=[service(last_error="no card")]), "no card"),
        (facts(silent=2), "are silent"),
        (facts(analyses=0), "no recording was analysed"),
        (facts(services=[READY, service(state="starting")]), "it is starting"),
        (facts(services=[READY, service(health="unhealthy")]), "unhealthy"),
        (facts(services=[service(state="stopped", message="it ended with exit code 1")]), "code 1"),
    ],
)
def test_what_is_missing_is_waited_for_and_then_counts_against_it(found: Facts, why: str) -> None:
    assert judge(found, is_last=False).is_good is None
    verdict = judge(found, is_last=True)
    assert verdict.is_good is False
    assert why in verdict.why


def test_a_service_that_ends_again_and_again_is_not_waited_for() -> None:
    crashed = service(state="restarting", restarts=MOST_RESTARTS)

    verdict = judge(facts(services=[READY, crashed]), is_last=False)

    assert verdict.is_good is False
    assert verdict.why == '"detection" ends again and again'


# --- what is kept ---------------------------------------------------------------------


@pytest.fixture
def recording_sensor(set_up: Settings) -> Settings:
    """One whose deployment plans a recording every ten seconds."""
    deployment = start_deployment(set_up, "Oak")
    store = SqliteStore(set_up.home / "data" / "metadata.db")
    store.store_deployment(deployment)
    store.note_plan(deployment, CapturePlan(duration=2, interval=10), utc_now())
    store.close()
    return set_up


@pytest.fixture
def set_up(home: Path) -> Settings:
    settings = Settings(home=home)
    setup_program(settings, "default", ["--recording.duration", "2"])
    return settings


def change(settings: Settings, seconds: str) -> None:
    setup_program(settings, "default", ["--recording.duration", seconds])


def texts(settings: Settings) -> dict[str, str]:
    """Every generated file, and the settings of the program."""
    found = [settings.home / "app.py", settings.program_config_file, settings.manifest_file]
    return {path.name: path.read_text() for path in found}


def test_the_files_of_before_come_back_and_what_the_update_added_goes(set_up: Settings) -> None:
    before = texts(set_up)
    record = UpdateRecord.begin(set_up, OLD, NEW, None)
    change(set_up, "3")
    (set_up.program_config_file.parent / "added.json").write_text("{}")
    record.note_files(set_up)

    assert put_files_back(set_up, all_records(set_up)[0])

    assert texts(set_up) == before
    assert not (set_up.program_config_file.parent / "added.json").exists()


def test_settings_that_were_changed_since_the_update_stay(set_up: Settings) -> None:
    record = UpdateRecord.begin(set_up, OLD, NEW, None)
    change(set_up, "3")
    record.note_files(set_up)
    change(set_up, "4")
    chosen = texts(set_up)

    assert not put_files_back(set_up, record)

    assert texts(set_up) == chosen


def test_what_the_hub_said_since_is_no_change_and_stays(set_up: Settings) -> None:
    said = [set_up.program_config_file.with_name(name) for name in (FROM_HUB, CACHE, CONFIRMED)]
    record = UpdateRecord.begin(set_up, OLD, NEW, None)
    change(set_up, "3")
    record.note_files(set_up)
    for path in said:
        path.write_text("since")

    assert put_files_back(set_up, record)

    assert {path.read_text() for path in said} == {"since"}


def test_files_come_back_from_an_update_that_was_killed_while_it_wrote(set_up: Settings) -> None:
    before = texts(set_up)
    UpdateRecord.begin(set_up, OLD, NEW, None)
    change(set_up, "3")  # and then nothing more was noted

    assert put_files_back(set_up, all_records(set_up)[0])
    assert texts(set_up) == before


def test_only_the_last_updates_are_kept_and_an_image_that_is_still_needed_is_not_given_up(
    set_up: Settings,
) -> None:
    others = [KeptImage(name="x", id=f"sha256:{digit * 64}") for digit in "345"]
    for before in (others[0], others[1], *others[1:]):
        UpdateRecord.begin(set_up, before, NEW, None)

    unneeded = forget_oldest(set_up)

    assert [name.rpartition("-")[2] for name in unneeded] == ["3" * 12]
    assert [one.before.id for one in all_records(set_up)] == [others[2].id, others[1].id]
    assert len(all_records(set_up)) == KEPT


# --- what an interrupted one leaves ---------------------------------------------------


def test_an_update_that_was_undone_is_no_way_back_and_the_image_in_use_stays(
    set_up: Settings,
) -> None:
    record = UpdateRecord.begin(set_up, OLD, NEW, None)
    record.advance(set_up, "undone")
    choose(set_up.home, {"ACOUPI_IMAGE": record.kept_as})

    assert forget_oldest(set_up) == []
    assert all_records(set_up) == []


def test_status_names_an_update_that_was_interrupted_and_not_one_that_is_at_work(
    set_up: Settings,
) -> None:
    record = UpdateRecord.begin(set_up, OLD, NEW, None)
    with only_update(set_up):
        assert update_trouble(set_up) is None

    said = get_status(set_up).program.message or ""
    assert "acoupi/sensor:2 was interrupted" in said
    assert "acoupi rollback" in said

    record.advance(set_up, "good")
    assert update_trouble(set_up) is None


def test_one_update_works_at_a_time(set_up: Settings) -> None:
    with (
        only_update(set_up),
        pytest.raises(TargetError, match="another update"),
        only_update(set_up),
    ):
        pass


def test_a_damaged_record_is_named(set_up: Settings) -> None:
    UpdateRecord.begin(set_up, OLD, NEW, None)
    next(updates_folder(set_up).glob("*/update.json")).write_text("{")

    with pytest.raises(AcoupiError, match="cannot read the record of an earlier update"):
        roll_back(ComposeTarget(set_up))


def test_without_an_update_there_is_nothing_to_go_back_to(set_up: Settings) -> None:
    with pytest.raises(TargetError, match="nothing to go back to"):
        roll_back(ComposeTarget(set_up))


def test_it_does_not_go_back_to_an_image_that_cannot_open_the_stores(set_up: Settings) -> None:
    store = SqliteStore(set_up.home / "data" / "metadata.db")
    store.count_recordings()
    store.close()
    before = texts(set_up)
    older = OLD.model_copy(update={"schemas": {"paths.db_metadata": SCHEMA.version - 1}})
    UpdateRecord.begin(set_up, older, NEW, "updates/copy.tar.gz").advance(set_up, "judging")

    with pytest.raises(TargetError, match="cannot go back") as failure:
        roll_back(ComposeTarget(set_up))

    assert f"converted to version {SCHEMA.version}" in str(failure.value.why)
    assert "updates/copy.tar.gz" in str(failure.value.help)
    assert texts(set_up) == before
    assert all_records(set_up)[0].stage == "stuck"
    assert "cannot be undone" in (update_trouble(set_up) or "")


# --- what is refused before anything is changed ---------------------------------------


class SmallEngine(Engine):
    """An engine with a container of the recorder and images, of which each opens some stores."""

    def __init__(self, images: dict[str, int], runs: str | None = "old") -> None:
        self.images, self.runs = images, runs

    def ask(self, *words: str, timeout: float = 0) -> Answer:
        del timeout
        if words[0] == "ps":
            return Answer(0, "container" if self.runs else "")
        if words[:2] == ("container", "inspect"):
            return Answer(0, json.dumps({"Image": self.runs, "Config": {"Image": "acoupi:1"}}))
        if words[:2] == ("image", "inspect") and words[-1] in self.images:
            return Answer(0, json.dumps({"Id": words[-1]}))
        if words[0] == "run" and words[6] in self.images:
            return Answer(0, json.dumps({"paths.db_metadata": self.images[words[6]]}))
        return Answer(1, err="no such thing")


NOW = SCHEMA.version


@pytest.mark.parametrize(
    ("images", "runs", "said"),
    [
        ({"old": NOW, "new": NOW}, None, "is not running"),
        ({"old": NOW}, "old", "not the image of a sensor"),
        ({"old": NOW, "new": NOW - 1}, "old", "too old for this sensor"),
        ({"old": NOW, "new": NOW + 1}, "old", "newer than the acoupi that is installed"),
        ({"old": NOW, "new": NOW}, "old", "no recording to judge it by"),
    ],
)
def test_what_cannot_be_judged_or_undone_is_refused_and_nothing_changes(
    set_up: Settings, images: dict[str, int], runs: str | None, said: str
) -> None:
    SqliteStore(set_up.home / "data" / "metadata.db").count_recordings()
    before = texts(set_up)
    target = ComposeTarget(set_up, engine=SmallEngine(images, runs))

    with pytest.raises(TargetError, match=said):
        update(target, Update(get=lambda: "new", minutes=5, back_up=str))

    assert texts(set_up) == before
    assert all_records(set_up) == []


class NamingEngine(SmallEngine):
    """An engine on which the image that runs has lost its name to a newer one."""

    def __init__(self) -> None:
        super().__init__({"old": NOW, "acoupi:1": NOW})
        self.named: list[tuple[str, ...]] = []

    def ask(self, *words: str, timeout: float = 0) -> Answer:
        if words[0] == "tag":
            self.named.append(words[1:])
        return super().ask(*words, timeout=timeout)


def test_a_refused_image_that_took_the_name_of_the_one_that_runs_gives_it_back(
    set_up: Settings,
) -> None:
    SqliteStore(set_up.home / "data" / "metadata.db").count_recordings()
    engine = NamingEngine()

    with pytest.raises(TargetError, match="no recording to judge it by"):
        update(ComposeTarget(set_up, engine=engine), Update(get=lambda: "acoupi:1", minutes=5))

    assert engine.named == [("old", "acoupi:1")]


def test_the_image_that_runs_already_is_no_update(set_up: Settings) -> None:
    target = ComposeTarget(set_up, engine=SmallEngine({"old": NOW}))

    assert update(target, Update(get=lambda: "old", minutes=5)) == ("old", None, 0.0)


def test_without_a_way_back_an_update_must_be_asked_for_and_makes_a_backup(
    recording_sensor: Settings,
) -> None:
    made: list[Path] = []

    def back_up(folder: Path) -> str:
        made.append(folder)
        return str(folder / "copy.tar.gz")

    engine = SmallEngine({"old": NOW - 1, "new": NOW})
    target = ComposeTarget(recording_sensor, engine=engine)
    wanted = Update(get=lambda: "new", minutes=5, back_up=back_up)

    with pytest.raises(TargetError, match="no way back"):
        update(target, wanted)
    assert not made

    with pytest.raises(TargetError, match="could not be kept"):  # this engine keeps none
        update(target, replace(wanted, one_way=True))
    assert made == [updates_folder(recording_sensor)]
