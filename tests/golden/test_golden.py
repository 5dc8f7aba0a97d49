"""What setup generates, compared with what was looked at and found good.

One file is one case: a program on a target. After a change that is meant,
``scripts/test --update-golden tests/golden`` rewrites them; the review is the
difference.
"""

from pathlib import Path

import pytest
import yaml

import acoupi
from acoupi.bundles.self_setup import HOME as IN_CONTAINERS
from acoupi.bundles.self_setup import checkout_bundle
from acoupi.system import Settings
from acoupi.system.planning import SetupRequest, plan_setup
from acoupi.targets import process
from tests.golden.test_hub import CHOICES as HUBS

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "cases"
HOME = Path("/home/pi/.acoupi")
PYTHON = "/home/pi/acoupi/bin/python"
WITH_WEB = ("--sensor.web.enabled", "true")
CASES_OF: dict[str, tuple[str, tuple[str, ...]]] = {
    "test": ("test", ()),
    "default": ("default", ()),
    "connected": ("connected", ()),
    "demo": ("demo", ()),
    "web": ("default", WITH_WEB),
    "memory": ("default", ("--sensor.spool.memory_mb", "64")),
}
"""The program, and the options of setup."""
TARGETS = ["process", "systemd", "compose", "balena"]
EVERY_CASE = [
    *((target, case) for target in TARGETS for case in CASES_OF),
    ("kubernetes", "demo"),  # the others differ as they do for balena, from the same blocks
]


def generated(target: str, case: str) -> str:
    """Every generated file, one after the other; of those that are kept, what is no secret."""
    program, options = CASES_OF[case]
    request = SetupRequest(program, options, target=target, environ={"ACOUPI_NOTHING": "here"})
    plan = plan_setup(Settings(home=HOME), request)
    kept = {
        path: file
        for path, file in plan.target.kept_files(plan.stack).items()
        if path.name == ".env"
    }
    parts = [
        f"=== {path} {file.mode:o}\n{file.text}"
        for path, file in {**plan.generated, **kept}.items()
    ]
    return "\n".join(parts)


@pytest.mark.parametrize(("target", "program"), EVERY_CASE)
def test_what_is_generated_is_what_was_found_good(
    target: str, program: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.sys, "executable", PYTHON)
    monkeypatch.setattr(acoupi, "__version__", "1.0")
    monkeypatch.setenv("TZ", "Europe/London")
    for name, number in (("UID", "1000"), ("GID", "1000"), ("AUDIO_GID", "29")):
        monkeypatch.setenv(f"ACOUPI_{name}", number)
    case = CASES / target / f"{program}.txt"

    text = generated(target, program)

    if request.config.getoption("--update-golden"):
        case.parent.mkdir(parents=True, exist_ok=True)
        case.write_text(text)
    assert case.exists(), f"no such case yet: scripts/test --update-golden {Path(__file__).name}"
    assert text == case.read_text()


def test_there_is_no_case_that_is_not_compared() -> None:
    found = {path.relative_to(CASES).as_posix() for path in CASES.rglob("*.txt")}
    of_hubs = {f"hub/{case}.txt" for case in (*HUBS, "kubernetes")}

    assert found == {f"{target}/{program}.txt" for target, program in EVERY_CASE} | of_hubs


@pytest.mark.parametrize("target", ["compose", "balena"])
def test_with_the_page_on_too_only_the_recorder_has_the_sound_device(target: str) -> None:
    case = (CASES / target / "web.txt").read_text()
    _, _, text = case.partition("docker-compose.yml 644\n")
    services = yaml.safe_load(text.partition("\n=== ")[0])["services"]

    assert "web" in services
    recorder = services.pop("recording")
    assert recorder["group_add"]
    assert (recorder.get("device_cgroup_rules"), recorder.get("devices")) in (
        (["c 116:* rw"], None),
        (None, ["/dev/snd:/dev/snd:rw"]),
    )
    for service in services.values():
        assert "/dev/" not in str(service.get("volumes"))
        assert not {"device_cgroup_rules", "devices", "group_add", "privileged"} & set(service)


def test_the_committed_bundle_is_what_is_rendered(request: pytest.FixtureRequest) -> None:
    committed = ROOT / "compose" / "docker-compose.yml"

    wanted = SetupRequest("default", environ={"ACOUPI_NOTHING": "here"})
    plan = plan_setup(Settings(home=IN_CONTAINERS), wanted)
    text = checkout_bundle(plan.stack)

    if request.config.getoption("--update-golden"):
        committed.write_text(text)
    assert text == committed.read_text()
