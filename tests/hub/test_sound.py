"""A sensor that sends sound to a hub: real HTTP and PostgreSQL, and what can go wrong between."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from acoupi import data
from acoupi.clips import Clip
from acoupi.components.message_stores.outbox import OutboxLimits
from acoupi.components.messengers.hub import HubMessenger
from acoupi.components.stores.reporting import reports_of
from acoupi.components.stores.unsent import Unsent, UnsentSound, sound_standing
from acoupi.errors import RecordingFileError
from acoupi.exports.reviewing import newest_clips
from acoupi.heard import Filters
from acoupi.hub.audio import find_sound, read_audio
from acoupi.hub.audio_store import open_store
from acoupi.hub.database import HubDatabase
from acoupi.hub.parts import Hub as Parts
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor
from acoupi.hub.taking_in import take_in
from acoupi.services import sounding
from acoupi.space import HubAudio
from tests.clocks import Clock
from tests.hub.reporting import Hub, Sensor
from tests.postgres import Postgres
from tests.services import DEADLINE, eventually
from tests.stores import detection, output, recording

KILOBYTE = 1000


@pytest.fixture
def hub(postgres: Postgres, tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    hub = Hub(postgres.new_database("sound"), tmp_path / "hub")
    yield hub
    hub.stop()


@pytest.fixture
def sensor(hub: Hub, tmp_path: Path) -> Iterator[Sensor]:
    sensor = Sensor(tmp_path, hub.url, hub.token)
    yield sensor
    sensor.close()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounding, "CHUNK", 16 * KILOBYTE)
    monkeypatch.setattr(sounding, "LEAST_CHUNK", KILOBYTE)


def keep(
    sensor: Sensor, number: int, size: int = 40 * KILOBYTE, *, heard: bool = False
) -> data.Recording:
    """Record something that is kept; its bytes are its own."""
    sound = recording(f"{number}.wav", number * 10)
    sensor.store.store_recording(sound)
    if heard:
        sensor.store.store_model_output(output(sound, detection(0.9, ("species", "x", 0.9))))
    return sensor.store.update_recording_path(sound, write(sensor, f"{number}.wav", size))


def write(sensor: Sensor, name: str, size: int) -> Path:
    path = sensor.path.parent / name
    path.write_bytes(hashlib.shake_128(name.encode()).digest(size))
    return path


def clip_of(sensor: Sensor, sound: data.Recording) -> Clip:
    path = write(sensor, f"clip-{sound.id}.wav", 20 * KILOBYTE)
    clip = Clip(
        id=uuid4(),
        path=path,
        stream_id=uuid4(),
        first_frame=0,
        frames=100,
        samplerate=48_000,
        parts={sound.id: 0.0},
    )
    sensor.store.put_clip(clip)
    return clip


def at_hub(hub: Hub) -> dict[UUID, bytes]:
    """Return all sound that the hub has, by id; there are no other chunks."""
    with closing(HubDatabase(hub.database)) as database:
        parts = hub.parts(database)
        with database.reading() as connection:
            ids = [UUID(bytes=one) for (one,) in connection.execute("SELECT id FROM audio")]
        found = {one: b"".join(read_audio(parts, one)) for one in ids}
        assert parts.audio is not None
        chunks = sum(parts.audio.sizes("").values())
        assert chunks == sum(find_sound(parts, one).size for one in ids)
    return found


def files(*sounds: Any) -> dict[UUID, bytes]:
    return {one.id: one.path.read_bytes() for one in sounds}


def test_sound_arrives_byte_by_byte_and_once(hub: Hub, sensor: Sensor) -> None:
    hub.start()
    sounds = [keep(sensor, number, size) for number, size in enumerate([1, 16_000, 40_000])]

    first, second = sensor.send(), sensor.send()

    assert (first.waiting, first.trouble, second.waiting) == (0, None, 0)
    assert first.sent_on is not None
    assert at_hub(hub) == files(*sounds)


def test_a_hub_that_is_killed_while_sound_is_sent_has_it_once_in_the_end(
    hub: Hub, sensor: Sensor
) -> None:
    sounds = [keep(sensor, number, 600 * KILOBYTE) for number in range(6)]
    assert sensor.send().waiting == 6  # the link is down
    hub.start_process()
    sending = threading.Thread(target=sensor.send)
    sending.start()
    eventually(lambda: has_sent(sensor), "a first acknowledgement")
    hub.kill()
    sending.join(DEADLINE)
    was_cut = sensor.send()
    hub.start_process()

    eventually(lambda: sensor.send().waiting == 0, "all of it")  # a slow one needs several passes

    assert was_cut.waiting > 0
    assert sensor.standing().trouble is None
    assert at_hub(hub) == files(*sounds)


def has_sent(sensor: Sensor) -> bool:
    standing = sound_standing(sensor.path)
    return standing is not None and standing.sent_on is not None


class Killed(BaseException):
    """The worker that sends is killed."""


class Dying(HubMessenger):
    """Ends the worker after some chunks, each of which is sent twice."""

    left = 2

    def send_chunk(self, sound: UUID, sha256: str, start: int, chunk: bytes) -> data.Response:
        super().send_chunk(sound, sha256, start, chunk)
        answer = super().send_chunk(sound, sha256, start, chunk)
        self.left -= 1
        if not self.left:
            raise Killed
        return answer


def test_a_worker_that_is_killed_between_chunks_goes_on_with_what_is_missing(
    hub: Hub, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.start()
    sound = keep(sensor, 1, 100 * KILOBYTE)
    messenger, sensor.messenger = sensor.messenger, Dying(hub.url, SecretStr(hub.token))
    with pytest.raises(Killed):
        sensor.send()
    sensor.messenger.close()
    sensor.messenger, sent = messenger, []
    monkeypatch.setattr(sounding, "CHUNK", 30 * KILOBYTE)  # settings may have changed
    send = messenger.send_chunk

    def noted(sound: UUID, sha256: str, start: int, chunk: bytes) -> data.Response:
        sent.append(start)
        return send(sound, sha256, start, chunk)

    messenger.send_chunk = noted  # type: ignore[method-assign]

    assert sensor.send().waiting == 0
    assert sent == [32_000, 62_000, 92_000]
    assert at_hub(hub) == files(sound)


class Forgetting(UnsentSound):
    """Ends the worker before it notes what the hub acknowledged."""

    def acknowledge(self, sound: Unsent) -> None:
        raise Killed


def test_a_worker_that_is_killed_before_it_notes_an_answer_sends_nothing_again(
    hub: Hub, sensor: Sensor
) -> None:
    hub.start()
    sound = keep(sensor, 1)
    with closing(Forgetting(sensor.path)) as forgetting, pytest.raises(Killed):
        sensor.send(unsent=forgetting)
    sensor.messenger.send_chunk = None  # type: ignore[method-assign, assignment]

    assert sensor.send().waiting == 0
    assert at_hub(hub) == files(sound)


class Garbling(HubMessenger):
    """Sends chunks with a byte that is not right, and a digest that fits it."""

    def send_chunk(self, sound: UUID, sha256: str, start: int, chunk: bytes) -> data.Response:
        return super().send_chunk(sound, sha256, start, b"?" + chunk[1:])


def test_sound_that_does_not_fit_its_digest_is_told_and_sent_again(
    hub: Hub, sensor: Sensor
) -> None:
    hub.start()
    sound = keep(sensor, 1)
    right, sensor.messenger = sensor.messenger, Garbling(hub.url, SecretStr(hub.token))
    told = sensor.send()
    sensor.messenger.close()
    sensor.messenger = right

    assert "does not match its digest" in (told.trouble or "")
    assert told.waiting == 1
    assert sensor.send().waiting == 0
    assert at_hub(hub) == files(sound)


def test_a_file_that_cannot_be_read_keeps_no_other_from_arriving(hub: Hub, sensor: Sensor) -> None:
    hub.start()
    away, empty, there = keep(sensor, 1), keep(sensor, 2, 0), keep(sensor, 3)
    assert away.path is not None
    away.path.rename(away.path.with_suffix(".away"))

    standing = sensor.send()

    assert standing.waiting == 2
    assert "2.wav is empty" in (standing.trouble or "") or "1.wav" in (standing.trouble or "")
    assert set(at_hub(hub)) == {there.id}
    assert empty.id not in at_hub(hub)


def test_sound_of_what_belongs_to_another_sensor_is_not_sent(hub: Hub, sensor: Sensor) -> None:
    keep(sensor, 1)
    with closing(HubDatabase(hub.database)) as database:
        add_sensor(database, "elm-2")
        for report in reports_of(sensor.path):
            take_in(database, "elm-2", report)
    hub.start()

    assert sensor.send().waiting == 1
    assert at_hub(hub) == {}


def test_a_hub_without_room_is_told_and_reports_arrive_all_the_same(
    hub: Hub, sensor: Sensor, tmp_path: Path
) -> None:
    hub.start()
    keep(sensor, 1)
    assert hub.audio is not None
    hub.audio.rename(tmp_path / "unmounted")

    standing = sensor.send()

    assert "HTTP 503: the hub cannot use the folder of its sound" in (standing.trouble or "")
    assert standing.rests_until is not None
    assert sensor.standing().trouble is None
    assert sensor.standing().waiting == 0
    (tmp_path / "unmounted").rename(hub.audio)
    assert sensor.send().waiting == 0


def test_a_file_that_takes_longer_than_a_pass_arrives_by_and_by(
    hub: Hub, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.start()
    sound = keep(sensor, 1, 40 * KILOBYTE)
    task = sensor.task(audio="all")
    task()  # another would make the digest anew
    monkeypatch.setattr(sounding, "LONGEST_PASS", 0.0)
    second = keep(sensor, 2, 40 * KILOBYTE)
    described, made = sounding._described, []

    def counted(sound: Unsent) -> Any:
        made.append(sound.id)
        return described(sound)

    monkeypatch.setattr(sounding, "_described", counted)
    for _ in range(3):  # of 16 kB each
        task()

    assert made == [second.id]
    assert at_hub(hub) == files(sound, second)


def test_while_it_rests_no_sound_is_sent_before_a_start(hub: Hub, sensor: Sensor) -> None:
    hub.start()
    keep(sensor, 1)
    task = sensor.task(audio="all")
    task()
    keep(sensor, 2)
    sensor.unsent.settle("trouble", 600)

    task()

    standing = sound_standing(sensor.path)
    assert standing is not None
    assert (standing.waiting, standing.trouble) == (1, "trouble")

    sensor.task(audio="all")()  # of a worker that has just started

    standing = sound_standing(sensor.path)
    assert standing is not None
    assert (standing.waiting, standing.trouble) == (0, None)


@pytest.mark.parametrize(
    ("audio", "wanted"),
    [
        ("none", []),
        ("detections", ["heard", "clip"]),
        ("sample", ["sampled"]),
        ("all", ["heard", "quiet", "sampled"]),
    ],
)
@pytest.mark.parametrize("before", [False, True])
def test_the_policy_says_what_is_sent(
    hub: Hub, sensor: Sensor, audio: HubAudio, wanted: list[str], before: bool
) -> None:
    hub.start()
    if not before:
        sensor.report(sound=sensor.unsent, audio=audio)
    heard, quiet, sampled = keep(sensor, 1, heard=True), keep(sensor, 2), keep(sensor, 3)
    spooled = recording("4.wav", 40)
    sensor.store.store_recording(spooled)
    clip = clip_of(sensor, spooled)
    if audio != "all":
        sensor.store.end_recording(spooled, data.RecordingState.DELETED)
    put_into_sample(sensor, sampled)
    every = {"heard": heard, "quiet": quiet, "sampled": sampled, "clip": clip}

    sensor.report(sound=sensor.unsent, audio=audio)

    assert at_hub(hub) == files(*(every[one] for one in wanted))


def put_into_sample(sensor: Sensor, sound: data.Recording) -> None:
    with sensor.store._database.writing() as connection:
        connection.execute(
            "INSERT INTO sample (sample_group, rank, recording_row)"
            " SELECT 'x', 1, row FROM recording WHERE id = ?",
            (sound.id.bytes,),
        )


def test_another_policy_and_another_hub_choose_anew(hub: Hub, sensor: Sensor) -> None:
    hub.start()
    sounds = [keep(sensor, 1), keep(sensor, 2, heard=True)]

    assert sensor.send("detections").waiting == 0
    assert at_hub(hub) == files(sounds[1])
    assert sensor.send("all").waiting == 0
    assert at_hub(hub) == files(*sounds)
    assert sensor.send("none").policy == "none"
    known = sensor.unsent.start("hub:another", "all")
    assert known is not None
    assert known.waiting == 2


def test_what_is_deleted_on_the_sensor_is_owed_no_more(hub: Hub, sensor: Sensor) -> None:
    sensor.report(sound=sensor.unsent, audio="all")  # no hub answers
    sound = keep(sensor, 1)
    sensor.store.end_recording(sound, data.RecordingState.LOST)

    standing = sound_standing(sensor.path)
    assert standing is not None
    assert standing.waiting == 0


def test_what_only_the_hub_still_has_is_a_file_to_its_readers(hub: Hub, sensor: Sensor) -> None:
    hub.start()
    kept, unsent = keep(sensor, 1, heard=True), keep(sensor, 2, heard=True)
    assert sensor.send("all").waiting == 0
    with closing(HubDatabase(hub.database)) as database, database.writing() as connection:
        connection.execute("DELETE FROM audio WHERE id = :id", {"id": unsent.id.bytes})

    for one in (kept, unsent):
        sensor.store.end_recording(one, data.RecordingState.DELETED)
    sensor.report()

    with HubReader(hub.database) as reader:
        found = {one.id: (one.state, one.path) for one in reader.recordings(Filters())}
        offered = [clip.recording.id for clip in newest_clips(reader, Filters(), 10)]
    assert found == {
        kept.id: (data.RecordingState.KEPT, Path("1.wav")),
        unsent.id: (data.RecordingState.DELETED, None),
    }
    assert offered == [kept.id]


def test_sound_that_another_store_has_is_refused_by_name(
    hub: Hub, sensor: Sensor, tmp_path: Path
) -> None:
    hub.start()
    sound = keep(sensor, 1)
    assert sensor.send("all").waiting == 0
    (tmp_path / "other").mkdir()
    other = open_store(str(tmp_path / "other"))

    with closing(HubDatabase(hub.database)) as database:
        with pytest.raises(RecordingFileError, match="0 of the 40000 bytes") as raised:
            next(read_audio(Parts(database, other), sound.id))
        assert raised.value.status == 503


def test_sound_leaves_half_of_a_day_to_reports(hub: Hub, sensor: Sensor, clock: Clock) -> None:
    hub.start()
    sensor.messages.outbox = OutboxLimits(bytes_per_day=100_000)
    sound = keep(sensor, 1, 60 * KILOBYTE)

    first = sensor.send()
    spent = sum(sensor.messages.get_bytes_sent().values())

    assert (first.waiting, first.trouble) == (1, None)
    assert 20_000 < spent <= 40_000
    for _ in range(6):
        clock.advance(86_400)
        sensor.send()
    assert at_hub(hub) == files(sound)
