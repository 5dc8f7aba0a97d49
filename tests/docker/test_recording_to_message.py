"""From a recording in one container to a message that somebody else has got."""

import contextlib

from tests.docker.bundles import TOKEN, Bundle


def detections(bundle: Bundle, server: str) -> list[dict[str, object]]:
    """The messages about detections that a server was sent."""
    return [one for one in bundle.received(server) if '"name_model"' in one["content"]]


def test_a_recording_is_analysed_in_another_container_and_reported(bundle: Bundle) -> None:
    bundle.eventually(lambda: detections(bundle, "http"), "a detection at the HTTP server")
    bundle.eventually(lambda: detections(bundle, "mqtt"), "a detection at the MQTT broker")

    for service in ("recording", "detection"):
        # A pulse is written every 5 s.
        bundle.eventually(
            lambda name=service: (pulse := bundle.pulse(name)) and pulse.done > 0,  # type: ignore[misc]
            f"{service} says that it has done something",
        )
    assert bundle.container("recording") != bundle.container("detection")
    assert detections(bundle, "http")[0]["more"] == f"Bearer {TOKEN}"
    assert str(detections(bundle, "mqtt")[0]["more"]).startswith("acoupi")


def test_what_the_services_write_belongs_to_whom_they_run_as(bundle: Bundle) -> None:
    bundle.goes_on("a recording")

    owners = set()
    for path in (bundle.home / "data").rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # moved meanwhile
            owners.add(path.stat().st_uid)

    assert owners == {(bundle.home / "docker-compose.yml").stat().st_uid}
    assert 0 not in owners, "models write nothing there"


def test_the_overlay_takes_the_card_away_and_plays_sound(fresh: Bundle) -> None:
    fresh.set_up("--recording.duration", "1", "--recording.interval", "2.5",
                 "--microphone.simulated", "null")  # fmt: skip

    files = ("-f", "docker-compose.yml", "-f", "simulated-audio.yml")
    fresh.compose(*files, "up", "-d")
    fresh.eventually(fresh.are_ready, "every service ready")

    fresh.goes_on("recordings of what is played")
    assert not fresh.inspect("recording")["HostConfig"]["DeviceCgroupRules"]
    assert fresh.run_in("recording", "ls", "/dev/snd").stdout == ""
