"""What is left out when models are slower than the microphone, and when models wait."""

import datetime
from uuid import UUID, uuid4

import pytest

from acoupi import data
from acoupi.backlog import Backlog, Change, LeftOut, Policy, Waiting, choose, has_pauses
from acoupi.effort import CapturePlan, DailyWindows
from acoupi.pace import Pace
from acoupi.testing import make_deployment

NOW = datetime.datetime(2024, 8, 2, 2, tzinfo=datetime.UTC)
DEPLOYMENT = uuid4()


def waiting(count: int, deployment: UUID = DEPLOYMENT, until: float = 0) -> list[Waiting]:
    """Recordings that were made every 10 s, the last `until` seconds ago."""
    starts = (NOW - datetime.timedelta(seconds=until + 10 * n) for n in reversed(range(count)))
    return [Waiting(uuid4(), deployment, start) for start in starts]


def pace(
    takes: float | None = 36, comes: float | None = 10, every: int = 1, measured: int = 19
) -> Pace:
    return Pace(waiting=0, seconds_per_analysis=takes, seconds_per_recording=comes, every=every,
                measured=measured)  # fmt: skip


def chosen(policy: Policy, measured: Pace, rows: list[Waiting]) -> list[Change | LeftOut]:
    """With 36 s for each, 100 may wait: one hour of work."""
    return list(choose(Backlog(policy, 1.0), measured, rows, NOW))


@pytest.mark.parametrize("policy", ["none", "thin", "newest_first", "nightly"])
def test_within_the_limit_nothing_is_left_out(policy: Policy) -> None:
    assert chosen(policy, pace(), waiting(100)) == []


@pytest.mark.parametrize("policy", ["thin", "newest_first", "nightly"])
def test_nothing_is_decided_before_the_model_was_measured(policy: Policy) -> None:
    assert chosen(policy, pace(takes=None), waiting(5000)) == []
    assert chosen(policy, pace(measured=5), waiting(5000)) == []


@pytest.mark.parametrize(("takes", "every"), [(12, 2), (19, 2), (36, 4), (39, 5), (95, 10)])
def test_each_kth_is_analysed_as_fast_as_the_model_is(takes: float, every: int) -> None:
    """Five percent to spare."""
    (change,) = chosen("thin", pace(takes), waiting(int(3600 / takes) + 1))

    assert isinstance(change, Change)
    assert change.every == every
    assert f"{takes:g} s per recording, one comes every 10 s" in change.reason


def test_a_model_that_gets_slower_gets_fewer_and_one_that_gets_faster_as_many() -> None:
    assert [one.every for one in chosen("thin", pace(36, every=3), waiting(101))] == [4]
    assert chosen("thin", pace(36, every=5), waiting(101)) == []


def test_all_are_analysed_again_once_nothing_waits() -> None:
    assert chosen("thin", pace(every=4), waiting(3)) == []
    assert chosen("thin", pace(every=4), waiting(2)) == [Change(1, "nothing is waiting any more")]
    assert chosen("nightly", pace(every=4), waiting(50)) == [Change(1, "another policy is set")]


def test_a_model_that_keeps_up_after_an_outage_is_not_spared() -> None:
    assert chosen("thin", pace(takes=36, comes=60), waiting(150)) == []


def test_far_too_much_is_thinned_evenly() -> None:
    """An outage of half a day: what waits is more than the model can ever do."""
    rows = waiting(1000)

    (choice,) = chosen("thin", pace(comes=None), rows)

    assert isinstance(choice, LeftOut)
    assert (choice.deployment_id, choice.start, choice.end) == (
        DEPLOYMENT, rows[0].created_on, NOW,
    )  # fmt: skip
    kept = [number for number, row in enumerate(rows) if row.id not in choice.recordings]
    assert kept == list(range(0, 1000, 10))


def test_two_deployments_are_two_spans() -> None:
    before, now = waiting(300, uuid4(), until=5000), waiting(300)

    found = chosen("nightly", pace(comes=None), [*before, *now])

    assert [len(one.recordings) for one in found if isinstance(one, LeftOut)] == [250, 250]
    assert [one.start for one in found if isinstance(one, LeftOut)] == [
        before[0].created_on, now[0].created_on,
    ]  # fmt: skip


def test_the_oldest_are_left_out_by_whole_quarters_of_an_hour() -> None:
    rows = waiting(400)  # of 66 minutes

    found = chosen("newest_first", pace(), rows)

    assert all(isinstance(one, LeftOut) for one in found)
    quarter = datetime.timedelta(minutes=15)
    for one in found:
        inside = {row.id for row in rows if one.start <= row.created_on < one.end}  # type: ignore[union-attr]
        assert one.recordings == inside  # type: ignore[union-attr]
        assert one.end - one.start == quarter  # type: ignore[union-attr]
        assert one.start.minute % 15 == 0  # type: ignore[union-attr]
    left = 400 - sum(len(one.recordings) for one in found)  # type: ignore[union-attr]
    assert 10 <= left <= 100


def test_the_present_quarter_of_an_hour_is_never_left_out() -> None:
    after = datetime.timedelta(minutes=4)
    rows = [one._replace(created_on=one.created_on + after) for one in waiting(20)]

    assert list(choose(Backlog("newest_first", 0.01), pace(), rows, NOW + after)) == []


def nightly(*windows: tuple[int, int]) -> Backlog:
    plan = CapturePlan(
        duration=10,
        interval=10,
        windows=tuple(
            DailyWindows(
                intervals=(data.TimeInterval(start=datetime.time(a), end=datetime.time(b)),),
                timezone="UTC",
            )
            for a, b in windows
        ),
    )
    return Backlog("nightly", plan=plan)


def test_models_wait_while_it_records() -> None:
    backlog, site = nightly((20, 6)), make_deployment()

    at_noon = NOW.replace(hour=12)
    assert backlog.holds_back(site, NOW)
    assert not backlog.holds_back(site, at_noon)
    assert not backlog.holds_back(site.model_copy(update={"ended_on": NOW}), NOW)
    ends = backlog.recording_ends(site, NOW)
    assert ends is not None
    assert abs(ends - NOW.replace(hour=6)) <= datetime.timedelta(seconds=2)


def test_all_conditions_must_hold_for_it_to_record() -> None:
    backlog, site = nightly((20, 6), (0, 3)), make_deployment()

    assert backlog.holds_back(site, NOW)
    assert not backlog.holds_back(site, NOW.replace(hour=22))
    assert not nightly().holds_back(site, NOW)


@pytest.mark.parametrize(("hours", "pauses"), [((20, 6), True), ((0, 0), False), ((5, 5), False)])
def test_a_plan_that_never_pauses_is_known(hours: tuple[int, int], pauses: bool) -> None:
    plan = nightly(hours).plan
    assert plan is not None
    assert has_pauses(plan, make_deployment(), NOW) is pauses


def test_the_policy_says_how_long_a_recording_may_wait() -> None:
    assert Backlog().longest_wait_hours == 0
    assert Backlog("thin", 3).longest_wait_hours == 3
    assert Backlog("nightly", 3).longest_wait_hours == 27
