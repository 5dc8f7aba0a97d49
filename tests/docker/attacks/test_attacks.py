"""Every attack of the table, tried on sensors that run. See `table` for what is tried."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pytest

from acoupi import data
from acoupi.pace import Pace
from acoupi.services.doors import ROLES
from acoupi.stack.settings import Settings
from tests.browsers import PASSWORD, Browser
from tests.docker.attacks.doors import MODEL_MAY
from tests.docker.attacks.sensors import (
    PAGE_PORT,
    Sensor,
    balena_sensor,
    committed_sensor,
    compose_sensor,
)
from tests.docker.attacks.table import (
    FREE,
    INSIDE,
    OUTSIDE,
    Attempt,
    Got,
    attack_from_inside,
    attack_from_outside,
    attackers,
)
from tests.docker.bundles import SERVICES, Bundle


class Attacked(NamedTuple):
    sensor: Sensor
    got: Got


@pytest.fixture(scope="module")
def compose(servers_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sensor]:
    with compose_sensor(tmp_path_factory.mktemp("attacked"), servers_image) as sensor:
        yield sensor


@pytest.fixture(scope="module", params=FREE)
def attacked(
    request: pytest.FixtureRequest,
    image: str,
    servers_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Attacked]:
    """A sensor of each kind, after all attacks from inside."""
    if request.param == "compose":
        sensor = request.getfixturevalue("compose")
        yield Attacked(sensor, attack_from_inside(sensor))
        return
    folder = tmp_path_factory.mktemp("attacked")
    start: Callable[..., AbstractContextManager[Sensor]] = (
        balena_sensor if request.param == "balena" else committed_sensor
    )
    with start(folder, image, servers_image) as sensor:
        yield Attacked(sensor, attack_from_inside(sensor))


@pytest.mark.parametrize("attempt", INSIDE, ids=lambda one: one.name)
def test_who_is_taken_over_gets_no_further(attacked: Attacked, attempt: Attempt) -> None:
    who = attackers(attacked.sensor, attempt)
    got = {one: attacked.got[attempt.name, *one] for one in who}

    assert {one: words for one, words in got.items() if not attempt.is_refused(words)} == {}


@pytest.mark.parametrize("attempt", OUTSIDE, ids=lambda one: one.name)
def test_what_is_left_for_others_harms_nobody(compose: Sensor, attempt: Attempt) -> None:
    got = attack_from_outside(compose, attempt)

    assert attempt.is_refused([got]), got


def test_the_page_shows_and_changes_the_sensor_from_its_container(compose: Sensor) -> None:
    bundle, browser = compose.running, Browser(PAGE_PORT)
    assert isinstance(bundle, Bundle)
    settings = Settings(home=compose.home)
    assert browser.post("/login", password=PASSWORD) == 200
    # What was planted is there until the next sign of life, which may take half a minute.
    bundle.eventually(
        lambda: browser.now()["status"]["program"]["status"] == "ok", "a program that is well"
    )
    status = browser.now()["status"]
    assert {one["state"] for one in status["celery"]["workers"]} == {"ready"}
    assert status["celery"]["beat"]["state"] == "ready"
    assert status["services"]["target"] == "provisioned"
    now = browser.now()
    analysis = now["status"]["analysis"]
    # Its model was attacked before, and may have fallen behind.
    assert now["ok"] or Pace.model_validate(analysis).falls_behind, now
    assert json.loads(browser.get("/api/v1/detections"))["detections"]

    def restarts() -> dict[str, int]:
        return {name: bundle.inspect(name)["RestartCount"] for name in SERVICES}

    before = restarts()
    changes = json.dumps({"recording.interval": 3.5})
    assert browser.post("/settings", changes=changes, csrf=browser.csrf()) == 200
    bundle.eventually(
        lambda: (
            all(number > before[name] for name, number in restarts().items()) and bundle.are_ready()
        ),
        "every service with the new settings",
    )
    bundle.goes_on("a recording with them")
    assert json.loads(settings.program_config_file.read_text())["recording"]["interval"] == 3.5

    bundle.eventually(lambda: bundle.is_ready("web"), "the page ready")
    moved = json.dumps({"paths.recordings": "/somewhere/else"})
    assert browser.post("/settings", changes=moved, csrf=browser.csrf()) == 200
    assert browser.now()["status"]["pending"]["host_command"] == "acoupi web apply"


def _logs_in(browser: Browser) -> bool:
    try:
        return browser.post("/login", password=PASSWORD) == 200
    except OSError:
        return False


def test_the_page_shows_what_is_heard_now_and_what_was_from_its_container(
    compose: Sensor,
) -> None:
    browser = Browser(PAGE_PORT)
    # An attack before may have ended it: until it is back, the engine's port hangs up.
    compose.running.eventually(lambda: _logs_in(browser), "the page lets its owner in")

    columns = browser.first("/api/v1/live", "columns")
    assert columns["rms_dbfs"] > data.LOWEST_DBFS
    assert browser.begins("/api/v1/live/audio", 20_000).startswith(b"RIFF")

    def kept() -> list[dict[str, Any]]:
        return list(json.loads(browser.get("/api/v1/recordings?state=kept"))["recordings"])

    # Its worker was attacked before, and may not have kept any yet.
    compose.running.eventually(kept, "a recording that is kept")
    rows = kept()
    clip = f"/api/v1/recordings/{rows[0]['recording_id']}"
    assert browser.begins(f"{clip}/picture.png", 8) == b"\x89PNG\r\n\x1a\n"
    assert browser.begins(f"{clip}/audio.wav?slow=10", 4) == b"RIFF"


WRITABLE = """
import os, stat, sys
home, found = sys.argv[1], set()
for folder, _, names in os.walk(home):
    if os.access(folder, os.W_OK):
        found.add(os.path.relpath(folder, home))
    for path in (f"{folder}/{name}" for name in names):
        if os.access(path, os.W_OK) and not stat.S_ISSOCK(os.stat(path).st_mode):
            found.add(os.path.relpath(path, home))
print(*sorted({"/".join(one.split("/")[:2]) for one in found}))
"""


def test_a_model_that_is_taken_over_can_harm_its_own_outputs_only(compose: Sensor) -> None:
    """On the disk its log, its state and its waiting calls; in the stores what it has found."""
    bundle = compose.running

    said = bundle.run_in("detection", "python", "-c", WRITABLE, str(compose.home)).stdout

    assert said.split() == ["log/detection", "run/detection", "waiting/detection"]
    assert {kind: set(methods) for kind, methods in ROLES["model"].items()} == MODEL_MAY
    changing = {one for some in MODEL_MAY.values() for one in some if not one.startswith("get_")}
    beginning = {"begin_analysis", "begin_newest_analysis"}
    assert changing == beginning | {"end_analysis", "store_model_output", "store_message"}
