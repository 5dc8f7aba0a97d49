"""What a bundle survives: its services killed, taken down, and its card missing."""

import pytest

from tests.docker.bundles import EVERY, QUICK, Bundle


@pytest.mark.parametrize("service", EVERY)
def test_a_service_that_is_killed_comes_back_and_work_goes_on(bundle: Bundle, service: str) -> None:
    bundle.goes_on("work before the kill")
    restarts = bundle.inspect(service)["RestartCount"]

    bundle.kill(service)

    bundle.eventually(
        lambda: (
            bundle.inspect(service)["RestartCount"] > restarts and bundle.state(service)["Running"]
        ),
        f"{service} started again",
    )
    bundle.eventually(bundle.are_ready, "every service ready")
    bundle.goes_on(f"work after {service} was killed", recordings=2)


def test_down_and_up_lose_nothing(bundle: Bundle) -> None:
    bundle.goes_on("work")

    bundle.compose("down")
    captured = {recording.id for recording in all_recordings(bundle)}
    waiting = {str(one.id) for one in bundle.store.get_captured_recordings()}
    files = " ".join(path.name for path in (bundle.home / "data" / "spool").rglob("*.wav"))
    partial = list((bundle.home / "data").rglob("*.part"))
    bundle.compose("up", "-d")
    bundle.eventually(bundle.are_ready, "every service ready")

    assert captured
    assert all(one in files for one in waiting)
    assert partial == []
    bundle.goes_on("work after it was up again", recordings=2)
    assert captured <= {recording.id for recording in all_recordings(bundle)}
    bundle.eventually(
        lambda: captured <= {one.recording.id for one in bundle.store.get_model_outputs()},
        "everything analysed that had been recorded",
    )


def all_recordings(bundle: Bundle) -> list:  # type: ignore[type-arg]
    captured = bundle.store.get_captured_recordings()
    return [*captured, *(one.recording for one in bundle.store.get_model_outputs())]


def test_two_homes_run_side_by_side(bundles: tuple[Bundle, Bundle]) -> None:
    for bundle in bundles:
        bundle.set_up(*QUICK)
        bundle.compose("up", "-d")

    for bundle in bundles:
        bundle.eventually(bundle.are_ready, "every service ready")
        bundle.goes_on("a recording")
    one, two = bundles
    assert {r.id for r in all_recordings(one)}.isdisjoint(r.id for r in all_recordings(two))


def test_a_recorder_without_a_card_starts_says_so_and_tries_again(fresh: Bundle) -> None:
    fresh.set_up("--recording.duration", "1", "--recording.interval", "2",
                 "--microphone.simulated", "null")  # fmt: skip
    fresh.compose("up", "-d")
    fresh.eventually(fresh.are_ready, "every service ready")

    fresh.eventually(lambda: (pulse := fresh.pulse("recording")) and pulse.failed >= 2, "2 tries")

    pulse = fresh.pulse("recording")
    assert pulse is not None
    assert "microphone" in str(pulse.last_error) or "device" in str(pulse.last_error)
    assert fresh.state("recording")["Running"]
