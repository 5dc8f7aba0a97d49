"""What a sensor says of itself."""

import datetime
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from acoupi import data
from acoupi.audio.system_clock import ClockState
from acoupi.components import types
from acoupi.effort import CapturePlan
from acoupi.programs.status import StatusReport
from acoupi.space import SpacePolicy
from acoupi.tasks import generate_heartbeat_task
from acoupi.testing import InMemoryMessageStore, InMemoryStore, make_deployment, make_recording
from tests.clocks import Clock

NOW = datetime.datetime(2024, 8, 1, 20, 30, tzinfo=datetime.UTC)


class Condition(types.RecordingCondition):
    holds = True

    def should_record(self) -> bool:
        return self.holds


@pytest.fixture
def store() -> InMemoryStore:
    return InMemoryStore()


@pytest.fixture
def messages() -> InMemoryMessageStore:
    return InMemoryMessageStore()


@pytest.fixture(autouse=True)
def now(clock: Clock) -> None:
    clock.now = NOW


def record(store: types.Store, minutes_ago: float = 0) -> data.Recording:
    created_on = NOW - datetime.timedelta(minutes=minutes_ago)
    recording = make_recording(created_on=created_on)
    recording.path = Path(f"/spool/{recording.id}.wav")
    store.store_recording(recording)
    return recording


def fail(store: types.Store, recording: data.Recording) -> None:
    analysis = store.begin_analysis(recording, "model")
    store.end_analysis(analysis.model_copy(update={"state": data.AnalysisState.FAILED}))


def refuse(messages: InMemoryMessageStore) -> None:
    message = data.Message(content="{}")
    messages.store_message(message)
    answer = data.Response(status=data.ResponseStatus.ERROR, message=message)
    for _ in range(10):
        messages.settle_message("http", answer)


def test_a_sensor_that_records_is_well(
    store: InMemoryStore, messages: InMemoryMessageStore
) -> None:
    report = StatusReport(store, messages, [Condition()])
    first = report()
    record(store)

    assert (first, report()) == ("OK", "OK")


def test_a_sensor_that_records_nothing_says_so(store: InMemoryStore) -> None:
    report = StatusReport(store, conditions=[Condition()])
    record(store)
    report()

    assert report() == "nothing was recorded since the last report"


def test_a_sensor_that_is_not_to_record_is_well(store: InMemoryStore) -> None:
    condition = Condition()
    report = StatusReport(store, conditions=[condition])
    report()

    condition.holds = False
    asleep = report()
    condition.holds = True

    # It woke up just now.
    assert (asleep, report()) == ("OK", "OK")


def test_what_waits_for_long_is_told_each_time(store: InMemoryStore) -> None:
    record(store, minutes_ago=42)
    record(store)
    report = StatusReport(store)

    said = [report(), report()]

    assert all("2 recordings are waiting, the oldest for 42 minutes" in each for each in said)


def test_what_waits_for_a_moment_is_not_told(store: InMemoryStore) -> None:
    record(store, minutes_ago=5)

    assert StatusReport(store)() == "OK"


def test_losses_are_told_once(store: InMemoryStore, messages: InMemoryMessageStore) -> None:
    lost, bad = record(store), record(store)
    store.end_recording(lost, data.RecordingState.LOST)
    fail(store, bad)
    refuse(messages)
    condition = Condition()
    condition.holds = False
    report = StatusReport(store, messages, [condition])

    said = [report(), report()]

    assert said[0] == (
        "1 recordings were lost; 1 recordings could not be analysed; 1 messages were given up"
    )
    assert said[1] == "OK"


def send_heartbeat(messages: InMemoryMessageStore, report: StatusReport) -> str:
    """Store a heartbeat as the task does; return what it says of the sensor."""
    task = generate_heartbeat_task([], report.metrics(), status=report, message_store=messages)
    task()
    [*_, newest] = messages.get_unsent_messages()
    return str(json.loads(newest.content)["status"])


def test_the_first_report_after_a_restart_tells_what_is_new_since_the_last_heartbeat(
    store: InMemoryStore, messages: InMemoryMessageStore, clock: Clock
) -> None:
    def restarted() -> StatusReport:
        clock.advance(60)
        return StatusReport(store, messages)

    for recording in (record(store), record(store)):
        store.end_recording(recording, data.RecordingState.LOST)
    refuse(messages)
    said = [send_heartbeat(messages, restarted()), send_heartbeat(messages, restarted())]
    store.end_recording(record(store), data.RecordingState.LOST)
    said += [send_heartbeat(messages, restarted()), send_heartbeat(messages, restarted())]

    assert said == [
        "2 recordings were lost; 1 messages were given up",
        "OK",
        "1 recordings were lost",
        "OK",
    ]


@pytest.mark.parametrize("content", ["well", "[]", '{"metrics": null}', '{"metrics": []}'])
def test_a_heartbeat_without_these_figures_is_taken_to_have_told_them(
    store: InMemoryStore, messages: InMemoryMessageStore, content: str
) -> None:
    store.end_recording(record(store), data.RecordingState.LOST)
    messages.store_message(data.Message(content=content, message_type=data.MessageType.HEARTBEAT))
    report = StatusReport(store, messages)

    first = report()
    store.end_recording(record(store), data.RecordingState.LOST)

    assert (first, report()) == ("OK", "1 recordings were lost")


def test_a_server_that_does_not_let_the_sensor_in_is_told_each_time(
    store: InMemoryStore, messages: InMemoryMessageStore
) -> None:
    message = data.Message(content="{}")
    messages.store_message(message)
    refused = data.Response(
        status=data.ResponseStatus.ERROR,
        message=message,
        content="HTTP 401: expired",
        is_access_refused=True,
    )
    messages.settle_message("http:hub", refused)
    condition = Condition()
    condition.holds = False
    report = StatusReport(store, messages, [condition])

    said = [report(), report()]
    messages.settle_message(
        "http:hub", data.Response(status=data.ResponseStatus.SUCCESS, message=message)
    )

    wanted = "refused everything from the sensor since 2024-08-01 20:30 UTC: error: HTTP 401"
    assert all(f"http:hub has {wanted}" in each for each in said)
    assert report() == "OK"


def test_what_a_former_destination_did_not_take_is_no_news(
    store: InMemoryStore, messages: InMemoryMessageStore
) -> None:
    message = data.Message(content="{}")
    messages.store_message(message)
    not_found = data.Response(
        status=data.ResponseStatus.ERROR, message=message, is_access_refused=True
    )
    messages.settle_message("http:hub/wrong", not_found)
    messages.claim_messages("http:hub")

    reports = [StatusReport(store, messages, messengers=names) for names in (["http:hub"], None)]

    assert [report.count_unsent() for report in reports] == [1, 2]
    assert reports[0]() == "OK"
    assert "http:hub/wrong has refused everything" in reports[1]()


def test_totals_are_metrics(store: InMemoryStore, messages: InMemoryMessageStore) -> None:
    fail(store, record(store))
    refuse(messages)
    messages.store_message(data.Message(content="{}"))
    report = StatusReport(store, messages)
    report()

    figures = {metric().name: metric().value for metric in report.metrics()}

    assert figures == {
        "recordings_waiting": 1,
        "recordings_lost": 0,
        "analyses_failed": 1,
        "messages_waiting": 1,
        "messages_given_up": 1,
        "messages_expired": 0,
    }


def heard(store: types.Store, **changes: object) -> data.Recording:
    health = {
        "rms_dbfs": -50,
        "peak_dbfs": -3.5,
        "clipped_share": 0.02,
        "dc_offset": 0,
        "is_silent": False,
        "is_stuck": False,
        "noise_floor_dbfs": -71,
        **changes,
    }
    report = data.CaptureReport(
        stream_id=UUID(int=1),
        first_frame=0,
        frames=800,
        samplerate_measured=None,
        clock_synchronised=None,
        clock_error_s=None,
        health=data.MicrophoneHealth.model_validate(health),
    )
    recording = make_recording(created_on=NOW, capture=report)
    store.store_recording(recording)
    return recording


def test_the_levels_of_the_last_recording_are_metrics(store: InMemoryStore) -> None:
    report = StatusReport(store)
    assert {metric() for metric in report.microphone_metrics()} == {None}
    heard(store)

    figures = [metric() for metric in report.microphone_metrics()]

    assert [(one.name, one.value, one.unit) for one in figures if one is not None] == [
        ("microphone_rms", -50, "dBFS"),
        ("microphone_peak", -3.5, "dBFS"),
        ("microphone_noise_floor", -71, "dBFS"),
        ("microphone_clipping", 2, "%"),
    ]
    assert {one.captured_on for one in figures if one is not None} == {NOW}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "OK"),
        ({"is_silent": True}, "the microphone is silent, clipping 2 %"),
        ({"is_stuck": True}, "the microphone is stuck at one value at times, clipping 2 %"),
    ],
)
def test_a_deaf_microphone_is_not_well(
    store: InMemoryStore, changes: dict[str, object], said: str
) -> None:
    heard(store, **changes)

    assert StatusReport(store)() == said


def test_a_store_that_does_not_count_is_not_asked() -> None:
    class Published:
        """Has the published methods only."""

    report = StatusReport(Published(), Published(), [Condition()])  # type: ignore[arg-type]

    assert [report(), report()] == ["OK", "OK"]
    assert {metric().value for metric in report.metrics()} == {0}
    assert {metric() for metric in report.microphone_metrics()} == {None}


def missing(since_s: float, until_s: float) -> data.EffortSpan:
    start, end = (NOW - datetime.timedelta(seconds=ago) for ago in (since_s, until_s))
    return data.EffortSpan(start, end, data.EffortState.DEVICE_MISSING, "it was unplugged")


def test_a_missing_microphone_is_told(store: InMemoryStore) -> None:
    site = record(store, minutes_ago=5).deployment
    report = StatusReport(store)
    report()

    store.note_effort(site, [missing(120, 10)])

    assert report().startswith(
        "device missing since 2024-08-01 20:28:00 UTC: it was unplugged; nothing was recorded"
    )


@pytest.mark.parametrize(("ago", "is_told"), [(40, True), (620, True), (700, False)])
def test_what_kept_the_last_recording_from_being_made_is_told_until_the_next(
    store: InMemoryStore, ago: float, is_told: bool
) -> None:
    site = record(store, minutes_ago=60).deployment
    plan = CapturePlan(duration=60, interval=600)
    store.note_plan(site, plan, NOW - datetime.timedelta(hours=1))
    report = StatusReport(store)

    store.note_effort(site, [missing(ago + 10, ago)])

    assert ("device missing since" in report()) == is_told


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_microphone_that_was_missing_and_is_not_is_not_told(
    store: InMemoryStore, is_recorded: bool
) -> None:
    site = record(store, minutes_ago=5).deployment
    store.note_effort(site, [missing(600, 10 if is_recorded else 120)])
    if is_recorded:
        later = make_recording(created_on=NOW - datetime.timedelta(seconds=3), deployment=site)
        store.store_recording(later)

    assert StatusReport(store)() == "OK"


# The room


def policy(folder: Path, **changes: Any) -> SpacePolicy:
    return SpacePolicy(
        home=folder, spool=folder, recordings=folder, rate=1000, **{"reserve": 0, **changes}
    )


def space_figures(report: StatusReport) -> dict[str, float]:
    found = [measure() for measure in report.space_metrics()]
    return {one.name: one.value for one in found if one is not None}


def test_a_heartbeat_tells_the_room_and_what_went_where_a_policy_is_on(
    store: InMemoryStore, tmp_path: Path
) -> None:
    report = StatusReport(store)
    assert space_figures(report) == {}

    store.space = policy(tmp_path)
    figures = space_figures(report)
    assert figures["given_up"] == 0
    assert figures["disk_hours_left"] > 0

    store.space = policy(tmp_path, reserve=2**60)
    assert space_figures(report)["disk_hours_left"] == 0


def test_a_disk_that_is_not_mounted_is_a_fault(store: InMemoryStore, tmp_path: Path) -> None:
    store.space = policy(tmp_path, mounts=[tmp_path])

    assert f"no disk is mounted at {tmp_path}" in StatusReport(store)()


# What a fleet is judged by


def fleet_figures(report: StatusReport) -> dict[str, float]:
    found = [measure() for measure in report.fleet_metrics()]
    return {one.name: one.value for one in found if one is not None}


def test_a_heartbeat_tells_the_effort_of_the_last_day(store: InMemoryStore) -> None:
    report = StatusReport(store)
    assert "effort_recorded" not in fleet_figures(report)

    site = make_deployment(started_on=NOW - datetime.timedelta(hours=1))
    store.store_deployment(site)
    assert "effort_recorded" not in fleet_figures(report)  # the plan is not known

    store.note_plan(site, CapturePlan(duration=600, interval=600), site.started_on)
    for minutes in (60, 50, 40, 30, 10):
        created_on = NOW - datetime.timedelta(minutes=minutes)
        store.store_recording(make_recording(created_on=created_on, deployment=site, duration=600))
    figures = fleet_figures(report)

    assert (figures["effort_recorded"], figures["effort_planned"]) == (3000, 3600)


def test_the_clock_is_told_where_the_kernel_says(store: InMemoryStore, clock: Clock) -> None:
    for known, told in ((True, 1), (False, 0), (None, None)):
        clock.state = ClockState(known, None)
        assert fleet_figures(StatusReport(store)).get("clock_set") == told


def test_frequent_heartbeats_do_not_add_the_effort_up_each_time(clock: Clock) -> None:
    class Slow(InMemoryStore):
        def get_grouped_effort(self, *given: Any) -> Any:
            clock.advance(2)
            return super().get_grouped_effort(*given)

    store = Slow()
    site = make_deployment(started_on=NOW - datetime.timedelta(hours=1))
    store.store_deployment(site)
    store.note_plan(site, CapturePlan(duration=600, interval=600), site.started_on)
    report = StatusReport(store)
    planned = []
    for seconds in (0, 197, 2):
        clock.advance(seconds)
        planned.append(fleet_figures(report)["effort_planned"])

    assert planned == [3600, 3600, 3801]
