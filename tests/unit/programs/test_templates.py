"""BasicProgram, MessagingProgram and DetectionProgram."""

import datetime
from pathlib import Path

import pytest
from celery import Celery

from acoupi import components, data
from acoupi.components import types
from acoupi.components.messengers import FileConfig, HTTPConfig, MQTTConfig
from acoupi.effort import CapturePlan, DailyWindows, SolarWindows
from acoupi.programs import connected, default, demo
from acoupi.programs.templates import (
    AudioConfiguration,
    BasicProgram,
    BasicProgramConfiguration,
    DetectionProgramConfiguration,
    DetectionsConfiguration,
    MessagingConfig,
    MessagingProgramConfiguration,
)
from acoupi.testing import ListMessenger, make_recording, make_wav
from tests.clocks import Clock
from tests.unit.programs.templates import (
    SUMMER,
    Basic,
    Detecting,
    Messaging,
    queues,
    times,
    to_file,
)

# Recording by the time of day.


def hours_recorded(config: BasicProgramConfiguration, clock: Clock, app: Celery) -> list[int]:
    conditions = Basic(config, app).get_recording_conditions(config)
    hours = []
    for hour in range(24):
        clock.now = SUMMER + datetime.timedelta(hours=hour, minutes=15)
        if all(condition.should_record() for condition in conditions):
            hours.append(hour)
    return hours


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [
        ("06:00", "22:30", list(range(6, 23))),
        ("19:00", "07:00", [*range(7), *range(19, 24)]),
        ("00:00", "00:00", list(range(24))),
    ],
)
def test_the_schedule_is_one_stretch_of_the_day(
    start: str, end: str, hours: list[int], clock: Clock, app: Celery
) -> None:
    recording = AudioConfiguration.model_validate({"schedule_start": start, "schedule_end": end})
    config = BasicProgramConfiguration(timezone="UTC", recording=recording)

    assert hours_recorded(config, clock, app) == hours


def test_the_default_schedule_does_not_record_at_night(clock: Clock, app: Celery) -> None:
    config = BasicProgramConfiguration()

    hours = hours_recorded(config, clock, app)

    assert hours == list(range(5, 22))  # British summer time: 06:15 is 05:15 UTC, to 22:15


# What a program is made of.


def test_a_basic_program_records_manages_and_recovers(app: Celery) -> None:
    Basic(BasicProgramConfiguration(), app)

    assert times(app) == {"recording_task": 10, "file_management_task": 120, "recovery_task": 60}
    assert queues(app) == {
        "recording_task": "recording",
        "file_management_task": "celery",
        "recovery_task": "celery",
    }


def test_the_plan_of_a_program_is_that_of_its_settings(app: Celery) -> None:
    config = BasicProgramConfiguration(timezone="Europe/Berlin")

    plan = Basic(config, app).get_capture_plan(config)

    hours = data.TimeInterval(
        start=config.recording.schedule_start, end=config.recording.schedule_end
    )
    assert plan == CapturePlan(
        duration=3,
        interval=10,
        windows=(DailyWindows(intervals=(hours,), timezone="Europe/Berlin"),),
        timezone="Europe/Berlin",
    )


def test_the_plan_of_a_program_goes_by_its_own_conditions(app: Celery) -> None:
    dusk = data.TimeInterval(start=datetime.time(19), end=datetime.time(22))
    dawn = data.TimeInterval(start=datetime.time(3), end=datetime.time(6))

    class Twilight(Basic):
        def get_recording_conditions(
            self, config: BasicProgramConfiguration
        ) -> list[types.RecordingCondition]:
            return [
                components.IsInIntervals([dusk, dawn], datetime.UTC),
                components.HasSufficientSpace(min_space=0),
            ]

    config = BasicProgramConfiguration()
    plan = Twilight(config, app).get_capture_plan(config)

    assert plan is not None
    assert plan.windows == (DailyWindows(intervals=(dusk, dawn), timezone="UTC"),)


def test_a_program_that_records_around_dawn_plans_to_do_so(app: Celery) -> None:
    class Dawn(Basic):
        def get_recording_conditions(
            self, config: BasicProgramConfiguration
        ) -> list[types.RecordingCondition]:
            get_deployment = self.store.get_current_deployment
            return [components.DawnTimeInterval(30, datetime.UTC, get_deployment=get_deployment)]

    config = BasicProgramConfiguration()
    plan = Dawn(config, app).get_capture_plan(config)

    assert plan is not None
    assert plan.windows == (SolarWindows(event="dawn", before=30, after=30, at_deployment=True),)


@pytest.mark.parametrize("program", [default.Program, connected.Program, demo.Program])
def test_our_own_programs_name_the_time_zone_in_file_names(
    app: Celery, tmp_path: Path, program: type[BasicProgram]
) -> None:
    config = program.config_schema()
    (manager,) = program(config, app).get_file_managers(config)
    recording = make_recording(path=make_wav(tmp_path / "a.wav"))

    place = manager.save_recording(recording)

    assert place is not None
    assert place.name == f"20240801_203000Z_{recording.id}.wav"


def test_a_recording_is_not_made_up_for_after_a_crash(app: Celery) -> None:
    program = Basic(BasicProgramConfiguration(), app)

    late = {name: task.acks_late for name, task in program.tasks.items()}
    assert late == {"recording_task": False, "file_management_task": True, "recovery_task": True}


def test_without_a_messenger_nothing_is_sent(app: Celery) -> None:
    program = Messaging(MessagingProgramConfiguration(), app)

    assert program.messenger is None
    assert program.messengers == []
    assert times(app).keys() == {"recording_task", "file_management_task", "recovery_task"}


def test_with_a_messenger_messages_and_signs_of_life_are_sent(app: Celery) -> None:
    Messaging(MessagingProgramConfiguration(messaging=to_file()), app)

    assert times(app)["send_messages_task"] == 120
    assert times(app)["heartbeat_task"] == 3600


def test_every_destination_that_is_configured_is_used(app: Celery) -> None:
    messaging = MessagingConfig(
        http=HTTPConfig(base_url="http://localhost/in"),
        mqtt=MQTTConfig(host="localhost", username="bat"),
        file=FileConfig(),
    )

    program = Messaging(MessagingProgramConfiguration(messaging=messaging), app)

    assert [type(messenger).__name__ for messenger in program.messengers] == [
        "HTTPMessenger",
        "MQTTMessenger",
        "FileMessenger",
    ]
    assert program.messenger is program.messengers[0]


@pytest.mark.parametrize("only", [ListMessenger("own"), None])
def test_a_program_may_configure_one_messenger_of_its_own(
    app: Celery, only: types.Messenger | None
) -> None:
    class Own(Messaging):
        def configure_messenger(
            self, config: MessagingProgramConfiguration
        ) -> types.Messenger | None:
            return only

    program = Own(MessagingProgramConfiguration(messaging=to_file()), app)

    assert program.messenger is only
    assert program.messengers == ([only] if only else [])
    assert ("send_messages_task" in program.tasks) == (only is not None)


def test_recordings_go_to_the_detection_queue(app: Celery) -> None:
    program = Detecting(DetectionProgramConfiguration(), app)

    task = program.tasks["recording_task"]
    assert [(callback.name, queue) for callback, queue in task.callbacks] == [
        ("detection_task", "detection")
    ]
    assert program.get_queue_names() == ["recording", "detection", "celery"]


def test_a_threshold_of_zero_cleans_nothing(app: Celery) -> None:
    everything = DetectionProgramConfiguration(detections=DetectionsConfiguration(threshold=0))
    program = Detecting(everything, app)

    assert program.get_output_cleaners(everything) == []
    assert len(program.get_output_cleaners(DetectionProgramConfiguration())) == 1
