"""What a bundle survives: its services killed, taken down, the power cut, and its card missing."""

import datetime
import os

import pytest

from acoupi import data
from tests.docker.bundles import EVERY, QUICK, RECOVERY, SERVICES, Bundle, docker


@pytest.mark.parametrize("service", EVERY)
def test_a_service_that_is_killed_comes_back_and_work_goes_on(bundle: Bundle, service: str) -> None:
    bundle.goes_on("work before the kill")
    before = {one.id for one in bundle.recordings()}
    restarts = bundle.inspect(service)["RestartCount"]
    killed_on = data.utc_now()

    bundle.kill(service)

    bundle.eventually(
        lambda: (
            bundle.inspect(service)["RestartCount"] > restarts and bundle.state(service)["Running"]
        ),
        f"{service} started again",
    )
    bundle.eventually(bundle.are_ready, "every service ready")
    bundle.goes_on(f"work after {service} was killed", recordings=2)
    back_on = max(one.created_on for one in bundle.recordings())
    assert before <= {one.id for one in bundle.recordings()}
    tally = bundle.effort(killed_on, back_on)
    if service != "recording":
        # Whatever else dies, the recorder is not disturbed: the ring bridges what orders it.
        assert tally.planned == pytest.approx(tally.recorded, abs=0.05)
    assert tally.total == pytest.approx((back_on - killed_on).total_seconds(), abs=0.01)


def health(bundle: Bundle, service: str) -> str:
    """What the engine makes of a service."""
    return str(bundle.state(service)["Health"]["Status"])


def test_the_engine_sees_who_works_and_who_has_stalled(bundle: Bundle) -> None:
    for service in EVERY:
        bundle.eventually(lambda one=service: health(bundle, one) == "healthy", f"{service} well")

    bundle.run_in("beat", "sh", "-c", f"kill -STOP $(cat {bundle.home}/run/beat/beat.pid)")
    try:
        seen = dict.fromkeys(EVERY, "healthy") | {"beat": "unhealthy"}
        bundle.eventually(
            lambda: {one: health(bundle, one) for one in EVERY} == seen,
            "only beat stalled",
            RECOVERY,
        )
    finally:  # other tests need it
        bundle.run_in("beat", "sh", "-c", f"kill -CONT $(cat {bundle.home}/run/beat/beat.pid)")
    bundle.eventually(lambda: health(bundle, "beat") == "healthy", "a beat that goes on")


def test_down_and_up_lose_nothing(bundle: Bundle) -> None:
    bundle.goes_on("work")

    bundle.compose("down")
    down_on = data.utc_now()
    captured = {recording.id for recording in bundle.recordings()}
    waiting = {str(one.id) for one in bundle.store.get_captured_recordings()}
    files = " ".join(path.name for path in (bundle.home / "data" / "spool").rglob("*.wav"))
    partial = list((bundle.home / "data").rglob("*.part"))
    states = bundle.store.count_recordings()
    missed = down_on + datetime.timedelta(seconds=3.5)  # a whole recording was planned until then
    bundle.eventually(lambda: data.utc_now() > missed, "a recording that was missed")
    bundle.compose("up", "-d")
    bundle.eventually(bundle.are_ready, "every service ready")

    assert captured
    assert sum(states.values()) == len(captured)
    assert all(one in files for one in waiting)
    assert partial == []
    bundle.goes_on("work after it was up again", recordings=2)
    assert captured <= {recording.id for recording in bundle.recordings()}
    bundle.eventually(
        lambda: captured <= {one.recording.id for one in bundle.store.get_model_outputs()},
        "everything analysed that had been recorded",
        RECOVERY,
    )
    assert len(bundle.store.get_model_outputs()) == len(
        {one.recording.id for one in bundle.store.get_model_outputs()}
    )
    assert bundle.effort(down_on).seconds(data.EffortState.NOT_RUNNING) >= 1


def test_it_comes_back_from_a_power_cut(bundle: Bundle) -> None:
    bundle.goes_on("work")

    bundle.compose("kill", *EVERY)  # and the engine does not start them again
    captured = {recording.id for recording in bundle.recordings()}
    run = bundle.settings.run_dir
    # What a cut leaves: numbers of other processes, a file of no length, half a file.
    for service in SERVICES:
        assert (run / service / f"{service}.pid").exists()
        (run / service / f"{service}.pid").write_text("1\n")
    (run / "default" / "default.json").write_bytes(b"")
    half = bundle.home / "data" / "spool" / ".half.wav.part"
    half.write_bytes(b"RIFF\0\0")
    os.utime(half, (0, 0))
    os.chown(half, half.parent.stat().st_uid, half.parent.stat().st_gid)
    mount = f"{bundle.target.project}_broker:/broker"  # type: ignore[attr-defined]
    image = bundle.inspect("redis")["Config"]["Image"]
    left = docker("run", "--rm", "--network=none", "-v", mount, image, "ls", "/broker").stdout
    assert "redis.sock" in left
    bundle.compose("start")  # as the engine does when it starts itself

    bundle.eventually(bundle.are_ready, "every service ready")
    bundle.goes_on("work after the power cut", recordings=2)
    bundle.eventually(
        lambda: captured <= {one.recording.id for one in bundle.store.get_model_outputs()},
        "everything analysed that had been recorded",
        RECOVERY,
    )
    assert (run / "default" / "default.pid").read_text() != "1\n"
    bundle.eventually(lambda: not half.exists(), "the half a file gone", RECOVERY)


def test_two_homes_run_side_by_side(bundles: tuple[Bundle, Bundle]) -> None:
    for bundle in bundles:
        bundle.set_up(*QUICK)
        bundle.compose("up", "-d")

    for bundle in bundles:
        bundle.eventually(bundle.are_ready, "every service ready")
        bundle.goes_on("a recording")
    one, two = bundles
    assert {r.id for r in one.recordings()}.isdisjoint(r.id for r in two.recordings())
    one.compose("down", "--volumes")
    two.goes_on("the other, when one is gone", recordings=2)
    assert two.are_ready()


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
    seen = {"recording": "unhealthy", "default": "healthy"}
    fresh.eventually(
        lambda: {one: health(fresh, one) for one in seen} == seen, "only no samples", RECOVERY
    )
