"""The section ``disk`` of ``config/sensor.json``, and what it makes of the schedule."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from acoupi.config.disk import Disk, policy_of
from acoupi.space import FileClass, SpacePolicy, measured_rate
from tests.stores import recording

HOME = Path("/home/sensor")
CONFIG = {
    "microphone": {"samplerate": 384_000, "audio_channels": 1},
    "recording": {"duration": 3, "interval": 3},
}


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"reserve_megabytes": 1}, "reserve_megabytes"),
        ({"order": []}, "order"),
        ({"order": ["rare"]}, "order"),
        ({"order": ["review", "review"]}, "order"),
        ({"quotas": {"unremarkable": 60, "review": 41}}, "quotas"),
        ({"quotas": {"unremarkable": 101}}, "quotas"),
        ({"folders": {"/media/usb": 101}}, "folders"),
        ({"folders": {"usb": 10}}, "folders"),
        ({"mounts": ["/"]}, "mounts"),
        ({"mounts": ["usb"]}, "mounts"),
        ({"low_percent": 85}, None),
        ({"on_full": "explode"}, "on_full"),
        ({"best_per_night": 10**20}, "best_per_night"),
        ({"newest_per_night": 10**20}, "newest_per_night"),
    ],
)
def test_what_cannot_hold_is_refused_by_name(settings: dict[str, Any], place: str | None) -> None:
    with pytest.raises(ValidationError) as caught:
        Disk.model_validate(settings)

    (error,) = caught.value.errors()
    assert error["loc"][:1] == ((place,) if place else ())


def policy(config: dict[str, Any] = CONFIG, **settings: Any) -> SpacePolicy:
    return policy_of(Disk.model_validate(settings), config, HOME, datetime.UTC)


def test_it_is_off_as_long_as_nothing_is_said() -> None:
    assert not Disk().enabled


def test_the_reserve_is_an_hour_of_the_schedule_or_what_a_person_says() -> None:
    assert policy().reserve_bytes == 3600 * 768_000
    slow = {**CONFIG, "recording": {"duration": 3, "interval": 300}}
    assert policy(slow).reserve_bytes == 500_000_000
    assert policy({}).reserve_bytes == 500_000_000
    assert policy(reserve_megabytes=64).reserve_bytes == 64_000_000


def test_files_go_an_hour_before_the_reserve_is_reached_whatever_the_marks_say() -> None:
    marks = policy(high_percent=99, low_percent=98).marks(64 * 10**9)

    assert marks.act_below - marks.reserve == 3600 * 768_000
    assert marks.until > marks.act_below


def test_on_a_disk_of_minutes_they_go_when_a_tenth_of_it_is_left_above_the_reserve() -> None:
    marks = policy(reserve_megabytes=64).marks(512 * 10**6)

    assert marks.reserve < marks.act_below < marks.until < 512 * 10**6 / 2


def test_the_measured_rate_is_that_of_the_files_and_of_the_pauses(tmp_path: Path) -> None:
    sounds = [recording(None, 12 * number, samplerate=1000) for number in range(5, 0, -1)]
    assert measured_rate(sounds[:1]) is None
    assert measured_rate(sounds) == 3 * 1000 * 2 / 12

    (tmp_path / "half.flac").write_bytes(bytes(3000))
    sounds[0].path = tmp_path / "half.flac"
    assert measured_rate(sounds) == 3 * 1000 * 2 / 12 / 2


def test_the_order_is_that_of_the_settings() -> None:
    assert policy(order=["review", "unremarkable"]).order == [
        FileClass.REVIEW,
        FileClass.UNREMARKABLE,
    ]
