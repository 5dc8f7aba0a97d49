"""What a door does with a service that was taken over, and what it never does."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components import SqliteStore
from acoupi.door.client import at_socket
from acoupi.door.server import LEAST_BYTES, Limits
from acoupi.door.wire import LENGTH, MOST_BYTES, MOST_VALUES
from acoupi.errors import MessageStoreError, MetadataStoreError
from acoupi.services.doors import ROLES
from acoupi.testing import InMemoryMessageStore, InMemoryStore
from tests.clocks import RunningClock
from tests.doors import Doors
from tests.message_stores import message
from tests.services import DEADLINE, eventually
from tests.stores import detection, output, recording

MODEL = ROLES["model"]
QUICK = Limits(seconds=0.2, look_every=0.05)
SOUND = recording("a.wav")
HEARD = output(SOUND, detection(0.5, ("species", "Myotis", 0.5)))


@pytest.fixture
def kept() -> InMemoryStore:
    store = InMemoryStore()
    store.store_recording(SOUND)
    return store


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    with Doors(tmp_path, MODEL, Limits(look_every=0.05)) as made:
        yield made


@pytest.fixture
def store(doors: Doors, kept: InMemoryStore) -> SqliteStore:
    """The store as the worker of a model has it."""
    return doors.store(kept)


def connected(doors: Doors) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE)
    with at_socket(doors.folder) as address:
        connection.connect(address)
    return connection


def sent(doors: Doors, content: bytes, length: int | None = None) -> bytes:
    """What comes back for a request; b"" if the door ends the connection."""
    with closing(connected(doors)) as connection:
        try:
            connection.sendall(LENGTH.pack(len(content) if length is None else length) + content)
            return connection.recv(1 << 16)[LENGTH.size :]
        except (BrokenPipeError, ConnectionResetError):
            return b""


def called(doors: Doors, method: str, path: object, kind: str = "metadata", **given: Any) -> str:
    request = {"store": kind, "path": str(path), "method": method, "arguments": given}
    return sent(doors, json.dumps(request).encode()).decode()


def works(store: SqliteStore) -> bool:
    """Whether the next caller is answered, by the store and not for want of an answer."""
    return store.get_recordings([SOUND.id])[0][0].id == SOUND.id


# --- roles ---


def test_a_model_may_only_call_what_a_detection_needs(store: SqliteStore) -> None:
    for forbidden in (
        lambda: store.store_recording(recording("b.wav")),
        lambda: store.update_recording_path(SOUND, Path("/etc/shadow")),
        lambda: store.end_recording(SOUND, data.RecordingState.DELETED),
        lambda: store.store_deployment(SOUND.deployment),
        lambda: store.note_effort(SOUND.deployment, []),
        store.settle_deployments,
        store.get_detections,
    ):
        with pytest.raises(MetadataStoreError, match=r"door refuses .* worker detection") as caught:
            forbidden()
        assert len(caught.value.lines()) == 3

    assert works(store)


def test_a_model_may_leave_messages_and_do_nothing_else_with_them(doors: Doors) -> None:
    kept = InMemoryMessageStore()
    messages = doors.message_store(kept)

    messages.store_message(message())

    assert kept.get_unsent_messages() == [message()]
    with pytest.raises(MessageStoreError, match="door refuses"):
        messages.claim_messages("http")
    with pytest.raises(MessageStoreError, match="door refuses"):
        messages.get_unsent_messages()


def test_the_page_calls_no_method_of_a_store(tmp_path: Path, kept: InMemoryStore) -> None:
    with Doors(tmp_path, ROLES["web"]) as doors:
        page = doors.store(kept)

        for forbidden in (
            page.count_recordings,
            lambda: page.store_model_output(HEARD),
            lambda: page.begin_analysis(SOUND, "bats"),
        ):
            with pytest.raises(MetadataStoreError, match="door refuses"):
                forbidden()
    assert kept.get_analyses([SOUND]) == {SOUND.id: []}


def test_every_method_of_a_role_exists(kept: InMemoryStore) -> None:
    stores = {"metadata": kept, "messages": InMemoryMessageStore()}
    for kind, methods in MODEL.items():
        assert [name for name in methods if not hasattr(stores[kind], name)] == []


@pytest.mark.parametrize("method", ["_row_of", "__init__", "close", "_database", "nonsense", ""])
def test_nothing_but_the_named_methods_is_called(
    doors: Doors, store: SqliteStore, method: str
) -> None:
    assert "door refuses" in called(doors, method, store.db_path)
    assert works(store)


@pytest.mark.parametrize("path", ["/etc/passwd", "", "../metadata.db"])
def test_no_other_file_is_opened(doors: Doors, store: SqliteStore, path: str) -> None:
    assert "there is no such store" in called(doors, "get_recordings", path, ids=[])


# --- malformed input ---


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"null",
        b"\xff\x00garbage",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" + b"0," * MOST_VALUES + b"0]",
        b'{"store":"metadata","path":"","method":"x","arguments":{},"more":1}',
        b'{"store":"metadata","path":"","method":"x","arguments":{"a":{"$bytes":"?"}}}',
        b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    ],
    ids=range(10),
)
def test_malformed_input_ends_its_connection_only(
    doors: Doors, store: SqliteStore, content: bytes
) -> None:
    assert sent(doors, content) == b""
    assert works(store)


def test_an_oversized_request_is_not_received(doors: Doors, store: SqliteStore) -> None:
    assert sent(doors, b"x" * 1000, length=MOST_BYTES + 1) == b""
    assert sent(doors, b"x" * 1000, length=2**32 - 1) == b""
    assert works(store)


@pytest.mark.parametrize(
    "given",
    [
        {"ids": "x"},
        {"ids": [1]},
        {"more": 1},
        {"return": []},
        {"self": 1},
        {},
        {"ids": ["0" * 32] * 300},
    ],
    ids=range(7),
)
def test_wrong_arguments_are_answered_with_an_error(
    doors: Doors, store: SqliteStore, given: dict[str, Any]
) -> None:
    assert '"error":{' in called(doors, "get_recordings", store.db_path, **given)
    assert works(store)


def test_values_that_no_model_may_report_are_refused(doors: Doors, store: SqliteStore) -> None:
    plain = json.loads(HEARD.model_dump_json())
    plain["detections"][0]["detection_score"] = 7

    answer = called(doors, "store_model_output", store.db_path, model_output=plain)

    assert "detection_score must be between 0 and 1" in answer


def test_an_output_that_is_too_large_to_send_is_refused_in_three_lines(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoupi.door.wire.MOST_VALUES", 200)
    large = output(SOUND, *[detection(0.5)] * 50)

    with pytest.raises(MetadataStoreError, match="too large") as caught:
        store.store_model_output(large)

    assert len(caught.value.lines()) == 3


# --- floods ---


def test_no_recording_gets_more_results_than_can_be_read(
    store: SqliteStore, kept: InMemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoupi.components.stores.behind_door.MOST_OF_ONE", 3)
    monkeypatch.setattr("acoupi.components.stores.behind_door.MOST_DETECTIONS", 4)
    every = [output(SOUND, detection(), name_model=f"model {number}") for number in range(3)]
    for one in (*every, every[0]):  # what is replaced does not count
        store.begin_analysis(SOUND, one.name_model)
        store.store_model_output(one)
    more = output(SOUND, name_model="more")
    larger = every[0].model_copy(update={"detections": [detection() for _ in range(3)]})
    ended = data.Analysis(
        recording_id=SOUND.id, name_model="more", state=data.AnalysisState.DONE, attempts=1
    )

    for refused in (
        lambda: store.store_model_output(more),
        lambda: store.store_model_output(larger),
        lambda: store.begin_analysis(SOUND, "more"),
        lambda: store.end_analysis(ended),
    ):
        with pytest.raises(MetadataStoreError, match="accepts no more results") as caught:
            refused()
        assert len(caught.value.lines()) == 3
    assert len(kept.get_recording_model_outputs(SOUND)) == 3
    assert len(kept.get_analyses([SOUND])[SOUND.id]) == 3


def test_results_that_are_too_many_are_set_aside(
    doors: Doors, store: SqliteStore, kept: InMemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoupi.components.stores.behind_door.MOST_OF_ONE", 1)
    doors.close()
    for name in ("one", "more"):
        store.store_model_output(output(SOUND, name_model=name))

    doors.open()

    settle(doors)
    assert [one.name_model for one in kept.get_recording_model_outputs(SOUND)] == ["one"]


def test_a_folder_that_was_filled_does_not_fill_the_memory(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors.close()
    monkeypatch.setattr("acoupi.door.waiting._MOST_SEEN", 5)
    doors.waiting.folder.mkdir(parents=True)
    for number in range(20):
        (doors.waiting.folder / f"{number:012}-00000000.call").touch()

    assert len(doors.waiting.names()) == 5


def test_who_is_slow_is_in_nobodys_way_for_long(tmp_path: Path, kept: InMemoryStore) -> None:
    limits = Limits(connections=2, seconds=0.2, look_every=3600)
    with Doors(tmp_path, MODEL, limits) as doors, ExitStack() as stack:
        for _ in range(2):
            slow = stack.enter_context(closing(connected(doors)))
            slow.send(b"\0")

        store = doors.store(kept)
        eventually(lambda: store.get_recordings([SOUND.id]), "the door answers")


def test_an_answer_that_nobody_takes_is_dropped(tmp_path: Path, kept: InMemoryStore) -> None:
    for _ in range(200):
        kept.store_model_output(output(SOUND, *[detection() for _ in range(20)]))
    limits = Limits(connections=1, seconds=1, look_every=0.05)
    with Doors(tmp_path, MODEL, limits) as doors:
        store = doors.store(kept)
        request = {
            "store": "metadata", "path": str(store.db_path), "method": "get_recordings",
            "arguments": {"ids": [str(SOUND.id)]},
        }  # fmt: skip
        content = json.dumps(request).encode()
        with closing(connected(doors)) as greedy:
            greedy.sendall(LENGTH.pack(len(content)) + content)

            eventually(lambda: store.get_recordings([SOUND.id]), "the door answers")


def test_a_thousand_connections_leave_the_door_open(tmp_path: Path, kept: InMemoryStore) -> None:
    with Doors(tmp_path, MODEL, QUICK) as doors, ExitStack() as stack:
        refused = 0
        for _ in range(1000):
            one = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            one.setblocking(False)
            with at_socket(doors.folder) as address:
                refused += one.connect_ex(address) != 0
        assert refused > 500  # by the kernel: they cost the worker nothing
        assert doors.server is not None
        assert doors.server.is_alive()
        stack.close()

        store = doors.store(kept)
        eventually(lambda: store.get_recordings([SOUND.id]), "the door answers")


def test_what_is_accepted_of_a_service_is_bounded_by_the_hour(
    tmp_path: Path, kept: InMemoryStore, running_clock: RunningClock
) -> None:
    with Doors(tmp_path, MODEL, Limits(bytes_an_hour=3 * LEAST_BYTES)) as doors:
        store = doors.store(kept)
        for _ in range(3):
            assert works(store)
        with pytest.raises(MetadataStoreError, match="door accepts no more") as caught:
            works(store)
        assert len(caught.value.lines()) == 3
        assert "within the hour" in str(caught.value.why)

        running_clock.advance(3700)
        assert works(store)


def test_a_flood_is_logged_once(
    doors: Doors, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        sent(doors, b"garbage")
        called(doors, "close", store.db_path)
    assert works(store)

    assert len([one for one in caplog.records if "door of detection" in one.getMessage()]) == 2


def test_only_who_runs_the_service_is_let_in(
    tmp_path: Path, kept: InMemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)  # the kernel says who we are
    with Doors(tmp_path, MODEL) as doors:
        store = doors.store(kept)
        assert store.get_recordings([SOUND.id]) == []

        doors.waiting.folder.mkdir(parents=True)  # the folder of a service says who runs it
        assert works(store)


# --- while nobody answers ---


def analysed(store: SqliteStore) -> None:
    """What a detection does."""
    analysis = store.begin_analysis(SOUND, "bats")
    assert store.get_recording_model_outputs(SOUND) == []
    store.store_model_output(HEARD)
    store.end_analysis(analysis.model_copy(update={"state": data.AnalysisState.DONE}))


def settle(doors: Doors) -> None:
    """Wait until no call waits any more."""
    eventually(lambda: doors.waiting.names() == [], "every call that waited was made")


def test_what_a_model_does_while_nobody_answers_is_stored_later(
    doors: Doors, store: SqliteStore, kept: InMemoryStore
) -> None:
    doors.close()
    analysed(store)
    assert len(doors.waiting.names()) == 2
    assert kept.get_recordings([SOUND.id]) == [(SOUND, [])]

    doors.open()

    settle(doors)
    assert kept.get_recordings([SOUND.id]) == [(SOUND, [HEARD])]
    [analysis] = kept.get_analyses([SOUND])[SOUND.id]
    assert (analysis.state, analysis.attempts) == (data.AnalysisState.DONE, 1)


def test_many_calls_that_wait_are_all_made(
    doors: Doors, store: SqliteStore, kept: InMemoryStore
) -> None:
    doors.close()
    every = [output(SOUND, name_model=f"model {number}") for number in range(80)]
    for one in every:
        store.store_model_output(one)

    doors.open()

    settle(doors)
    assert len(kept.get_recording_model_outputs(SOUND)) == 80


def test_what_was_being_written_when_a_worker_was_killed_is_removed(doors: Doors) -> None:
    doors.waiting.put(b"whole")
    part = doors.waiting.folder / ".000000000002-00000000.call.0.part"
    part.write_text("hal")

    doors.waiting.clear_parts()

    assert not part.exists()


def test_what_waits_is_stored_before_what_comes_later(tmp_path: Path, kept: InMemoryStore) -> None:
    """Else an analysis could end before its output is stored, and the sound be deleted."""
    with Doors(tmp_path, MODEL, Limits(look_every=3600)) as doors:
        store = doors.store(kept)
        analysis = store.begin_analysis(SOUND, "bats")
        elsewhere = doors.folder.rename(tmp_path / "elsewhere")
        store.store_model_output(HEARD)
        elsewhere.rename(doors.folder)

        store.end_analysis(analysis.model_copy(update={"state": data.AnalysisState.DONE}))

        assert works(store)
        assert len(doors.waiting.names()) == 2
        [running] = kept.get_analyses([SOUND])[SOUND.id]
        assert running.state is data.AnalysisState.RUNNING


def test_a_call_that_was_made_already_changes_nothing(
    doors: Doors, store: SqliteStore, kept: InMemoryStore
) -> None:
    """The keeper was killed after it stored an output and before it said so."""
    analysed(store)
    doors.close()
    analysed_before = kept.get_recordings([SOUND.id]), kept.get_analyses([SOUND])
    store.store_model_output(HEARD)

    doors.open()

    settle(doors)
    assert (kept.get_recordings([SOUND.id]), kept.get_analyses([SOUND])) == analysed_before


def test_what_needs_an_answer_fails_in_three_lines(doors: Doors, store: SqliteStore) -> None:
    doors.close()

    with pytest.raises(MetadataStoreError, match="does not answer") as caught:
        store.get_analyses([SOUND])

    assert len(caught.value.lines()) == 3
    assert doors.waiting.names() == []


def test_a_keeper_that_hangs_is_not_waited_for(tmp_path: Path, kept: InMemoryStore) -> None:
    doors = Doors(tmp_path, MODEL)
    doors.door = type(doors.door)(doors.folder, doors.waiting, deadline=0.1)
    doors.folder.mkdir(parents=True)
    with closing(socket.socket(socket.AF_UNIX)) as hangs:
        with at_socket(doors.folder) as address:
            hangs.bind(address)
        hangs.listen()

        doors.store(kept).store_model_output(HEARD)

    assert len(doors.waiting.names()) == 1


def test_too_much_that_waits_is_refused(
    doors: Doors, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors.close()
    monkeypatch.setattr("acoupi.door.waiting.MOST_WAITING", 1)
    store.store_model_output(HEARD)

    with pytest.raises(MetadataStoreError, match="cannot keep store_model_output") as caught:
        store.store_model_output(HEARD)

    assert len(caught.value.lines()) == 3
    assert len(doors.waiting.names()) == 1


def planted(doors: Doors, what: str, secret: Path) -> str:
    """Put something in place of a call, as a service that was taken over can; return its name."""
    name = "000000000000-00000000.call"
    path = doors.waiting.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "a link":
        path.symlink_to(secret)
    elif what == "another name of a file":
        path.hardlink_to(secret)
    elif what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        path.mkdir()
    else:
        path.write_text(what)
    return name


@pytest.mark.parametrize(
    "what",
    [
        "a link", "another name of a file", "a pipe", "a folder", "", "no JSON", "[" * 10_000,
        '{"store":"metadata","path":"x","method":"store_recording","arguments":{}}',
    ],
)  # fmt: skip
def test_what_is_no_call_is_set_aside_and_holds_up_nothing(
    doors: Doors, store: SqliteStore, kept: InMemoryStore, tmp_path: Path, what: str
) -> None:
    doors.close()
    request = {
        "store": "metadata", "path": str(store.db_path), "method": "begin_analysis",
        "arguments": {"recording": json.loads(SOUND.model_dump_json()), "name_model": "planted"},
    }  # fmt: skip
    secret = tmp_path / "secret"
    secret.write_text(json.dumps(request))
    name = planted(doors, what, secret)
    store.store_model_output(HEARD)

    doors.open()

    settle(doors)
    assert kept.get_recordings([SOUND.id]) == [(SOUND, [HEARD])]
    assert kept.get_analyses([SOUND]) == {SOUND.id: []}
    assert [one.name for one in doors.waiting.folder.iterdir()] == [f"{name}.refused"]
    assert json.loads(secret.read_text()) == request


def test_an_output_of_an_unknown_recording_holds_up_nothing(
    doors: Doors, store: SqliteStore, kept: InMemoryStore
) -> None:
    doors.close()
    store.store_model_output(output(recording("elsewhere.wav")))
    store.store_model_output(HEARD)

    doors.open()

    settle(doors)
    assert kept.get_recordings([SOUND.id]) == [(SOUND, [HEARD])]


def test_a_folder_that_is_a_link_is_not_read(
    doors: Doors, store: SqliteStore, kept: InMemoryStore, tmp_path: Path
) -> None:
    doors.close()
    store.store_model_output(HEARD)
    doors.waiting.folder.rename(tmp_path / "elsewhere")
    doors.waiting.folder.symlink_to(tmp_path / "elsewhere")

    doors.open()

    assert works(store)
    assert kept.get_recordings([SOUND.id]) == [(SOUND, [])]


def test_a_door_opens_in_place_of_what_is_left_there(tmp_path: Path, kept: InMemoryStore) -> None:
    doors = Doors(tmp_path, MODEL)
    doors.folder.mkdir(parents=True)
    (tmp_path / "theirs").write_text("theirs")
    (doors.folder / "door.sock").symlink_to(tmp_path / "theirs")

    with doors:
        assert works(doors.store(kept))

    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_path_of_any_length_has_a_door(tmp_path: Path, kept: InMemoryStore) -> None:
    with Doors(tmp_path / ("x" * 200), MODEL) as doors:
        assert works(doors.store(kept))


def test_an_attempt_is_counted_by_the_process_that_made_it(
    doors: Doors, store: SqliteStore, kept: InMemoryStore
) -> None:
    """A worker that was ended from outside is not held against the recording."""
    kept.begin_analysis(SOUND, "bats")
    request = {"recording": json.loads(SOUND.model_dump_json()), "name_model": "bats"}
    for caller, attempts in (("boot:1:1", 1), ("boot:1:1", 2), ("boot:2:2", 2)):
        content = {
            "store": "metadata", "path": str(store.db_path), "method": "begin_analysis",
            "arguments": request, "caller": caller,
        }  # fmt: skip
        answer = json.loads(sent(doors, json.dumps(content).encode()))
        assert answer["result"]["attempts"] == attempts
