"""The command line on a real engine: what starts, what stops, and what it says."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from acoupi.data import Deployment
from acoupi.errors import TargetError
from acoupi.system.deployments import read_deployment
from acoupi.targets import one_off as containers_run_once
from tests.docker.bundles import EVERY, QUICK, SERVICES, Bundle, bundle_at, docker, ended_in

NO_CARD = ("--recording.duration", "1", "--microphone.simulated", "null")


@pytest.fixture(scope="module")
def broken(image: str) -> Iterator[Mapping[str, Any]]:
    """An override that runs the detector from an image in which it cannot start."""
    name = "acoupi-test/no-model"
    ends = json.dumps(["python", "-c", "raise SystemExit('Error: the model is missing.')"])
    build = ["docker", "build", "--quiet", "--tag", name, "-"]
    text = f"FROM {image}\nENTRYPOINT {ends}\n"
    subprocess.run(build, input=text, text=True, check=True, capture_output=True, timeout=120)
    yield {"detection": {"image": name}}
    docker("rmi", "--force", name, check=False)


@pytest.fixture
def ready(fresh: Bundle) -> Bundle:
    """A bundle that is set up and does not run."""
    fresh.set_up(*QUICK)
    return fresh


@pytest.fixture
def one_off(ready: Bundle) -> Iterator[Callable[[], list[tuple[str, str]]]]:
    """The containers that ran once, in their order: service and exit code."""
    label = "com.docker.compose"
    with ended_in(ready.home) as ended:
        yield lambda: [
            (one[f"{label}.service"], one["exitCode"])
            for one in ended()
            if one[f"{label}.oneoff"] == "True"
        ]


def containers(bundle: Bundle) -> list[str]:
    return bundle.compose("ps", "--all", "--services").stdout.split()


def test_a_deployment_starts_and_ends_with_the_program_in_a_container(
    ready: Bundle, one_off: Callable[[], list[tuple[str, str]]]
) -> None:
    place = ("--latitude", "51.5", "--longitude", "-0.1")
    started = ready.acoupi("-v", "deployment", "start", "--name", "Old oak", *place, "--no-check")

    assert started.returncode == 0, started.stderr
    assert 'The deployment "Old oak" has started.' in started.stdout + started.stderr
    assert "acoupi status" in started.stdout
    assert "docker compose" in started.stdout + started.stderr  # -v shows each command
    ready.eventually(lambda: one_off() == [("default", "0")], "on_start ran in a container")
    assert ready.are_ready()
    ready.goes_on("recordings of it")
    assert {one.deployment.name for one in ready.recordings()} == {"Old oak"}
    status = ready.acoupi("deployment", "status", "--json")
    assert status.returncode == 0, status.stdout + status.stderr
    assert json.loads(status.stdout)["deployment"]["name"] == "Old oak"

    stopped = ready.acoupi("deployment", "stop")

    assert stopped.returncode == 0, stopped.stderr
    ready.eventually(lambda: one_off() == 2 * [("default", "0")], "on_end ran in a container")
    assert containers(ready) == []
    assert list((ready.home / "data").rglob("*.part")) == []
    stored = ready.store.get_deployments()[-1]
    assert (stored.name, stored.latitude) == ("Old oak", 51.5)
    assert stored.ended_on is not None


def test_up_shows_the_services_until_they_work_and_what_to_do_next(ready: Bundle) -> None:
    up = ready.acoupi("compose", "up")

    assert up.returncode == 0, up.stderr
    assert f"All {len(EVERY)} services are working" in up.stdout + up.stderr
    for service in EVERY:
        assert f"{service:<12} ready" in up.stderr
    for command in ("acoupi compose ps", "acoupi compose logs", "acoupi compose down"):
        assert command in up.stdout
    assert ready.acoupi("compose", "ps").returncode == 0

    down = ready.acoupi("-v", "compose", "down")

    assert down.returncode == 0, down.stderr
    assert down.stderr.index(" stop beat") < down.stderr.index(" down")
    assert containers(ready) == []


def test_what_is_set_while_it_runs_takes_effect_at_the_next_up(ready: Bundle) -> None:
    def places() -> dict[str, str]:
        return {service: ready.container(service) for service in EVERY}

    ready.compose("up", "-d")
    before = places()
    assert ready.acoupi("config", "set", "detections.threshold", "0.2").returncode == 0
    ready.compose("up", "-d")
    after = places()

    assert {one for one in EVERY if after[one] != before[one]} == set(SERVICES)
    ready.compose("up", "-d")
    assert places() == after


def test_a_hook_that_hangs_is_ended_with_its_container(
    ready: Bundle,
    one_off: Callable[[], list[tuple[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging = ready.home / "data" / "hanging"
    hanging.mkdir(parents=True)
    (hanging / "sitecustomize.py").write_text("import time\n\ntime.sleep(3600)\n")
    ready.override({"default": {"environment": {"PYTHONPATH": str(hanging)}}})
    monkeypatch.setattr(containers_run_once, "PATIENCE", 2.0)

    with pytest.raises(TargetError, match="on_start did not end") as raised:
        ready.target.run_hook("start", Deployment(name="Old oak"))

    assert raised.value.why == "it was killed after 2 s."
    ready.eventually(lambda: one_off() == [("default", "124")], "its container ended")
    assert containers(ready) == []


def test_a_service_that_cannot_start_says_why(ready: Bundle, broken: Mapping[str, Any]) -> None:
    ready.override(broken)

    up = ready.acoupi("compose", "up", "--timeout", "60")

    assert up.returncode == 1
    assert "--- detection" in up.stderr  # the last lines of its log
    assert "Error: the model is missing." in up.stderr
    assert "acoupi compose logs detection" in up.stderr


def test_a_deployment_that_cannot_start_leaves_nothing_behind(
    ready: Bundle, broken: Mapping[str, Any]
) -> None:
    ready.override(broken)

    started = ready.acoupi("deployment", "start", "--name", "Old oak", "--no-check")

    assert started.returncode == 1
    assert '"detection" does not start' in started.stderr
    assert "the model is missing" in started.stderr
    assert containers(ready) == []
    assert read_deployment(ready.settings) is None


@pytest.fixture
def holder(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """A sensor that is granted the microphone of this machine."""
    with bundle_at(tmp_path_factory.mktemp("holder") / "home") as bundle:
        bundle.set_up(*NO_CARD)
        bundle.compose("up", "-d", "recording")
        yield bundle


@pytest.mark.parametrize("words", [("compose", "up"), ("deployment", "start", "--name", "two")])
def test_a_second_sensor_is_told_who_has_the_microphone(
    holder: Bundle, fresh: Bundle, words: tuple[str, ...]
) -> None:
    fresh.set_up(*NO_CARD)

    done = fresh.acoupi(*words, *(["--no-check"] if "deployment" in words else []))

    assert done.returncode in (1, 3)
    project = holder.target.project  # type: ignore[attr-defined]
    assert f'the microphone belongs to another sensor, "{project}"' in done.stderr
    assert str(holder.home) in done.stderr
    assert f"docker compose -p {project} down" in done.stderr
    assert containers(fresh) == []
