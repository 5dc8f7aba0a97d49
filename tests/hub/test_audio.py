"""The sound of a hub: sent in chunks, checked, read back; in a folder and in an S3 store."""

import errno
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests
from starlette.testclient import TestClient

from acoupi.components.stores import SqliteStore
from acoupi.components.stores.reporting import reports_of
from acoupi.errors import (
    ConfigurationError,
    HubError,
    HubFullError,
    HubUnavailableError,
    RecordingFileError,
)
from acoupi.hub import folder_store, tidying
from acoupi.hub.audio import read_audio, remove_given_up
from acoupi.hub.audio_store import AudioStore, open_store
from acoupi.hub.database import HubDatabase
from acoupi.hub.folder_store import FolderStore
from acoupi.hub.ingest import make_ingest
from acoupi.hub.parts import Hub
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.hub.taking_in import take_in
from acoupi.hub.tokens import digest_of
from acoupi.reports import digest_header
from tests.clocks import Clock
from tests.services import DEADLINE, eventually
from tests.stores import recording

DAY = 86_400
SOUND = bytes(range(256)) * 40 + b"end"
SHA256 = hashlib.sha256(SOUND).hexdigest()
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}


@pytest.fixture(params=["folder", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AudioStore:
    if request.param == "folder":
        (tmp_path / "sound").mkdir()
        return open_store(str(tmp_path / "sound"))
    url, bucket = request.getfixturevalue("s3_server"), f"bucket-{uuid4().hex[:8]}"
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)
    assert requests.put(f"{url}/{bucket}", timeout=DEADLINE).status_code == 200
    return open_store(f"s3://{bucket}/some/where")


def test_what_was_put_once_stays_as_it_is(store: AudioStore) -> None:
    store.put("ab/c/0", b"first")
    store.put("ab/c/0", b"first")
    store.put("ab/c/5", b"second")
    store.put("ab/cd/0", b"other")

    with pytest.raises(HubError, match="another chunk"):
        store.put("ab/c/0", b"FIRST")
    assert store.sizes("ab/c") == {"ab/c/0": 5, "ab/c/5": 6}
    assert store.sizes("nothing") == {}
    assert b"".join(store.stream("ab/c/5")) == b"second"
    assert b"".join(store.stream("ab/c/5", 1, 3)) == b"ec"


def test_what_is_deleted_is_gone_however_often(store: AudioStore) -> None:
    store.put("ab/c/0", b"first")
    for _ in range(2):
        store.delete("ab/c/0")

    assert store.sizes("ab") == {}
    with pytest.raises(HubError):
        list(store.stream("ab/c/0"))


class Full(http.server.BaseHTTPRequestHandler):
    """Answers every request as a store does that has no room, or that is away."""

    answer: tuple[int, str] = 503, "SlowDown"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, code = self.answer
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    handler = type("Answering", (Full,), {"answer": (status, code)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "raised", "words"),
    [
        (503, "SlowDown", HubUnavailableError, "is failing.*SlowDown"),
        (403, "QuotaExceeded", HubFullError, "no room for more sound.*QuotaExceeded"),
        (507, "XMinioStorageFull", HubFullError, "no room for more sound"),
        (403, "AccessDenied", HubUnavailableError, "refuses.*AccessDenied"),
    ],
)
def test_a_store_that_takes_nothing_is_told_by_name(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, raised: type[HubError], words: str
) -> None:
    with answering(status, code) as url:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)

        with pytest.raises(raised, match=words):
            open_store("s3://bucket").put("a/0", b"x")


def test_a_disk_that_is_full_is_told_by_name_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder_store.os, "fsync", full)
    with pytest.raises(HubFullError, match=r"no room for more sound .*no space left on device"):
        store.put("ab", b"x")
    monkeypatch.undo()
    assert store.sizes("") == {}
    assert list(tmp_path.rglob("*.part")) == []


def test_a_folder_whose_disk_is_away_is_not_made(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "away")

    with pytest.raises(HubUnavailableError, match="may not be mounted"):
        store.put("ab/0", b"x")
    assert not store.folder.exists()


@pytest.mark.parametrize("url", ["sound", "ftp://host/x", "s3://", "/no/such/folder"])
def test_a_place_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="sound of"):
        open_store(url)


# The pages


class Server:
    """A hub, and two sensors that know it; "oak-1" has reported a recording."""

    def __init__(self, database: HubDatabase, store: AudioStore, folder: Path) -> None:
        self.hub = Hub(database, store)
        self.client = TestClient(make_ingest(self.hub))
        self.tokens = {}
        for name in ("oak-1", "elm-2"):
            add_sensor(database, name)
            self.tokens[name] = make_token(database, name)
        with database.writing() as connection:
            for name, role in [("ada", "reviewer"), ("bob", "reader")]:
                connection.execute(
                    "INSERT INTO person (name, role, token_sha256, added_on_us)"
                    " VALUES (:name, :role, :digest, 0)",
                    {"name": name, "role": role, "digest": digest_of(name)},
                )
        known = SqliteStore(folder / "metadata.db")
        sound = recording("a.wav")
        known.store_recording(sound)
        known.close()
        self.sound = sound.id
        for report in reports_of(folder / "metadata.db"):
            take_in(database, "oak-1", report)

    def ask(self, method: str, path: str, who: str = "oak-1", **more: Any) -> Any:
        headers = {
            "Authorization": f"Bearer {self.tokens.get(who, who)}",
            **more.pop("headers", {}),
        }
        return self.client.request(method, f"/v1/audio/{path}", headers=headers, **more)

    def offer(self, sound: UUID | None = None, who: str = "oak-1", **more: Any) -> Any:
        offered = {"format": "wav", "bytes": len(SOUND), "sha256": SHA256, **more}
        return self.ask("POST", str(sound or self.sound), who, json=offered)

    def put(self, start: int, chunk: bytes, who: str = "oak-1", sha256: str = SHA256) -> Any:
        headers = {"Content-Digest": digest_header(chunk)}
        path = f"{self.sound}/{sha256}/{start}"
        return self.ask("PUT", path, who, content=chunk, headers=headers)

    def heard(self) -> bytes:
        return b"".join(read_audio(self.hub, self.sound))


@pytest.fixture
def database(hub: HubDatabase) -> HubDatabase:
    return hub


@pytest.fixture
def server(database: HubDatabase, store: AudioStore, tmp_path: Path) -> Server:
    return Server(database, store, tmp_path)


@pytest.fixture
def one_server(database: HubDatabase, tmp_path: Path) -> Server:
    (tmp_path / "kept").mkdir()
    return Server(database, FolderStore(tmp_path / "kept"), tmp_path)


def test_sound_that_came_in_chunks_is_read_as_it_was(server: Server) -> None:
    asked = server.offer()
    assert (asked.status_code, asked.json()) == (202, {"stored": False, "received": 0})
    for start, end in [(0, 5000), (0, 5000), (5000, 9000), (9000, len(SOUND))]:
        assert server.put(start, SOUND[start:end]).status_code == 200
    for _ in range(2):
        assert (server.offer().status_code, server.offer().json()) == (200, {"stored": True})

    assert server.heard() == SOUND
    assert b"".join(read_audio(server.hub, server.sound, 4990, 9010)) == SOUND[4990:9010]
    heard = server.ask("GET", str(server.sound), "ada")
    assert (heard.status_code, heard.content) == (200, SOUND)
    assert heard.headers["Content-Type"] == "audio/wav"
    part = server.ask("GET", str(server.sound), "ada", headers={"Range": "bytes=4999-5000"})
    assert (part.status_code, part.content) == (206, SOUND[4999:5001])
    assert part.headers["Content-Range"] == f"bytes 4999-5000/{len(SOUND)}"
    none = server.ask("GET", str(server.sound), "ada", headers={"Range": "bytes=99999-"})
    assert none.status_code == 416


def test_a_gap_is_told(one_server: Server) -> None:
    one_server.put(0, SOUND[:100])
    one_server.put(200, SOUND[200:])

    asked = one_server.offer()

    assert (asked.status_code, asked.json()["received"]) == (202, 100)
    with pytest.raises(RecordingFileError, match="no sound"):
        one_server.heard()


def test_a_chunk_that_does_not_fit_its_digest_is_refused(one_server: Server) -> None:
    headers = {"Content-Digest": digest_header(b"something else")}
    path = f"{one_server.sound}/{SHA256}/0"
    for more in ({"content": SOUND, "headers": headers}, {"content": SOUND}, {}):
        told = one_server.ask("PUT", path, **more)
        assert told.status_code == 422
        assert "does not match its digest" in told.json()["error"]
    assert one_server.put(0, SOUND, sha256="../x").status_code == 404
    assert one_server.put(0, SOUND, sha256="x").status_code == 422
    assert one_server.offer().json()["received"] == 0


def test_sound_that_does_not_fit_its_digest_is_refused_and_can_be_sent_again(
    one_server: Server,
) -> None:
    one_server.put(0, b"x" + SOUND[1:])

    told = one_server.offer()

    assert told.status_code == 409
    assert "does not match its digest" in told.json()["error"]
    assert one_server.offer().json()["received"] == 0
    one_server.put(0, SOUND)
    assert one_server.offer().status_code == 200
    assert one_server.heard() == SOUND


def test_sound_that_became_another_is_refused_and_the_first_stays(one_server: Server) -> None:
    one_server.put(0, SOUND)
    one_server.offer()

    told = one_server.offer(sha256="0" * 64)

    assert told.status_code == 409
    assert "other sound" in told.json()["error"]
    assert one_server.heard() == SOUND


def test_what_was_begun_of_an_earlier_state_of_a_file_goes(one_server: Server) -> None:
    one_server.put(0, b"half", sha256="0" * 64)
    one_server.put(0, SOUND)
    one_server.offer()

    assert one_server.hub.audio is not None
    [key] = one_server.hub.audio.sizes("")
    assert SHA256 in key


def test_chunks_of_a_sound_that_was_given_up_go_after_a_month_without_a_word(
    server: Server, clock: Clock
) -> None:
    assert server.hub.audio is not None
    server.put(0, SOUND[:5000])
    clock.advance(29 * DAY)
    assert server.offer().json()["received"] == 5000  # it is still at it
    clock.advance(29 * DAY)
    assert remove_given_up(server.hub) == 0
    assert server.offer().json()["received"] == 5000

    clock.advance(31 * DAY)
    assert remove_given_up(server.hub) == 1

    assert server.hub.audio.sizes("") == {}
    assert remove_given_up(server.hub) == 0
    assert server.offer().json()["received"] == 0
    server.put(0, SOUND)
    assert server.offer().json() == {"stored": True}
    server.put(0, SOUND)  # late
    clock.advance(31 * DAY)
    remove_given_up(server.hub)
    assert server.heard() == SOUND


def test_what_is_being_removed_is_told_until_it_is_gone(one_server: Server, clock: Clock) -> None:
    store = one_server.hub.audio
    assert isinstance(store, FolderStore)
    one_server.put(0, SOUND)
    clock.advance(31 * DAY)
    away = store.folder.rename(store.folder.with_name("away"))
    with pytest.raises(HubUnavailableError):
        remove_given_up(one_server.hub)
    away.rename(store.folder)

    told = one_server.offer()
    assert (told.status_code, told.headers["Retry-After"]) == (503, "60")
    assert "is removing the chunks" in told.json()["error"]
    assert one_server.put(0, SOUND).status_code == 503

    assert remove_given_up(one_server.hub) == 1
    assert one_server.offer().json()["received"] == 0


class Slow(FolderStore):
    """So slow that something happens while it reads."""

    meanwhile: Callable[[], object]

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        yield from super().stream(key, start, end)
        self.meanwhile()


def test_a_sound_that_is_given_up_while_it_is_taken_in_is_sent_again(
    database: HubDatabase, tmp_path: Path, clock: Clock
) -> None:
    store = Slow(tmp_path / "kept")
    store.folder.mkdir()
    server = Server(database, store, tmp_path)
    server.put(0, SOUND)

    def give_up() -> None:
        clock.advance(31 * DAY)  # the clock of the hub was set
        assert remove_given_up(server.hub) == 1

    store.meanwhile = give_up
    assert server.offer().status_code == 503
    assert server.offer().json()["received"] == 0


def test_a_hub_that_serves_removes_what_was_given_up_in_lots(
    one_server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "PAUSE", 0.01)
    store = one_server.hub.audio
    assert isinstance(store, FolderStore)
    for number in range(25):  # more than a lot
        one_server.put(0, bytes([number]), sha256=f"{number:064x}")
    clock.advance(31 * DAY)

    with tidying.tidying(one_server.hub):
        eventually(lambda: not any(store.folder.iterdir()), "an empty store")


def test_a_sensor_sends_only_sound_of_its_own_recordings(one_server: Server) -> None:
    for told in (one_server.offer(who="elm-2"), one_server.put(0, SOUND, "elm-2")):
        assert told.status_code == 409
        assert "belongs to another sensor" in told.json()["error"]
    unknown = one_server.offer(uuid4())
    assert unknown.status_code == 409
    assert "has no recording or clip" in unknown.json()["error"]
    assert one_server.offer().json()["received"] == 0


@pytest.mark.parametrize(
    ("who", "status"), [("bob", 403), ("oak-1", 403), ("x", 401), ("ada", 404)]
)
def test_who_may_hear(one_server: Server, who: str, status: int) -> None:
    assert one_server.ask("GET", str(one_server.sound), who).status_code == status


@pytest.mark.parametrize("more", [{"format": "../mp3"}, {"sha256": "x"}, {"bytes": 0}])
def test_what_describes_no_sound_is_refused(one_server: Server, more: dict[str, Any]) -> None:
    told = one_server.offer(**more)

    assert told.status_code == 422
    assert "not a description of sound" in told.json()["error"]


def test_a_hub_without_a_place_for_sound_says_so(database: HubDatabase, tmp_path: Path) -> None:
    without = Server(database, FolderStore(tmp_path), tmp_path)
    without.client = TestClient(make_ingest(Hub(database)))

    assert without.offer().json()["error"] == "this hub keeps no sound."


class Refusing(FolderStore):
    """Takes nothing."""

    def put(self, key: str, content: bytes) -> None:
        raise HubFullError("the hub has no room for more sound (here).")


def test_a_full_store_is_told_to_the_sensor_and_once_a_minute_in_the_log(
    database: HubDatabase,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
) -> None:
    words = "the hub has no room for more sound (here)."
    server = Server(database, Refusing(tmp_path), tmp_path)
    for _ in range(2):
        told = server.put(0, SOUND)
        assert (told.status_code, told.json()["error"]) == (507, words)

    assert caplog.text.count(words) == 1
    clock.advance(60)
    server.put(0, SOUND)
    assert caplog.text.count(words) == 2


def test_a_sound_in_an_archive_is_read_in_place(one_server: Server, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "b.wav").write_bytes(SOUND)
    with one_server.hub.database.writing() as connection:
        connection.execute(
            "INSERT INTO audio (id, recording_row, is_clip, place, key, format, bytes, sha256,"
            " stored_on_us) SELECT id, row, false, :place, 'b.wav', 'wav', :size, :digest, 0"
            " FROM recording",
            {"place": str(archive), "size": len(SOUND), "digest": bytes.fromhex(SHA256)},
        )

    assert one_server.heard() == SOUND
    assert b"".join(read_audio(one_server.hub, one_server.sound, 7, 9)) == SOUND[7:9]
