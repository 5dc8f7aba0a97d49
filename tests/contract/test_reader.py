"""What every reader of what was heard does; and that reading changes nothing."""

import datetime
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.components.message_stores import SqliteMessageReader, SqliteMessageStore
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.components.stores.reporting import reports_of
from acoupi.door.server import DoorServer, Limits
from acoupi.door.waiting import WaitingCalls
from acoupi.errors import MetadataStoreError
from acoupi.exports import (
    DetectionRow,
    Filters,
    MessageReader,
    Reader,
    RecordingRow,
    Verdict,
    VerdictRow,
)
from acoupi.exports.remote import RemoteReader
from acoupi.heard import By, Delivery, SpeciesRow
from acoupi.hub.database import HubDatabase
from acoupi.hub.people import add_person
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor
from acoupi.hub.taking_in import take_in
from acoupi.provenance import Provenance
from acoupi.reports import Report
from acoupi.sampling import Sampling
from acoupi.services.doors import ROLES
from acoupi.stack.doors import WEB
from acoupi.web.door_sensor import DoorReader
from tests.hubs import served
from tests.services import DEADLINE
from tests.stores import SITE, at, deployment, detection, output, recording

BAT, BIRD = "Myotis nattereri", "Turdus merula"
LAKE = deployment(name="Lake", started_on=at(1000))
MADE_BY = Provenance(model="bats", model_version="bats 1.2", weights="ab" * 32, configuration="c")
STATE = data.RecordingState


def box(start: float, end: float) -> data.BoundingBox:
    return data.BoundingBox.from_coordinates(start, 20_000, end, 60_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


class Reported:
    """Reads from a hub, to which the whole store is reported before each question."""

    def __init__(self, path: Path, url: str, reader: Reader) -> None:
        self._path, self._hub, self._reader = path, HubDatabase(url), reader
        add_sensor(self._hub, "oak-1")

    def __getattr__(self, name: str) -> Any:
        for report in reports_of(self._path):
            sent = Report.model_validate_json(report.model_dump_json())
            take_in(self._hub, "oak-1", sent)
        return getattr(self._reader, name)

    def close(self) -> None:
        self._hub.close()
        self._reader.close()


@contextmanager
def hub_over_http(url: str) -> Iterator[Reader]:
    """Read a hub as an operator, three rows at a time."""
    with pytest.MonkeyPatch.context() as patch, closing(HubDatabase(url)) as database:
        patch.setattr("acoupi.hub.reading_pages.ROWS", 3)
        token = add_person(database, "ana", "operator")
        with served(url) as address:
            yield RemoteReader(address, token)


@pytest.fixture(params=["sqlite", "door", "hub", "http"])
def reader(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reader]:
    if request.param in ("hub", "http"):
        url = request.getfixturevalue("postgres").new_database("sensors")
        reads = hub_over_http(url) if request.param == "http" else nullcontext(HubReader(url))
        with reads as hub_reader, closing(Reported(path, url, hub_reader)) as reported:
            yield cast("Reader", reported)
        return
    with SqliteReader(path) as reader:
        if request.param == "sqlite":
            yield reader
            return
        folder = tmp_path / "door"
        waiting = WaitingCalls(tmp_path / "waiting")
        limits = Limits(rows=3)
        server = DoorServer(WEB, folder, waiting, ROLES[WEB], find=lambda *_: reader, limits=limits)
        server.start()
        assert server.listens.wait(DEADLINE)
        yield DoorReader(folder)
        server.close()


def fill(store: SqliteStore) -> dict[str, UUID]:
    """Store four recordings at two sites with four detections; return their ids by names."""
    ids: dict[str, UUID] = {}
    heard: dict[str, tuple[float, data.Deployment, list[tuple[float, str, float, float]]]] = {
        "a": (0, SITE, [(0.9, BAT, 0.5, 0.6), (0.6, BIRD, 2, 2.5)]),
        "b": (60, SITE, [(0.3, BAT, 1, 1.2)]),
        "c": (1000, LAKE, []),
        "d": (2000, LAKE, [(0.8, BAT, 0, 3)]),
    }
    for name, (seconds, site, found) in heard.items():
        sound = recording(f"{name}.wav", seconds, deployment=site)
        store.store_recording(sound)
        ids[name] = sound.id
        detections = [
            detection(score, ("species", species, score), location=box(start, end))
            for score, species, start, end in found
        ]
        model = "birds" if name == "d" else "bats"
        made = output(sound, *detections, name_model=model, provenance=MADE_BY)
        store.store_model_output(made)
        if name == "a":
            store.sampling = Sampling(size=1)
            store.sample_recording(sound, [made])
        ids |= {f"{name}{number}": one.id for number, one in enumerate(detections)}
    store.end_recording(recording("b.wav", id=ids["b"]), STATE.DELETED)
    return ids


def names(ids: dict[str, UUID], found: Iterable[RecordingRow | DetectionRow]) -> str:
    by_id = {id_: name for name, id_ in ids.items()}
    return " ".join(by_id[one.id] for one in found)


BYS: tuple[By, ...] = ("quarter", "deployment", "species")
SPAN = {"since": at(0.55), "until": at(1000)}
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "everything": ({}, "a b c d", "a0 a1 b0 d0"),
    "a deployment": ({"deployments": frozenset({LAKE.id})}, "c d", "d0"),
    "two deployments": ({"deployments": frozenset({LAKE.id, SITE.id})}, "a b c d", "a0 a1 b0 d0"),
    "an unknown deployment": ({"deployments": frozenset({uuid4()})}, "", ""),
    "a model": ({"models": frozenset({"birds"})}, "d", "d0"),
    "a species": ({"species": frozenset({BAT})}, "a b d", "a0 b0 d0"),
    "an unknown species": ({"species": frozenset({"Yeti"})}, "", ""),
    "a tag": ({"tags": frozenset({data.Tag("species", BIRD)})}, "a", "a1"),
    "a tag with another key": ({"tags": frozenset({data.Tag("event", BIRD)})}, "", ""),
    "a score": ({"min_score": 0.6}, "a d", "a0 a1 d0"),
    "a state": ({"states": frozenset({STATE.DELETED})}, "b", "b0"),
    "a span, by the start of each": (SPAN, "b", "a1 b0"),
    "not reviewed": ({"verdicts": frozenset({None})}, "a b d", "a0 a1 b0 d0"),
    "the sample": ({"are_sampled": True}, "a", "a0 a1"),
    "several at once": ({"species": frozenset({BAT}), "min_score": 0.5}, "a d", "a0 d0"),
}


@pytest.mark.parametrize("case", CASES)
def test_filters_let_pass_what_they_say(store: SqliteStore, reader: Reader, case: str) -> None:
    ids = fill(store)
    given_, recordings, detections = CASES[case]
    filters = Filters(**given_)

    assert names(ids, reader.recordings(filters)) == recordings
    assert names(ids, reader.detections(filters)) == detections
    assert sum(reader.count_recordings("quarter", filters).values()) == len(recordings.split())
    for by in BYS:
        counts = reader.count_detections(by, filters)
        assert sum(counts.values()) == len(detections.split()), by


def test_a_common_tag_is_found_as_a_rare_one_is(
    store: SqliteStore, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(store)
    monkeypatch.setattr("acoupi.components.stores.heard_sql.MOST_RARE", 2)

    assert names(ids, reader.detections(Filters(species=frozenset({BAT})))) == "a0 b0 d0"


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("kind", ["recordings", "detections"])
def test_pages_hold_everything_once_and_in_order(
    store: SqliteStore, reader: Reader, kind: str, newest_first: bool
) -> None:
    ids = fill(store)
    read: Callable[..., Iterator[RecordingRow | DetectionRow]] = (
        reader.recordings if kind == "recordings" else reader.detections
    )

    whole = list(read(Filters(), newest_first=newest_first))
    seen: list[RecordingRow | DetectionRow] = []
    last: UUID | None = None
    while page := list(read(Filters(), newest_first=newest_first, after=last, limit=1)):
        seen += page
        last = page[-1].id

    assert seen == whole
    in_order = sorted(whole, key=lambda one: one.started_on, reverse=newest_first)
    assert names(ids, in_order) == names(ids, whole)
    assert list(read(Filters(), after=uuid4())) == []


def test_a_row_says_everything(store: SqliteStore, reader: Reader) -> None:
    ids = fill(store)

    first = next(reader.detections(Filters()))

    expected = {
        "start_s": 0.5,
        "end_s": 0.6,
        "score": 0.9,
        "started_on": at(0.5),
        "ended_on": at(0.6),
        "box": (0.5, 20_000, 0.6, 60_000),
        "species": data.PredictedTag(data.Tag("species", BAT), 0.9),
        "model": "bats",
        "provenance": MADE_BY,
    }
    assert {name: getattr(first, name) for name in expected} == expected
    of_recording = {
        "id": ids["a"],
        "deployment": SITE,
        "path": Path("/spool/a.wav"),
        "duration_s": 3,
        "samplerate_hz": 256_000,
        "ended_on": at(3),
    }
    if isinstance(reader, Reported):
        of_recording["path"] = Path("a.wav")  # folders of a sensor mean nothing elsewhere
    assert {name: getattr(first.recording, name) for name in of_recording} == of_recording
    assert reader.detection(ids["a0"]) == first
    assert [one.id for one in reader.detections_in(ids["a"])] == [ids["a0"], ids["a1"]]


def test_a_recording_counts_its_detections_and_stays_when_its_file_is_deleted(
    store: SqliteStore, reader: Reader
) -> None:
    ids = fill(store)

    assert [one.detections for one in reader.recordings(Filters())] == [2, 1, 0, 1]
    deleted = reader.recording(ids["b"])
    assert deleted is not None
    assert (deleted.path, deleted.state) == (None, STATE.DELETED)
    assert reader.recording(uuid4()) is None


def test_a_detection_without_a_box_or_a_tag_lasts_as_long_as_its_recording(
    store: SqliteStore, reader: Reader
) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    store.store_model_output(output(sound, detection(0.4)))

    [found] = reader.detections(Filters())

    assert (found.box, found.start_s, found.end_s) == (None, 0, 3)
    assert found.species is None
    assert found.provenance is None
    assert reader.count_detections("species", Filters()) == {"": 1}


def test_counts(store: SqliteStore, reader: Reader) -> None:
    fill(store)
    quarter = data.to_microseconds(at(0)) // 900_000_000

    assert reader.count_detections("species", Filters()) == {BAT: 3, BIRD: 1}
    assert reader.count_recordings("species", Filters()) == {BAT: 3, BIRD: 1}
    assert reader.count_recordings("deployment", Filters()) == {str(SITE.id): 2, str(LAKE.id): 2}
    assert reader.count_detections("quarter", Filters()) == {quarter: 3, quarter + 2: 1}


def test_species_have_a_first_a_last_and_a_best_that_can_be_heard(
    store: SqliteStore, reader: Reader
) -> None:
    ids = fill(store)
    store.end_recording(recording("d.wav", id=ids["d"]), STATE.DELETED)
    untagged = recording("e.wav", 3000)
    store.store_recording(untagged)
    store.store_model_output(output(untagged, nameless := detection(0.7)))

    assert reader.species(Filters()) == [
        SpeciesRow(BAT, 3, at(0.5), at(2000), ids["a0"]),
        SpeciesRow("", 1, at(3000), at(3000), nameless.id),
        SpeciesRow(BIRD, 1, at(2), at(2), ids["a1"]),
    ]
    gone = Filters(models=frozenset({"birds"}))
    assert reader.species(gone) == [SpeciesRow(BAT, 1, at(2000), at(2000), None)]


def test_what_there_is(store: SqliteStore, reader: Reader) -> None:
    fill(store)

    assert reader.get_deployments() == [SITE, LAKE]
    assert reader.get_models() == ["bats", "birds"]
    assert reader.get_tags() == [data.Tag("species", BAT), data.Tag("species", BIRD)]


def test_the_beginning_of_an_id_finds_it(store: SqliteStore, reader: Reader) -> None:
    sounds = [
        recording(None, id=UUID(text.ljust(32, "0"))) for text in ("abc1", "abc2", "abd", "0")
    ]
    for sound in sounds:
        store.store_recording(sound)

    assert set(reader.ids_of_recordings("ABC")) == {sounds[0].id, sounds[1].id}
    assert reader.ids_of_recordings(str(sounds[0].id)[:20]) == [sounds[0].id]
    assert len(reader.ids_of_recordings("a", limit=2)) == 2
    assert reader.ids_of_recordings("xyz") == []
    assert reader.ids_of_recordings("f") == reader.ids_of_detections("a") == []


# Verdicts


def verdict(ids: dict[str, UUID], name: str, said: Verdict, minutes: float = 0) -> VerdictRow:
    return VerdictRow(ids[name[0]], ids[name], said, None, "Ana", "", at(60 * minutes))


def test_the_last_verdict_counts_and_all_are_kept(store: SqliteStore, reader: Reader) -> None:
    ids = fill(store)
    given_ = [
        verdict(ids, "a0", Verdict.WRONG),
        verdict(ids, "a0", Verdict.RIGHT, 1),
        verdict(ids, "b0", Verdict.UNSURE, 2),
        verdict(ids, "b0", Verdict.WITHDRAWN, 3),
    ]
    for one in given_:
        store.add_verdict(one)

    assert list(reader.verdicts(Filters())) == given_
    right = Filters(verdicts=frozenset({Verdict.RIGHT}))
    assert names(ids, reader.detections(right)) == "a0"
    assert list(reader.verdicts(right)) == given_[:2]
    assert names(ids, reader.detections(Filters(verdicts=frozenset({None})))) == "a1 b0 d0"
    assert [one.verdict for one in reader.detections(Filters())] == [given_[1], None, None, None]


def test_a_verdict_on_a_whole_recording_is_read_where_no_detections_are_asked_for(
    store: SqliteStore, reader: Reader
) -> None:
    ids = fill(store)
    missed = VerdictRow(ids["c"], None, Verdict.WRONG, BAT, "Ana", "faint", at(9))
    store.add_verdict(missed)

    assert list(reader.verdicts(Filters())) == [missed]
    assert list(reader.verdicts(Filters(min_score=0.1))) == []
    assert list(reader.verdicts(Filters(until=at(1000)))) == []


def test_a_verdict_on_what_is_not_stored_is_refused(store: SqliteStore) -> None:
    with pytest.raises(MetadataStoreError, match="not in the metadata store"):
        store.add_verdict(VerdictRow(uuid4(), None, Verdict.RIGHT, None, "Ana", "", at(0)))


# Provenance


def test_provenance_is_stored_once_for_each_way(store: SqliteStore, path: Path) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    other = MADE_BY.model_copy(update={"weights": None})
    for made_by in (MADE_BY, other, MADE_BY, other, None):
        store.store_model_output(output(sound, provenance=made_by))

    [(_, outputs)] = store.get_recordings([sound.id])
    found = [one.provenance for one in outputs]
    assert (found.count(MADE_BY), found.count(other), found.count(None)) == (2, 2, 1)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM provenance").fetchone() == (2,)


# Other ways to read


def test_the_report_of_the_capture_and_the_analyses_are_read(
    store: SqliteStore, reader: Reader
) -> None:
    report = data.CaptureReport(
        stream_id=UUID(int=1),
        first_frame=0,
        frames=9,
        samplerate_measured=None,
        clock_synchronised=True,
        clock_error_s=0.5,
    )
    sound = recording("a.wav", capture=report)
    store.store_recording(sound)
    analysis = store.begin_analysis(sound, "bats")

    assert reader.capture(sound.id) == report
    assert reader.capture(uuid4()) is None
    assert reader.analyses(sound.id) == [analysis]
    assert reader.get_effort(SITE) == store.get_effort(SITE)


def test_messages_about_an_output_are_found_with_their_deliveries(tmp_path: Path) -> None:
    path, made = tmp_path / "messages.db", uuid4()
    reader: MessageReader = SqliteMessageReader(path)
    assert reader.messages_about(made, at(0)) == []
    store = SqliteMessageStore(path)
    about = data.Message(content=f'{{"id": "{made}"}}', created_on=at(5))
    for message in (about, data.Message(content=f'{{"id": "{uuid4()}"}}', created_on=at(5))):
        store.store_message(message)
    [claimed] = store.claim_messages("http", limit=1, order="newest_first")[:1]
    refused = data.Response(status=data.ResponseStatus.FAILED, message=about, content="busy")
    store.settle_message("http", refused)
    assert claimed

    [found] = reader.messages_about(made, at(0))

    assert (found.id, found.created_on, found.content) == (about.id, at(5), about.content)
    [delivery] = found.deliveries
    assert isinstance(delivery, Delivery)
    assert (delivery.messenger, delivery.state, delivery.attempts) == ("http", "pending", 1)
    assert reader.messages_about(made, at(6)) == []
    store.close()


def test_reading_leaves_nothing_behind_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    store = SqliteStore(path)
    fill(store)
    store.close()
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}

    with SqliteReader(path) as reader:
        assert len(list(reader.detections(Filters()))) == 4

    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_where_there_is_no_store_nothing_was_heard(tmp_path: Path) -> None:
    with SqliteReader(tmp_path / "metadata.db") as reader:
        assert reader.get_deployments() == []
        assert list(reader.detections(Filters())) == []

    assert list(tmp_path.iterdir()) == []


TIMES = st.integers(0, 40).map(lambda number: number / 2)


@settings(max_examples=25, deadline=None)
@given(
    sounds=st.lists(st.tuples(TIMES, st.lists(st.tuples(TIMES, st.floats(0, 1)))), max_size=6),
    since=TIMES,
    length=TIMES,
    least=st.floats(0, 1),
)
def test_filters_agree_with_plain_python(
    tmp_path_factory: pytest.TempPathFactory,
    sounds: list[tuple[float, list[tuple[float, float]]]],
    since: float,
    length: float,
    least: float,
) -> None:
    path = tmp_path_factory.mktemp("store") / "metadata.db"
    store = SqliteStore(path)
    expected = set()
    low, high = at(since), at(since + length)
    for seconds, found in sounds:
        sound = recording(None, seconds)
        store.store_recording(sound)
        made = [detection(score, location=box(start, start + 1)) for start, score in found]
        store.store_model_output(output(sound, *made))
        expected |= {
            one.id
            for one, (start, score) in zip(made, found, strict=True)
            if low <= at(seconds) + datetime.timedelta(seconds=start) < high and score >= least
        }
    store.close()
    with SqliteReader(path) as reader:
        filters = Filters(since=low, until=high, min_score=least)
        rows = list(reader.detections(filters, newest_first=True)) if sounds else []

    assert {one.id for one in rows} == expected
    for before, then in itertools.pairwise(rows):
        assert before.recording.started_on >= then.recording.started_on
        if before.recording is then.recording:
            assert before.start_s >= then.start_s
