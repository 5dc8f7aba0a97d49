"""A sensor, a hub and an S3 store that refuses or is silent: told on both sides, nothing lost."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from acoupi.components.stores.unsent import SoundStanding, sound_standing
from acoupi.errors import HubUnavailableError
from acoupi.hub import s3_store
from acoupi.services import sounding
from tests.clocks import Clock
from tests.hub.reporting import Hub, Sensor
from tests.hub.stores_in_trouble import Front, Mood, in_front_of
from tests.hub.test_audio import KEYS
from tests.hub.test_sound import KILOBYTE, at_hub, files, keep
from tests.postgres import Postgres
from tests.services import DEADLINE, free_port

HOUR = 3600


@pytest.fixture
def store(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    with in_front_of(s3_server) as front:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": front.url}.items():
            monkeypatch.setenv(name, value)
        yield front


@pytest.fixture
def clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(sounding, "CHUNK", 16 * KILOBYTE)
    monkeypatch.setattr(sounding, "LEAST_CHUNK", KILOBYTE)
    return clock


@pytest.fixture
def bucket() -> str:
    return f"bats-{uuid4().hex[:8]}"


@pytest.fixture
def hub(store: Front, clock: Clock, postgres: Postgres, bucket: str) -> Iterator[Hub]:
    hub = Hub(postgres.new_database("trouble"), f"s3://{bucket}/2026")
    hub.start()
    yield hub
    store.end.set()
    hub.stop()


@pytest.fixture
def sensor(hub: Hub, tmp_path: Path) -> Iterator[Sensor]:
    sensor = Sensor(tmp_path, hub.url, hub.token)
    yield sensor
    sensor.close()


def make(store: Front, bucket: str) -> None:
    assert requests.put(f"{store.behind}/{bucket}", timeout=DEADLINE).status_code == 200


def work(sensor: Sensor, clock: Clock, seconds: int) -> SoundStanding:
    """Let the task of the sensor run once a minute, until all has arrived."""
    task = sensor.task(audio="all")
    for _ in range(0, seconds, 60):
        task()
        clock.advance(60)
        standing = sound_standing(sensor.path)
        assert standing is not None
        if not standing.waiting:
            break
    return standing


def recordings(hub: Hub) -> int:
    with hub.served.reading() as connection:
        return int(connection.one("SELECT count(*) FROM recording")[0])


AWAY = Mood(503, "SlowDown", after=1)
FULL = Mood(507, "XMinioStorageFull", methods={"PUT"}, after=1)
QUOTA = Mood(403, "QuotaExceeded", methods={"PUT"}, after=1)
UNKNOWN_KEY = Mood(403, "InvalidAccessKeyId")
OTHER_KEY = Mood(403, "SignatureDoesNotMatch")
NOT_ALLOWED = Mood(403, "AccessDenied", methods={"PUT"})


@pytest.mark.parametrize(
    ("mood", "status", "word"),
    [
        (AWAY, 503, "is failing"),
        (FULL, 507, "XMinioStorageFull"),
        (QUOTA, 507, "QuotaExceeded"),
        (UNKNOWN_KEY, 503, "refuses"),
        (OTHER_KEY, 503, "refuses"),
        (NOT_ALLOWED, 503, "refuses"),
    ],
)
def test_a_store_that_refuses_for_an_hour_is_told_on_both_sides_and_has_all_once_after_it(
    hub: Hub,
    sensor: Sensor,
    store: Front,
    clock: Clock,
    bucket: str,
    mood: Mood,
    status: int,
    word: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(store, bucket)
    sounds = [keep(sensor, number) for number in range(2)]
    store.become(mood)

    standing = work(sensor, clock, HOUR)

    assert standing.waiting == 2
    assert f"HTTP {status}: " in (standing.trouble or "")
    assert f"s3://{bucket}/2026" in (standing.trouble or "")
    assert word in (standing.trouble or "")
    assert mood.code in (standing.trouble or "")
    told = [one for one in caplog.records if one.name == "acoupi.hub.troubles"]
    assert told
    assert all(word in one.message for one in told)
    assert store.asked < 100
    assert recordings(hub) == 2  # reports arrive all the same

    store.become(None)
    standing = work(sensor, clock, HOUR)

    assert (standing.waiting, standing.trouble) == (0, None)
    assert at_hub(hub) == files(*sounds)


def test_a_bucket_that_is_not_there_is_told_and_all_arrives_once_it_is(
    hub: Hub,
    sensor: Sensor,
    store: Front,
    clock: Clock,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sounds = [keep(sensor, number) for number in range(2)]

    standing = work(sensor, clock, HOUR)

    assert (standing.waiting, recordings(hub)) == (2, 2)
    assert "HTTP 503: " in (standing.trouble or "")
    assert "NoSuchBucket" in (standing.trouble or "")
    assert "NoSuchBucket" in caplog.text

    make(store, bucket)
    standing = work(sensor, clock, HOUR)

    assert (standing.waiting, standing.trouble) == (0, None)
    assert at_hub(hub) == files(*sounds)


def test_a_store_that_falls_silent_is_waited_for_no_longer_than_its_deadline(
    hub: Hub,
    sensor: Sensor,
    store: Front,
    clock: Clock,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr(s3_store, "PATIENCE", datetime.timedelta(seconds=0.5))
        hub.stop()
        hub.start()
    make(store, bucket)
    sounds = [keep(sensor, number) for number in range(2)]
    store.become(Mood(0))

    standing = work(sensor, clock, HOUR)

    assert (standing.waiting, recordings(hub)) == (2, 2)
    assert "HTTP 503: the store of the hub's sound does not answer" in (standing.trouble or "")
    assert "does not answer" in caplog.text
    assert store.asked < 40

    store.become(None)
    standing = work(sensor, clock, HOUR)

    assert (standing.waiting, standing.trouble) == (0, None)
    assert at_hub(hub) == files(*sounds)


def test_a_store_that_did_not_answer_is_left_alone_for_a_while(
    store: Front, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "PATIENCE", datetime.timedelta(seconds=0.5))
    sound = s3_store.S3Store("bats")
    store.become(Mood(0))

    for _ in range(3):  # as many sensors ask
        with pytest.raises(HubUnavailableError, match="does not answer"):
            sound.sizes("ab")
    assert store.asked == 1
    clock.advance(s3_store.REST)
    with pytest.raises(HubUnavailableError, match="does not answer"):
        sound.put("ab/0", b"x")
    assert store.asked == 2


def test_keys_that_were_forgotten_are_told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")

    with pytest.raises(HubUnavailableError, match="there are no keys") as told:
        s3_store.S3Store("bats").sizes("ab")

    assert "AWS_ACCESS_KEY_ID" in str(told.value.help)


def test_a_bucket_that_was_deleted_is_not_taken_for_a_missing_chunk(
    store: Front, clock: Clock, bucket: str
) -> None:
    sound = s3_store.S3Store(bucket)

    with pytest.raises(HubUnavailableError, match=r"refuses .*NoSuchBucket"):
        sound.put("ab/0", b"x")
