"""Recordings of others in the database of a hub: each once, with its time, or named."""

import datetime
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import requests
import soundfile
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from acoupi.errors import HubError, HubUnavailableError, RecordingFileError
from acoupi.hub import archive_files, archives, s3_archive
from acoupi.hub.archive_opening import open_archive
from acoupi.hub.archive_places import Archive, Entry, FolderArchive
from acoupi.hub.archive_rows import Season, troubles_in
from acoupi.hub.archives import Patience, TakenIn, take_in_archive
from acoupi.hub.audio import read_audio
from acoupi.hub.calling import HubClient
from acoupi.hub.database import HubDatabase
from acoupi.hub.ingest import serving_here
from acoupi.hub.parts import Hub
from acoupi.hub.sensors import get_sensors
from acoupi.hub.workers import add_worker
from acoupi.reports import ProgramReport
from tests.hub.recorders import RATE, audiomoth, read_frames, song_meter, wav_bytes, write
from tests.services import DEADLINE

PROGRAM = ProgramReport(program="bats", settings="{}", digest="d")
TakeIn = Callable[..., TakenIn]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "card"
    folder.mkdir()
    return folder


def season(**options: object) -> Season:
    known = {"sensor": "oak", "deployment": "Oak", "program": PROGRAM} | options
    return Season(**known)  # type: ignore[arg-type]


@pytest.fixture
def take_in(hub: HubDatabase, folder: Path) -> TakeIn:
    def take(
        archive: Archive | None = None,
        longest_s: float = 60,
        sleep: object = None,
        progress: Callable[[TakenIn], object] = lambda _: None,
        **options: object,
    ) -> TakenIn:
        patience = Patience(0 if sleep is None else 100, lambda _: None, sleep or (lambda _: None))  # type: ignore[arg-type]
        return take_in_archive(
            hub, archive or FolderArchive(folder), season(**options), longest_s=longest_s,
            progress=progress, patience=patience,
        )  # fmt: skip

    return take


def rows(hub: HubDatabase, statement: str) -> list[tuple[object, ...]]:
    with hub.reading() as connection:
        return [tuple(row) for row in connection.execute(statement)]


def recordings(hub: HubDatabase) -> list[tuple[str, str]]:
    found = rows(
        hub, "SELECT file_path, start_time FROM v_recording ORDER BY start_time, file_path"
    )
    return [(str(path), str(start)[:19]) for path, start in found]


def named(hub: HubDatabase, archive: Archive, **options: object) -> dict[str, str]:
    found = troubles_in(hub, archive, season(**options))
    return {one.key: f"{one.fate}: {one.why}" for one in found}


def sound_of(hub: HubDatabase, name: str) -> bytes:
    [(id_,)] = rows(hub, f"SELECT encode(id, 'hex') FROM recording WHERE path = '{name}'")
    return b"".join(read_audio(Hub(hub), UUID(str(id_))))


def test_recordings_of_others_get_their_times_places_and_jobs(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    audiomoth(folder / "A" / "20200101_000000.WAV", "19:22:55 14/12/2020 (UTC-5)")
    song_meter(folder / "SM4_20201215_012300.wav", "2020-12-15 02:23:00+0100", seed=1)
    write(folder / "2020-12-15T02_00_00.000Z.wav", wav_bytes(2, 2))
    write(folder / "CONFIG.TXT", b"hello")
    write(folder / "._20200101_000000.WAV", b"of a Mac")

    found = take_in()

    assert recordings(hub) == [
        ("A/20200101_000000.WAV", "2020-12-15T00:22:55"),
        ("SM4_20201215_012300.wav", "2020-12-15T01:23:00"),
        ("2020-12-15T02_00_00.000Z.wav", "2020-12-15T02:00:00"),
    ]
    assert (found.files, found.recordings, found.others) == (3, 3, {".txt": 1, ".wav": 1})
    assert rows(hub, "SELECT name, latitude_deg, longitude_deg FROM deployment") == [
        ("Oak", 51.5, -0.25)
    ]
    take_in(latitude=51.25, longitude=-0.5)
    assert rows(hub, "SELECT latitude_deg, longitude_deg FROM deployment") == [(51.25, -0.5)]
    assert rows(hub, "SELECT start_time, end_time FROM v_deployment") == [
        ("2020-12-15T00:22:55.000000Z", "2020-12-15T02:00:02.000000Z")
    ]
    assert rows(hub, "SELECT program, state, count(*) FROM job GROUP BY 1, 2") == [
        ("bats", "waiting", 3)
    ]
    [sensor] = get_sensors(hub)
    assert (sensor.name, sensor.has_token, sensor.recordings) == ("oak", False, 3)
    assert (
        sound_of(hub, "SM4_20201215_012300.wav")
        == (folder / "SM4_20201215_012300.wav").read_bytes()
    )


def test_effort_is_what_was_recorded_and_nothing_is_said_of_the_rest(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    for number, name in enumerate(("20240701_220000", "20240701_221000")):
        write(folder / f"{name}.WAV", wav_bytes(30, number))

    take_in()

    assert rows(hub, "SELECT start_time, duration_s, effort_state FROM v_effort ORDER BY 1") == [
        ("2024-07-01T22:00:00.000000Z", 30.0, "recorded"),
        ("2024-07-01T22:10:00.000000Z", 30.0, "recorded"),
    ]


def test_a_second_run_reads_only_what_is_new(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    for number in range(3):
        write(folder / f"20240701_22000{number}.WAV", wav_bytes(1, number))
    take_in()
    write(folder / "20240701_220005.WAV", wav_bytes(1, 5))
    read: list[str] = []

    class Counting(FolderArchive):
        def content(self, entry: Entry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
            read.append(entry.key)
            return super().content(entry, start, end)

    found = take_in(Counting(folder))

    assert (found.known, found.fates, found.recordings) == (3, {"taken": 1}, 1)
    assert read == ["20240701_220005.WAV"]
    assert len(recordings(hub)) == 4
    assert rows(hub, "SELECT ended_on_us - started_on_us FROM deployment") == [(6_000_000,)]


def test_another_program_or_other_settings_analyse_all_of_it_anew(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    write(folder / "20240701_220000.WAV", wav_bytes(1, 0))
    take_in()
    for other in (("birds", "d"), ("bats", "stricter")):
        take_in(program=ProgramReport(program=other[0], settings="{}", digest=other[1]))
    write(folder / "20240701_220005.WAV", wav_bytes(1, 5))
    take_in(program=ProgramReport(program="bats", settings="{}", digest="stricter"))

    orders = (
        "SELECT j.program, count(*) FROM job j GROUP BY j.program, j.settings_row ORDER BY 1, 2"
    )
    assert rows(hub, orders) == [("bats", 1), ("bats", 2), ("birds", 1)]


def test_a_run_that_was_killed_goes_on_where_it_was(
    hub: HubDatabase, folder: Path, take_in: TakeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "AT_ONCE", 2)
    for number in range(6):
        write(folder / f"20240701_22000{number}.WAV", wav_bytes(1, number))

    class Killed(FolderArchive):
        def entries(self, after: str = "") -> Iterator[Entry]:
            for number, one in enumerate(super().entries(after)):
                if number == 4:
                    raise KeyboardInterrupt
                yield one

    with pytest.raises(KeyboardInterrupt):
        take_in(Killed(folder))
    assert len(recordings(hub)) == 4

    found = take_in()

    assert (found.known, found.recordings, len(recordings(hub))) == (4, 2, 6)
    assert rows(hub, "SELECT count(*) FROM job") == [(6,)]


def test_files_that_cannot_be_taken_in_are_named_with_the_reason(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    write(folder / "20240701_220000.WAV", wav_bytes(1, 0))
    write(folder / "20240701_220100.WAV", wav_bytes(1, 1)[:-4000])
    write(folder / "20240701_220200.WAV", b"")
    write(folder / "20240701_220300.wav", b"RIFF nothing of that kind")
    write(folder / "noon.wav", wav_bytes(1, 2))
    write(folder / "19700101_000010.WAV", wav_bytes(1, 3))
    write(folder / "20990101_000010.WAV", wav_bytes(1, 4))
    outside = write(folder.parent / "20240701_220500.WAV", wav_bytes(1, 5))
    (folder / "20240701_220500.WAV").symlink_to(outside)
    (folder / "others").symlink_to(folder.parent)
    (folder / "20240701_220600.WAV").symlink_to(folder / "gone")
    os.mkfifo(folder / "20240701_220700.WAV")

    found = take_in()

    assert [path for path, _ in recordings(hub)] == ["20240701_220000.WAV"]
    why = named(hub, FolderArchive(folder))
    assert found.fates == {"taken": 1, "refused": 10}
    assert {key: words.partition(": ")[2][:36] for key, words in why.items()} == {
        "19700101_000010.WAV": "it says 1970-01-01 00:00:10: the clo",
        "20240701_220100.WAV": "its header promises 1.000 s of sound",
        "20240701_220200.WAV": "it is empty.",
        "20240701_220300.wav": "it does not start with RIFF and WAVE",
        "20240701_220500.WAV": "it is a link that leaves the folder",
        "20240701_220600.WAV": "it cannot be read: No such file or d",
        "20240701_220700.WAV": "it is a FIFO, where a file must be",
        "20990101_000010.WAV": "it says 2099-01-01 00:00:10: the clo",
        "noon.wav": "neither the file nor its name has th",
        "others/": "it is a link that leaves the folder",
    }
    write(folder / "20240701_220100.WAV", wav_bytes(1, 1))
    assert take_in().recordings == 1
    assert "20240701_220100.WAV" not in named(hub, FolderArchive(folder))


def test_a_file_that_is_being_written_waits_for_a_later_run(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    write(folder / "20240701_220000.WAV", wav_bytes(2, 0))
    now = datetime.datetime.now(datetime.UTC).timestamp()
    write(folder / "20240701_220100.WAV", wav_bytes(2, 1)[:-4000], now)
    path = folder / "20240701_220000.WAV"

    class Growing(FolderArchive):
        def content(self, entry: Entry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
            yield from super().content(entry, start, end)
            with path.open("ab") as file:
                file.write(b"more")

    take_in(Growing(folder))

    assert recordings(hub) == []
    said = named(hub, FolderArchive(folder))
    assert said["20240701_220000.WAV"] == "refused: it is still being written"
    assert said["20240701_220100.WAV"].endswith("(it may still be being copied)")
    write(path, wav_bytes(2, 0))
    write(folder / "20240701_220100.WAV", wav_bytes(2, 1))
    assert take_in().recordings == 2


def test_long_files_are_cut_into_equal_pieces_that_are_read_in_place(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    path = audiomoth(folder / "20240701_220000.WAV", "22:00:00 01/07/2024 (UTC)", seconds=10)

    found = take_in(longest_s=4)

    assert (found.files, found.recordings) == (1, 3)
    assert recordings(hub) == [
        ("20240701_220000.WAV".replace(".", "@0s."), "2024-07-01T22:00:00"),
        ("20240701_220000@3.333s.WAV", "2024-07-01T22:00:03"),
        ("20240701_220000@6.667s.WAV", "2024-07-01T22:00:06"),
    ]
    names = [name for name, _ in recordings(hub)]
    pieces = [sound_of(hub, name) for name in names]
    assert b"".join(map(read_frames, pieces)) == read_frames(path.read_bytes())
    [(id_,)] = rows(hub, f"SELECT encode(id, 'hex') FROM recording WHERE path = '{names[1]}'")
    for start, end in ((0, 10), (10, 100), (44, 45), (1000, None)):
        part = b"".join(read_audio(Hub(hub), UUID(str(id_)), start, end))
        assert part == pieces[1][start:end]
    assert take_in(longest_s=2).known == 1


def test_long_files_are_taken_in_one_after_another(
    hub: HubDatabase, folder: Path, take_in: TakeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "BYTES_AT_ONCE", 60_000)
    sizes: list[int] = []
    monkeypatch.setattr(archives, "AT_ONCE", 3)
    for number in range(6):
        write(folder / f"20240701_22000{number}.WAV", wav_bytes(1 if number else 4, number))

    class Sorted(FolderArchive):
        def entries(self, after: str = "") -> Iterator[Entry]:
            yield from sorted(super().entries(after), key=lambda one: one.key)

    take_in(Sorted(folder), progress=lambda found: sizes.append(found.files))

    assert sizes == [1, 4, 6]
    assert len(recordings(hub)) == 6


def test_two_archives_may_have_the_same_names(
    hub: HubDatabase, folder: Path, tmp_path: Path, take_in: TakeIn
) -> None:
    write(folder / "20240701_220000.WAV", wav_bytes(1, 0))
    write(tmp_path / "other" / "20240701_220000.WAV", wav_bytes(1, 1))
    take_in()

    found = take_in(FolderArchive(tmp_path / "other"))
    third = take_in(FolderArchive(tmp_path / "other"), sensor="elm", deployment="Elm")

    assert (found.fates, third.fates) == ({"taken": 1}, {"taken": 1})
    assert [path for path, _ in recordings(hub)] == ["20240701_220000.WAV"] * 3
    assert rows(hub, "SELECT count(DISTINCT sha256), count(*) FROM audio") == [(2, 3)]


def test_a_changed_file_is_another_recording_and_the_earlier_one_is_kept_without_sound(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    write(folder / "20240701_220000.WAV", wav_bytes(1, 0))
    take_in()
    write(folder / "20240701_220000.WAV", wav_bytes(1, 9), 1.7e9)

    found = take_in()

    assert found.fates == {"changed": 1}
    assert named(hub, FolderArchive(folder)) == {
        "20240701_220000.WAV": "changed: it holds other sound than before: both are in the hub"
    }
    statement = "SELECT r.state, j.state FROM recording r JOIN job j ON j.recording_row = r.row"
    states = sorted(rows(hub, statement))
    assert states == [("kept", "waiting"), ("lost", "failed")]
    assert rows(hub, "SELECT count(*) FROM audio") == [(1,)]
    with_file = "SELECT state FROM recording WHERE path IS NOT NULL"
    assert rows(hub, with_file) == [("kept",)]  # exports name no file that is no more

    write(folder / "20240701_220000.WAV", wav_bytes(1, 0), 1.71e9)
    assert take_in().fates == {"changed": 1}
    assert sorted(rows(hub, statement)) == [("kept", "waiting"), ("lost", "failed")]
    digests = "SELECT a.sha256, r.state, r.path FROM recording r JOIN audio a ON a.id = r.id"
    [(digest, state, path)] = rows(hub, digests)
    assert (digest, state, path) == (
        hashlib.sha256(wav_bytes(1, 0)).digest(), "kept", "20240701_220000.WAV",
    )  # fmt: skip


def test_a_copy_is_the_same_recording_and_so_is_a_file_that_was_moved(
    hub: HubDatabase, folder: Path, tmp_path: Path, take_in: TakeIn
) -> None:
    path = write(folder / "20240701_220000.WAV", wav_bytes(1, 0))
    write(folder / "backup" / path.name, path.read_bytes())

    first = take_in()
    again = take_in()

    assert (first.fates, again.known) == ({"taken": 1, "copy": 1}, 2)
    assert len(recordings(hub)) == 1
    folder.rename(tmp_path / "moved")
    moved = FolderArchive(tmp_path / "moved")
    take_in(moved)
    assert len(recordings(hub)) == 1
    [(place, key)] = rows(hub, "SELECT place, key FROM audio")
    assert Path(str(place), str(key)).read_bytes() == wav_bytes(1, 0)
    (tmp_path / "moved" / str(key)).unlink()
    gone = take_in(moved)
    assert (gone.vanished, named(hub, moved)) == (
        1, {str(key): "vanished: it was there in an earlier run"},
    )  # fmt: skip


def test_times_without_a_zone_are_of_the_zone_given_also_when_it_is_given_later(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    write(folder / "20240701_220000.WAV", wav_bytes(1, 0))
    audiomoth(folder / "20240701_230000.WAV", "23:00:00 01/07/2024 (UTC+1)", seed=1)
    take_in()
    assert [start for _, start in recordings(hub)] == ["2024-07-01T22:00:00"] * 2

    found = take_in(zone=ZoneInfo("Europe/London"))

    assert (found.known, found.recordings) == (1, 0)
    assert recordings(hub) == [
        ("20240701_220000.WAV", "2024-07-01T21:00:00"),
        ("20240701_230000.WAV", "2024-07-01T22:00:00"),
    ]
    assert rows(hub, "SELECT start_time FROM v_deployment") == [("2024-07-01T21:00:00.000000Z",)]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket of an S3 server; its address there."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)
    assert requests.put(f"{url}/bats", timeout=DEADLINE).status_code == 200
    yield f"{url}/bats"
    server.stop()


def test_a_bucket_is_taken_in_as_a_folder_is_and_its_pieces_read_in_place(
    hub: HubDatabase, bucket: str, folder: Path, take_in: TakeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_archive, "ENDS", 1 << 10)
    monkeypatch.setattr(s3_archive, "LISTED", 2)
    audiomoth(folder / "a.WAV", "22:00:00 01/07/2024 (UTC)", seconds=10)
    song_meter(folder / "20200101_000000.wav", "2024-07-01 23:00:00+0000", seed=1)
    soundfile.write(folder / "20240702_000000.flac", np.zeros(RATE, "int16"), RATE)
    write(folder / "cut_20240702_010000.wav", wav_bytes(1, 0)[:-4000])
    write(folder / "CONFIG.TXT", b"hello")
    for path in folder.iterdir():
        sent = requests.put(f"{bucket}/2024/x/{path.name}", path.read_bytes(), timeout=DEADLINE)
        assert sent.status_code == 200
    archive = open_archive("s3://bats/2024")

    found = take_in(archive, longest_s=4)

    assert (found.fates, found.others) == ({"taken": 3, "refused": 1}, {".txt": 1})
    assert recordings(hub) == [
        ("x/a@0s.WAV", "2024-07-01T22:00:00"),
        ("x/a@3.333s.WAV", "2024-07-01T22:00:03"),
        ("x/a@6.667s.WAV", "2024-07-01T22:00:06"),
        ("x/20200101_000000.wav", "2024-07-01T23:00:00"),
        ("x/20240702_000000.flac", "2024-07-02T00:00:00"),
    ]
    pieces = [read_frames(sound_of(hub, f"x/a@{start}s.WAV")) for start in (0, 3.333, 6.667)]
    assert b"".join(pieces) == read_frames((folder / "a.WAV").read_bytes())
    for name in ("20200101_000000.wav", "20240702_000000.flac"):
        assert sound_of(hub, f"x/{name}") == (folder / name).read_bytes()
    assert take_in(archive, longest_s=4).known == 3


def test_a_sound_that_is_not_as_it_was_taken_in_is_not_given_to_anybody(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    path = write(folder / "20240701_220000.WAV", wav_bytes(1, 0))
    outside = write(folder.parent / "secret.WAV", wav_bytes(1, 1))
    take_in()

    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(RecordingFileError, match="not in its archive any more"):
        sound_of(hub, path.name)
    path.unlink()
    with pytest.raises(RecordingFileError):
        sound_of(hub, path.name)
    path.symlink_to(outside)
    with pytest.raises(RecordingFileError) as slip:
        sound_of(hub, path.name)
    assert slip.value.why == "it is a link that leaves the folder."


def test_a_worker_that_gets_other_sound_than_was_taken_in_says_so_and_does_not_ask_for_ever(
    hub: HubDatabase, folder: Path, tmp_path: Path, take_in: TakeIn
) -> None:
    path = write(folder / "20240701_220000.WAV", wav_bytes(1, 0))
    take_in()
    [(id_, size, sha256)] = rows(hub, "SELECT id, bytes, encode(sha256, 'hex') FROM audio")
    token = SecretStr(add_worker(hub, "shed", "bats", "redis://localhost"))
    assert isinstance(id_, bytes) and isinstance(size, int)  # noqa: PT018 - for mypy
    address = f"/v1/audio/{UUID(bytes=id_)}"

    with serving_here(Hub(hub)) as url:
        client = HubClient(url, token)
        client.fetch(address, tmp_path / "first", size, str(sha256))
        write(path, wav_bytes(1, 1))
        with pytest.raises(HubError, match="other sound than it had stored") as slip:
            client.fetch(address, tmp_path / "second", size, str(sha256))

    assert (tmp_path / "first").read_bytes() == wav_bytes(1, 0)
    assert not isinstance(slip.value, HubUnavailableError)
    assert not (tmp_path / "second").exists()


def test_compressed_files_are_taken_whole_unless_that_is_too_much(
    hub: HubDatabase, folder: Path, take_in: TakeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(-2000, 2000, 3 * RATE).astype("int16")
    names = ["20240701_220000.flac", "2024-07-01T22_30_00.000Z.mp3"]
    for name in names:
        soundfile.write(folder / name, noise, RATE)
        os.utime(folder / name, (1.6e9, 1.6e9))
    monkeypatch.setattr(archive_files, "LARGEST_WHOLE", 2 * RATE)

    take_in(longest_s=2)
    said = "refused: it lasts 0 minutes and is compressed: convert it to WAV, which can be cut"
    assert named(hub, FolderArchive(folder)) == dict.fromkeys(names, said)
    monkeypatch.setattr(archive_files, "LARGEST_WHOLE", 3 * RATE)
    take_in(longest_s=2)
    assert [start for _, start in recordings(hub)] == ["2024-07-01T22:00:00", "2024-07-01T22:30:00"]
    assert rows(hub, "SELECT format FROM audio ORDER BY format") == [("flac",), ("mp3",)]
    for name in names:
        assert sound_of(hub, name) == (folder / name).read_bytes()


def test_what_does_not_answer_is_tried_again_and_given_up_in_the_end(
    hub: HubDatabase, folder: Path, take_in: TakeIn
) -> None:
    for number in range(3):
        write(folder / f"20240701_22000{number}.WAV", wav_bytes(1, number))
    pauses: list[float] = []

    class Failing(FolderArchive):
        failures = 3

        def entries(self, after: str = "") -> Iterator[Entry]:
            for one in sorted(super().entries(), key=lambda one: one.key):
                if one.key > after:
                    if one.key.endswith("1.WAV"):
                        self.fail()
                    yield one

        def content(self, entry: Entry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
            self.fail()
            return super().content(entry, start, end)

        def fail(self) -> None:
            self.failures -= 1
            if self.failures >= 0 or self.failures < -50:
                raise HubUnavailableError("503")

    found = take_in(Failing(folder), sleep=pauses.append)

    assert (found.recordings, len(recordings(hub))) == (3, 3)
    assert pauses == [1, 2, 4]
    stuck = Failing(folder)
    stuck.failures = 10**6
    with pytest.raises(HubUnavailableError):
        take_in(stuck, sleep=pauses.append)
    assert sum(pauses) < 300
