"""What an override may do, read as the real Compose reads it; no engine is asked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acoupi.bundles.engine import Host
from acoupi.bundles.overrides import file_problems, override_problems
from acoupi.bundles.preflight.bundle import check_bundle
from acoupi.bundles.preflight.machine_state import MachineState, Result
from acoupi.system import Sensor, Settings, setup_program
from tests.services import require_program

OVERRIDE = "docker-compose.override.yml"
SOCKET = "/var/run/docker.sock"

CHANGED: dict[str, tuple[str, Any, str]] = {
    "privileged": ("default", True, "nothing was rendered"),
    "cap_add": ("default", ["SYS_ADMIN"], '["SYS_ADMIN"], and nothing was rendered'),
    "user": ("default", "+0", " +0, and 1000:1000 was rendered"),
    "group_add": ("default", ["0"], "nothing was rendered"),
    "pids_limit": ("default", -1, "64 was rendered"),
    "mem_limit": ("default", "1m", "was rendered"),
    "read_only": ("default", False, "rendered was true"),
    "security_opt": ("default", ["seccomp=/tmp/x.json"], "no-new-privileges:true"),
    "volumes_from": ("default", ["recording"], "nothing was rendered"),
    "volumes": ("default", ["/home:/x"], "was rendered"),
    "configs": ("default", [{"source": "shadow"}], "nothing was rendered"),
    "cgroup_parent": ("default", "/", "nothing was rendered"),
    "runtime": ("default", "other", "nothing was rendered"),
    "sysctls": ("default", {"net.ipv4.ip_forward": "1"}, "net.ipv4.ip_forward"),
    "devices": ("default", ["/dev/snd"], "nothing was rendered"),
    "device_cgroup_rules": ("default", ["c 116:* rw"], "nothing was rendered"),
    "environment": ("default", {"LD_PRELOAD": "/x.so"}, "LD_PRELOAD"),
    "ports": ("default", ["8080:80"], "nothing was rendered"),
    "restart": ("default", "on-failure", "unless-stopped was rendered"),
    "logging": ("default", {"driver": "syslog"}, "driver"),
    "labels": ("default", {"acoupi.configuration": "x"}, "acoupi.configuration"),
    "command": ("redis", ["redis-server", "--protected-mode", "no"], "was rendered"),
    "network_mode": ("redis", "bridge", "none was rendered"),
    "oom_score_adj": ("detection", -900, "800 was rendered"),
    "extra_hosts": ("detection", ["a:1.2.3.4"], "nothing was rendered"),
    "pid": ("detection", "host", "nothing was rendered"),
}
"""By the key: the service of the sensor, what an override says, what is told of it."""

THEM = ["elsewhere:/a", "plugged:/b", "tmpfs-of-etc:/c", "tmpfs-bound:/d"]
ADDED: dict[str, tuple[Mapping[str, Any], str]] = {
    "socket": ({"volumes": [f"{SOCKET}:/s"]}, SOCKET),
    "socket-long": ({"volumes": [{"type": "bind", "source": SOCKET, "target": "/s"}]}, SOCKET),
    "rootless-socket": ({"volumes": ["/run/user/1000:/s"]}, "/run/user/1000"),
    "shadow": ({"volumes": ["/etc/shadow:/s:ro"]}, "/etc/shadow"),
    "keys": ({"volumes": ["~/.ssh:/s:ro"]}, ".ssh"),
    "whole-home": ({"volumes": [".:/s:ro"]}, "not a separate folder"),
    "secrets": ({"volumes": ["./secrets:/s:ro"]}, "secrets"),
    "config": ({"volumes": ["./config:/s:ro"]}, "config"),
    "broker-socket": ({"volumes": ["broker:/s"]}, 'the volume "broker" of the sensor'),
    "the-same-volume": ({"volumes": ["alias:/s"]}, ""),
    "bound-volume": ({"volumes": ["bound:/s"]}, ""),
    "writes-recordings": ({"volumes": ["./data:/s"]}, "may only read"),
    "below-recordings": ({"volumes": ["./data/recordings:/s:ro"]}, "not a separate folder"),
    "through-a-link": ({"volumes": ["./mine/link:/s:ro"]}, "not a separate folder"),
    "up-and-away": ({"volumes": ["./mine/../..:/s:ro"]}, "not a separate folder"),
    "all-devices": ({"volumes": ["/dev:/dev"]}, "/dev"),
    "sound": ({"devices": ["/dev/snd:/dev/snd"]}, "/dev/snd"),
    "sound-long": ({"devices": ["/dev//snd/pcmC0D0c:/dev/x"]}, "/dev//snd/pcmC0D0c"),
    "memory": ({"devices": ["/dev/mem"]}, "/dev/mem"),
    "rules": ({"device_cgroup_rules": ["c 116:* r"]}, "device_cgroup_rules"),
    "privileged": ({"privileged": True}, "privileged"),
    "pid-host": ({"pid": "host"}, "pid host"),
    "pid-service": ({"pid": "service:recording"}, "pid service:recording"),
    "ipc": ({"ipc": "service:redis"}, "ipc service:redis"),
    "uts": ({"uts": "host"}, "uts host"),
    "userns": ({"userns_mode": "host"}, "userns_mode host"),
    "cgroup": ({"cgroup": "host"}, "cgroup host"),
    "cgroup-parent": ({"cgroup_parent": "/"}, "cgroup_parent /"),
    "net-host": ({"network_mode": "host"}, "network_mode: host"),
    "net-container": ({"network_mode": "container:x"}, "network_mode: container:x"),
    "net-service": ({"network_mode": "service:redis"}, "network_mode: service:redis"),
    "unconfined": ({"security_opt": ["apparmor=unconfined"]}, "apparmor=unconfined"),
    "own-seccomp": ({"security_opt": ["seccomp=./x.json"]}, "seccomp=./x.json"),
    "cap": ({"cap_add": ["SYS_ADMIN"]}, "cap_add SYS_ADMIN"),
    "cap-long": ({"cap_add": ["CAP_NET_ADMIN"]}, "cap_add CAP_NET_ADMIN"),
    "runtime": ({"runtime": "other"}, "runtime other"),
    "sysctls": ({"sysctls": {"net.ipv4.ip_forward": 1}}, "sysctls"),
    "gid0": ({"group_add": ["+0"]}, "the group +0"),
    "docker-group": ({"group_add": ["docker"]}, "the group docker"),
    "everywhere": ({"ports": ["8080:80"]}, "the port 8080 on every address"),
    "everywhere-6": ({"ports": ["[::]:81:80"]}, "the port 81 on every address"),
    "shadow-config": ({"configs": ["shadow"]}, ""),
    "all-of": ({"volumes_from": ["recording"]}, "volumes_from"),
    "secrets-as-variables": ({"env_file": ["secrets/config/s.env"]}, "env_file"),
    "variable-as-file": ({"env_file": [{"path": "${X:-/etc/passwd}"}]}, "env_file"),
    "like-the-recorder": (
        {"extends": {"file": "docker-compose.yml", "service": "recording"}},
        "extends of the file docker-compose.yml",
    ),
    "made-of-secrets": ({"build": {"context": "./secrets"}}, "secrets"),
    "made-of-etc": ({"build": {"context": "./mine", "additional_contexts": {"a": "/etc"}}}, "/etc"),
    "names-them": ({"networks": ["wide"], "secrets": ["mine"], "volumes": THEM}, ""),
}
"""By the name: a service of the user's own, and what is told of it ("": of what it names)."""
BESIDE = {
    "volumes": {
        "bound": {"driver_opts": {"type": "none", "o": "bind", "device": SOCKET}},
        "alias": {"name": "sensor-of-test_broker"},
        "elsewhere": {"external": True},
        "plugged": {"driver": "sshfs"},
        "tmpfs-of-etc": {"driver_opts": {"type": "tmpfs", "o": "rbind", "device": "/etc"}},
        "tmpfs-bound": {"driver_opts": {"type": "tmpfs", "o": "ro,bind", "device": "tmpfs"}},
    },
    "configs": {"shadow": {"file": "/etc/shadow"}},
    "secrets": {"mine": {"file": "./secrets/config/secrets.env"}},
    "networks": {"wide": {"driver": "macvlan"}},
}
SAID_BESIDE = {
    "volumes: bound": f"leads to {SOCKET}",
    "volumes: alias": "_broker of the sensor",
    "volumes: elsewhere": "is external",
    "volumes: plugged": "the driver sshfs",
    "volumes: tmpfs-of-etc": "leads to /etc",
    "volumes: tmpfs-bound": "leads to tmpfs",
    "configs: shadow": "/etc/shadow",
    "secrets: mine": "secrets.env",
    "networks: wide": "not a network of its own",
}
FINE = {
    "services": {
        "default": {
            "image": "acoupi/sensor:mine",
            "labels": {"site": "wood"},
            "cpu_shares": 512,
            "cpus": 1.5,
            "mem_limit": "2g",
            "environment": {"TZ": "Europe/London", "OMP_NUM_THREADS": "2"},
            "restart": "always",
            "logging": {"driver": "json-file", "options": {"max-size": "9m"}},
            "ports": ["127.0.0.1:8080:80"],
            "networks": ["default", "farm"],
            "depends_on": ["mosquitto"],
            "extra_hosts": ["hub:10.0.0.2"],
        },
        "mosquitto": {
            "image": "eclipse-mosquitto",
            "user": "1883",
            "networks": ["default", "farm"],
            "volumes": ["./mosquitto:/mosquitto/config", "kept:/mosquitto/data", "fast:/fast"],
            "ports": ["192.168.1.5:1883:1883"],
            "env_file": ["mosquitto/settings.env"],
            "cap_drop": ["ALL"],
            "cap_add": ["SETUID", "SETGID"],
            "security_opt": ["no-new-privileges:true"],
        },
        "modem": {"image": "modem", "devices": ["/dev/ttyUSB0"], "group_add": ["20"]},
        "viewer": {
            "image": "viewer",
            "build": "./viewer",
            "volumes": ["./data:/data:ro", "/etc/localtime:/etc/localtime:ro"],
            "configs": ["page"],
            "profiles": ["seldom"],
        },
    },
    "volumes": {
        "kept": {},
        "fast": {"driver_opts": {"type": "tmpfs", "o": "size=9m", "device": "tmpfs"}},
    },
    "networks": {"farm": {}, "default": {"internal": True}},
    "configs": {"page": {"file": "./viewer/page.html"}},
}


@dataclass(frozen=True)
class RealCompose(Host):
    """This machine's Compose; what an engine answers is not asked."""

    def documents(self, settings: Settings, override: bool) -> Mapping[str, Any]:
        words = ("--profile", "*", "config", "--format", "json")
        answer = self.compose(settings, *words, override=override)
        assert answer.is_ok, answer.said
        found: Mapping[str, Any] = json.loads(answer.out)
        return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_program("docker")
    home = tmp_path_factory.mktemp("overrides") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACOUPI_UID", "1000")
        patch.setenv("ACOUPI_GID", "1000")
        arguments = ["--messaging.mqtt.host", "localhost", "--messaging.mqtt.topic", "acoupi"]
        setup_program(Settings(home=home), "demo", arguments, target="compose", environ={})
    for name in ("mine", "mosquitto", "viewer", "secrets/config"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "mosquitto" / "settings.env").write_text("A=b\n")
    (home / "secrets" / "config" / "s.env").write_text("TOKEN=hush\n")
    (home / "mine" / "link").symlink_to("/etc")
    return home


def problems_of(home: Path, content: Mapping[str, Any] | str) -> list[str]:
    text = content if isinstance(content, str) else json.dumps(content)
    (home / OVERRIDE).write_text(text)
    host, settings = RealCompose(), Settings(home=home)
    try:
        documents = (host.documents(settings, one) for one in (False, True))
        return override_problems(home, *documents)
    finally:
        (home / OVERRIDE).unlink()


@pytest.fixture(scope="module")
def found(home: Path) -> list[str]:
    """All that is told of an override that tries everything at once."""
    services: dict[str, dict[str, Any]] = {
        name: {"image": "a", **one} for name, (one, _) in ADDED.items()
    }
    for key, (service, value, _) in CHANGED.items():
        services.setdefault(service, {})[key] = value
    broker = f"{RealCompose().documents(Settings(home=home), False)['name']}_broker"
    text = json.dumps({"services": services, **BESIDE}).replace("sensor-of-test_broker", broker)
    return problems_of(home, text)


@pytest.mark.parametrize("key", CHANGED)
def test_a_service_of_the_sensor_is_as_it_was_rendered(found: list[str], key: str) -> None:
    service, _, said = CHANGED[key]

    told = [one for one in found if one.startswith(f"{service} has {key} ")]
    assert len(told) == 1, found
    assert said in told[0]


@pytest.mark.parametrize("name", [name for name, (_, said) in ADDED.items() if said])
def test_a_service_of_the_user_stays_away(found: list[str], name: str) -> None:
    said = ADDED[name][1]

    assert any(one.startswith(f"{name} ") and said in one for one in found), found


@pytest.mark.parametrize("what", SAID_BESIDE)
def test_what_stands_beside_the_services_leads_nowhere(found: list[str], what: str) -> None:
    assert any(one.startswith(f"{what} ") and SAID_BESIDE[what] in one for one in found), found


def test_what_users_need_is_allowed(home: Path) -> None:
    assert problems_of(home, FINE) == []


def test_a_changed_variable_is_named_without_its_value(found: list[str]) -> None:
    assert not any("/x.so" in one for one in found)


def test_nothing_of_the_sensor_is_taken_away_or_renamed(home: Path) -> None:
    assert "the name other differs from" in " ".join(problems_of(home, {"name": "other"}))


def test_an_override_that_reads_other_files_is_refused(home: Path) -> None:
    (home / "more.yml").write_text("services: {}\n")

    assert problems_of(home, {"services": {}, "include": ["more.yml"]}) == [
        "include reads other files"
    ]


def test_an_override_that_cannot_be_looked_into_is_refused(home: Path) -> None:
    text = "services: {default: {cap_drop: !reset []}}\n"

    assert "cannot be read" in " ".join(problems_of(home, text))


@pytest.mark.parametrize(
    "name",
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "compose.override.yml"],
)
def test_a_file_that_only_docker_compose_would_read_is_refused(tmp_path: Path, name: str) -> None:
    assert list(file_problems(tmp_path)) == []
    (tmp_path / name).write_text("services: {}\n")

    (said,) = file_problems(tmp_path)
    assert name in said


def test_variables_that_add_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COMPOSE_FILE=docker-compose.yml:more.yml\n")

    (said,) = file_problems(tmp_path)
    assert ".env sets COMPOSE_FILE" in said


def test_the_check_of_the_bundle_says_it_in_three_lines(home: Path) -> None:
    content = {"services": {"default": {"cap_add": ["SYS_ADMIN"]}}}
    (home / OVERRIDE).write_text(json.dumps(content))
    settings = Settings(home=home)
    try:
        state = MachineState(settings, RealCompose(), Sensor.at(settings).manifest)
        result = check_bundle(state)
    finally:
        (home / OVERRIDE).unlink()

    assert isinstance(result, Result)
    lines = result.error().lines()
    assert len(lines) == 3
    assert 'default has cap_add ["SYS_ADMIN"], and nothing was rendered' in lines[1]
    assert OVERRIDE in lines[2]
