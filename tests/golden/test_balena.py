"""The files for balena against balena's rules: ours in plain Python, and its own parser."""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from acoupi.bundles.bundle_checks import bundle_problems
from acoupi.stack.variables import check_known
from tests.golden.balena_rules import balena_problems
from tests.services import require

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "cases"
COMMITTED = ROOT / "compose" / "docker-compose.yml"
PROGRAMS = ["test", "default", "connected", "demo"]


def rendered(program: str, target: str = "balena", name: str = "balena/docker-compose.yml") -> str:
    """A file out of a golden case."""
    text = (CASES / target / f"{program}.txt").read_text()
    found = re.search(
        rf"^=== {re.escape(name)} \d+\n(.*?)(?=^=== |\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert found, f"{program} has no {name}"
    return found[1]


@pytest.mark.parametrize("program", PROGRAMS)
def test_balena_takes_every_line_of_it(program: str) -> None:
    assert balena_problems(rendered(program)) == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_keeps_its_containers_apart_as_on_docker(program: str) -> None:
    services = yaml.safe_load(rendered(program))["services"]

    assert bundle_problems(rendered(program)) == []
    granted = [name for name, one in services.items() if "devices" in one]
    assert granted == ([] if program == "test" else ["recording"])  # that one records nothing
    assert services["redis"]["network_mode"] == "none"
    writers = [name for name, one in services.items() if "config:/acoupi/config" in one["volumes"]]
    assert writers == ["setup"]


@pytest.mark.parametrize("program", ["default", "connected", "demo"])
def test_who_has_the_sound_device_has_no_network(program: str) -> None:
    services = yaml.safe_load(rendered(program))["services"]

    assert services["recording"]["network_mode"] == "none"
    assert [name for name, one in services.items() if "network_mode" not in one] == [
        "setup",
        "default",
    ]


@pytest.mark.parametrize("program", ["default", "connected", "demo"])
def test_its_services_are_looked_at_as_on_docker(program: str) -> None:
    here = yaml.safe_load(rendered(program))["services"]
    there = yaml.safe_load(rendered(program, "compose", "docker-compose.yml"))["services"]

    for name, service in there.items():
        expected = {**service["healthcheck"], "test": here[name]["healthcheck"]["test"]}
        assert here[name]["healthcheck"] == expected
        assert here[name]["healthcheck"]["test"][1] == "acoupi-health"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_variable_in_it_is_one_that_setup_knows(program: str) -> None:
    services = yaml.safe_load(rendered(program))["services"]

    names = {name for one in services.values() for name in one["environment"]}

    check_known(dict.fromkeys(names, "x"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_client_of_the_broker_sees_its_own_password_only(program: str) -> None:
    services = yaml.safe_load(rendered(program))["services"]

    clients = set(services) - {"redis", "setup"}
    for name, service in services.items():
        keys = [volume for volume in service["volumes"] if volume.startswith("key-")]
        if name == "redis":
            assert set(keys) == {f"key-{one}:/run/keys/{one}" for one in clients}
        else:
            assert keys == ([] if name == "setup" else [f"key-{name}:/run/key:ro"])


def test_the_committed_bundle_is_as_safe() -> None:
    assert bundle_problems(COMMITTED.read_text()) == []


def test_the_rules_see_what_docker_compose_has_beyond_balena() -> None:
    problems = balena_problems(rendered("default", "compose", "docker-compose.yml"))

    words = ("logging", "device_cgroup_rules", "long form", "variable of the machine")
    for word in words:
        assert any(word in problem for problem in problems), word


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"deploy": {"replicas": 1}}, "deploy"),
    ({"logging": {"driver": "local"}}, "logging"),
    ({"secrets": ["x"]}, "secrets"),
    ({"platform": "linux/arm64"}, "platform"),
    ({"profiles": ["x"]}, "profiles"),
    ({"pull_policy": "always"}, "pull_policy"),
    ({"device_cgroup_rules": ["c 116:* rw"]}, "device_cgroup_rules"),
    ({"volumes": ["/dev/snd:/dev/snd"]}, "named"),
    ({"volumes": ["./home:/acoupi"]}, "named"),
    ({"volumes": ["/acoupi/data"]}, "named"),
    ({"volumes": [{"type": "volume", "source": "data", "target": "/x"}]}, "long form"),
    ({"depends_on": {"redis": {"condition": "service_healthy"}}}, "depends_on"),
    ({"security_opt": ["label=disable"]}, "security_opt"),
    ({"tmpfs": ["/tmp:size=1m"]}, "lock"),
    ({"labels": {"io.balena.features.supervisor-api": "1"}}, "label"),
    ({"build": {"context": ".", "network": "host"}}, "build.network"),
    ({"ipc": "service:redis"}, "ipc"),
    ({"group_add": [29]}, "group_add"),
    ({"mem_limit": "${MEMORY}"}, "variable"),
]


@pytest.mark.parametrize(
    ("change", "word"), CHANGES, ids=[f"{one[1]}-{i}" for i, one in enumerate(CHANGES)]
)
def test_the_rules_refuse_each_of_these(change: dict[str, Any], word: str) -> None:
    content = yaml.safe_load(rendered("default"))
    changed = copy.deepcopy(content)
    changed["services"]["default"].update(change)

    assert any(word in problem for problem in balena_problems(yaml.safe_dump(changed)))


def test_balenas_own_parser_takes_every_golden_file(tmp_path: Path) -> None:
    tools = all(shutil.which(name) for name in ("node", "npm", "docker"))
    require("no node with npm, and docker, for scripts/balena-rules", tools)
    files = []
    for program in PROGRAMS:
        place = tmp_path / program / "docker-compose.yml"
        place.parent.mkdir()
        place.write_text(rendered(program))
        files.append(str(place))
    refused = tmp_path / "refused.yml"
    refused.write_text(COMMITTED.read_text())

    done = _rules(*files)
    other = _rules(str(refused))

    require(f"balena's parser cannot be installed: {done.stderr[-300:]}", done.returncode != 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": accepted (") == len(PROGRAMS)
    assert other.returncode == 1
    assert "logging is not allowed" in other.stdout


def _rules(*files: str) -> "subprocess.CompletedProcess[str]":
    command = [str(ROOT / "scripts" / "balena-rules"), *files]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_contract_says_what_it_is(program: str) -> None:
    contract = yaml.safe_load(rendered(program, name="balena/balena.yml"))

    assert contract["type"] == "sw.application"
    assert re.fullmatch(r"\d+\.\d+\.\d+", contract["version"])
    assert contract["data"]["defaultDeviceType"] in contract["data"]["supportedDeviceTypes"]
    for variable in contract["data"]["applicationEnvironmentVariables"]:
        ((name, value),) = variable.items()
        assert name.startswith("ACOUPI_")
        assert isinstance(value, str)
