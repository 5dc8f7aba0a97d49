"""Configuration of the programs made from templates."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, ValidationError

from acoupi.config import parse_config_from_args
from acoupi.config.variables import as_variables
from acoupi.home import using_home
from acoupi.programs.fields import TimeZoneName
from acoupi.programs.saving import SaveRecordingFilter
from acoupi.programs.templates import (
    AudioConfiguration,
    BasicProgramConfiguration,
    DetectionProgramConfiguration,
    DetectionsConfiguration,
    MessagingConfig,
    MessagingProgramConfiguration,
    PathsConfiguration,
)
from acoupi.programs.templates.detection import configuration_digest

SCHEMAS = [BasicProgramConfiguration, MessagingProgramConfiguration, DetectionProgramConfiguration]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_everything_has_a_default(schema: type[BaseModel]) -> None:
    config = schema()

    assert schema.model_validate_json(config.model_dump_json()) == config


def test_defaults_are_whole_seconds() -> None:
    audio = AudioConfiguration()

    assert (repr(audio.duration), repr(audio.interval)) == ("3", "10")


def test_seconds_may_have_a_fraction() -> None:
    audio = AudioConfiguration.model_validate({"duration": "0.5", "interval": 0.5})

    assert (audio.duration, audio.interval) == (0.5, 0.5)


@pytest.mark.parametrize(
    "settings",
    [
        {"duration": 0},
        {"duration": -3},
        {"interval": -5},
        {"interval": 0},
        {"chunksize": 0},
        {"duration": float("nan")},
        {"interval": float("inf")},
        {"schedule_start": "13pm"},
        {"schedule_end": "25:00"},
    ],
)
def test_impossible_audio_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AudioConfiguration(**settings)


def test_an_interval_of_the_duration_or_less_means_without_a_gap() -> None:
    assert AudioConfiguration(duration=10, interval=10).interval == 10
    assert AudioConfiguration(duration=30, interval=10).interval == 10


@pytest.mark.parametrize("settings", [{"bits": 20}, {"ring_seconds": 2}, {"idle_close": -1}])
def test_a_ring_too_small_and_samples_that_do_not_exist_are_refused(
    settings: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        AudioConfiguration(**settings)


def test_a_section_of_ones_own_may_change_defaults_and_types() -> None:
    class Night(AudioConfiguration):
        duration: int = 9
        schedule_start: datetime.time = Field(default=datetime.time(19))

    assert Night().duration == 9
    with pytest.raises(ValidationError, match="greater than 0"):
        Night(interval=0)


def test_paths_follow_the_home(tmp_path: Path) -> None:
    with using_home(tmp_path / "there"):
        paths, messaging = PathsConfiguration(), MessagingConfig()

    data = tmp_path / "there" / "data"
    assert paths.db_metadata == data / "metadata.db"
    assert paths.recordings == data / "recordings"
    assert paths.tmp_audio == data / "spool"
    assert messaging.messages_db == data / "messages.db"


def test_paths_may_begin_with_a_tilde(tmp_path: Path) -> None:
    assert PathsConfiguration(recordings=Path("~/bats")).recordings == tmp_path / "bats"


def test_what_waits_and_what_is_kept_are_two_folders() -> None:
    with pytest.raises(ValidationError, match="different folders"):
        PathsConfiguration(recordings=Path("/a"), tmp_audio=Path("/a"))


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="not a time zone"):
        BasicProgramConfiguration(timezone="Europe/Londn")


@pytest.mark.parametrize(
    "settings",
    [
        {"message_send_interval": 0},
        {"heartbeat_interval": -1},
        {"max_messages": 0},
        {"message_order": "random"},
    ],
)
def test_impossible_messaging_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MessagingConfig(**settings)


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_a_threshold_is_a_score(threshold: float) -> None:
    with pytest.raises(ValidationError):
        DetectionsConfiguration(threshold=threshold)


@pytest.mark.parametrize(
    "settings",
    [
        {"before_dawndusk_duration": -1},
        {"frequency_duration": 40},
        {"frequency_interval": -30},
        {"starttime": "13pm"},
    ],
)
def test_impossible_saving_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SaveRecordingFilter(**settings)


def test_the_digest_is_of_what_changes_what_a_model_finds() -> None:
    class Config(DetectionProgramConfiguration):
        key: SecretStr = SecretStr("a")
        sizes: tuple[int, ...] = (1,)

    plain = configuration_digest(Config())

    elsewhere = Config(paths=PathsConfiguration(recordings=Path("/mnt/usb")))
    told = Config(messaging=MessagingConfig(message_send_interval=5))
    assert configuration_digest(elsewhere) == plain
    assert configuration_digest(told) == plain
    assert configuration_digest(Config(key=SecretStr("b"))) == plain
    assert configuration_digest(Config(sizes=(2,))) != plain
    assert configuration_digest(Config(detections=DetectionsConfiguration(threshold=0))) != plain


def test_the_digest_survives_the_configuration_file() -> None:
    config = DetectionProgramConfiguration(recording=AudioConfiguration(duration=5))
    read = DetectionProgramConfiguration.model_validate_json(config.model_dump_json())

    assert configuration_digest(read) == configuration_digest(config)


def test_setup_takes_the_zone_of_the_machine_where_nobody_answered() -> None:
    def made(*args: str, previous: Mapping[str, Any] | None = None) -> str:
        config = parse_config_from_args(
            BasicProgramConfiguration,
            list(args),
            prompt=False,
            environ={},
            previous=previous,
            suggestions={"timezone": "Asia/Tokyo"},
        )
        return config.timezone

    assert made() == "Asia/Tokyo"
    assert made("--timezone", "Europe/Oslo") == "Europe/Oslo"
    assert made(previous={"timezone": "Europe/London"}) == "Europe/London"
    assert BasicProgramConfiguration().timezone == "Europe/London"  # as published


def test_a_program_that_has_a_zone_of_its_own_keeps_it() -> None:
    class Ours(BasicProgramConfiguration):
        timezone: TimeZoneName = "Africa/Nairobi"

    config = parse_config_from_args(
        Ours, [], prompt=False, environ={}, suggestions={"timezone": "Asia/Tokyo"}
    )

    assert config.timezone == "Africa/Nairobi"


@pytest.mark.parametrize("zone", ["Europe/London", "Asia/Tokyo"])
def test_a_bundle_carries_the_zone_even_if_it_is_the_default(zone: str) -> None:
    variables = as_variables(BasicProgramConfiguration(timezone=zone))

    assert variables == {"ACOUPI_CONFIG__TIMEZONE": zone}
