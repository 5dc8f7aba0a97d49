"""What a bundle may not hold: whatever would open a container."""

from typing import Any

import pytest
import yaml

from acoupi.bundles.bundle_checks import bundle_problems, check_bundle
from acoupi.errors import ConfigurationError

SAFE = {
    "image": "x",
    "user": "1000:1000",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "restart": "unless-stopped",
}


RULE = {"device_cgroup_rules": ["c 116:* rw"]}


def problems(**changes: Any) -> list[str]:
    service = {key: value for key, value in {**SAFE, **changes}.items() if value is not None}
    return bundle_problems(yaml.safe_dump({"services": {"one": service}}))


def test_a_safe_service_is_well() -> None:
    assert problems() == []
    assert problems(**RULE) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privileged": True}, "is privileged"),
        ({"pid": "host"}, "has pid: host"),
        ({"ipc": "host"}, "has ipc: host"),
        ({"network_mode": "host"}, "has network_mode: host"),
        ({"userns_mode": "host"}, "has userns_mode: host"),
        ({"pid": "service:recording"}, "has pid: service:recording"),
        ({"cap_drop": None}, "has no cap_drop"),
        ({"cap_drop": ["NET_RAW"]}, "has no cap_drop"),
        ({"cap_add": ["SYS_ADMIN"]}, "has cap_add"),
        ({"user": None}, "has no user"),
        ({"user": "0:0"}, "runs as 0:0"),
        ({"user": "root"}, "runs as root"),
        ({"user": "+0"}, "runs as +0"),
        ({"user": "00"}, "runs as 00"),
        ({"user": "1000:0"}, "runs as 1000:0"),
        ({"user": "${X:-0}"}, "runs as ${X:-0}"),
        ({"group_add": ["0"]}, "other than 0"),
        ({"group_add": ["${X:-0}"]}, "other than 0"),
        ({"read_only": None}, "has no read_only"),
        ({"read_only": "yes"}, "has no read_only"),
        ({"security_opt": None}, "no-new-privileges"),
        ({"security_opt": ["no-new-privileges:true", "seccomp=unconfined"]}, "is unconfined"),
        ({"security_opt": ["no-new-privileges:true", "seccomp=/tmp/x.json"]}, "/tmp/x.json"),
        ({"security_opt": ["no-new-privileges:true", "label=disable"]}, "label=disable"),
        ({"restart": None}, "restart"),
        ({"device_cgroup_rules": ["c *:* rwm"]}, "device rule"),
        ({"device_cgroup_rules": ["c 116:* rwm"]}, "device rule"),
        ({"devices": ["/dev/mem:/dev/snd"]}, '"/dev/mem"'),
        ({"devices": ["/dev/snd/../mem:/dev/snd"]}, '"/dev/mem"'),
        ({"volumes": ["/var/run/docker.sock:/x"]}, "engine's socket"),
        ({"volumes": [{"type": "bind", "source": "/run/docker.sock", "target": "/x"}]}, "socket"),
        ({"volumes": ["/:/host"]}, "has all of /"),
        ({"volumes": ["/dev:/dev"]}, "has all of /dev"),
        ({"group_add": ["audio"]}, "must be a number"),
        ({"group_add": [29]}, "must be a number"),
    ],
)
def test_what_would_open_a_container_is_named(changes: dict[str, Any], said: str) -> None:
    found = problems(**changes)

    assert len(found) >= 1
    assert all(problem.startswith("one ") for problem in found)
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize(
    "user",
    ["1000:1000", "${ACOUPI_UID:?see .env}:${ACOUPI_GID:?see .env}", "${A:-${B:?see .env}}:29"],
)
def test_a_user_is_a_number_or_a_variable_that_must_be_given(user: str) -> None:
    assert problems(user=user) == []


def test_two_services_with_the_sound_device_are_refused() -> None:
    by_bind = {"volumes": [{"type": "bind", "source": "/dev/snd", "target": "/dev/snd"}]}
    text = yaml.safe_dump({"services": {"a": {**SAFE, **RULE}, "b": {**SAFE, **by_bind}}})

    with pytest.raises(ConfigurationError) as caught:
        check_bundle(text)

    assert "a and b have the sound device" in (caught.value.why or "")
    assert len(caught.value.lines()) == 3


@pytest.mark.parametrize(
    "text", ["", "[]", "services: 3", "services: {a: 1}", "a: [", "services: {}"]
)
def test_what_is_no_bundle_is_refused(text: str) -> None:
    assert bundle_problems(text)
