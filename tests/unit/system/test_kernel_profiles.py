"""The profiles of seccomp and AppArmor: what they allow, and what is said of them."""

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from acoupi.bundles.engine import APPARMOR_PROFILE, has_apparmor_profile
from acoupi.bundles.preflight.engine import check_profiles
from acoupi.bundles.preflight.machine_state import Bundle, MachineState
from acoupi.system import Settings
from tests.services import require_program
from tests.unit.system.test_preflight import FakeHost

COMPOSE = Path(__file__).parents[3] / "compose"
SECCOMP = "seccomp=seccomp.json"


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((COMPOSE / "seccomp.json").read_text())["syscalls"]
    return found


def test_what_is_not_listed_is_refused() -> None:
    profile = json.loads((COMPOSE / "seccomp.json").read_text())
    allowed = {name for rule in rules() for name in rule["names"]}

    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert allowed > {"clock_adjtime", "adjtimex"}  # whether the clock is right is asked so
    assert not allowed & {
        *("add_key", "bpf", "io_uring_setup", "keyctl", "mount", "perf_event_open", "ptrace"),
        *("process_vm_readv", "request_key", "setns", "setuid", "socketcall", "unshare"),
        *("userfaultfd", "open_by_handle_at", "kexec_load", "init_module", "personality"),
    }


def test_sockets_are_of_the_families_that_services_use() -> None:
    families = [rule["args"][0]["value"] for rule in rules() if rule["names"] == ["socket"]]

    assert families == [1, 2, 10, 16]  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK


def test_files_are_made_as_nodes_and_devices_are_not() -> None:
    found = {
        rule["names"][0]: [(one["index"], one["value"], one["valueTwo"]) for one in rule["args"]]
        for rule in rules()
        if rule["names"][0].startswith("mknod")
    }

    assert found == {"mknod": [(1, 0o020000, 0)], "mknodat": [(2, 0o020000, 0)]}
    assert stat.S_IFCHR & stat.S_IFBLK & 0o020000
    assert not (stat.S_IFREG | stat.S_IFIFO | stat.S_IFSOCK) & 0o020000


def test_the_profile_of_apparmor_is_one() -> None:
    parser = require_program("apparmor_parser")
    words = (parser, "--skip-kernel-load", "--skip-cache", "--names", COMPOSE / "apparmor-acoupi")

    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [APPARMOR_PROFILE]


def test_it_is_used_where_the_kernel_says_that_it_is_loaded(tmp_path: Path) -> None:
    listing = tmp_path / "profiles"

    assert not has_apparmor_profile(listing)
    listing.write_text("docker-default (enforce)\nacoupi-sensor (complain)\n")
    assert not has_apparmor_profile(listing)
    listing.write_text("docker-default (enforce)\nacoupi-sensor (enforce)\n")
    assert has_apparmor_profile(listing)


@pytest.mark.parametrize(
    ("engine", "options", "outcome", "said"),
    [
        (["seccomp", "apparmor"], [SECCOMP, "apparmor=acoupi-sensor"], "ok", "AppArmor: acoupi-"),
        (["seccomp", "apparmor"], [SECCOMP, "apparmor=docker-default"], "ok", "apparmor_parser"),
        (["seccomp"], [SECCOMP, "apparmor=docker-default"], "ok", "AppArmor: not in this kernel"),
        ([], [SECCOMP], "fail", "cannot limit the system calls"),
        ([], ["seccomp=unconfined"], "warn", "are not limited"),
    ],
)
def test_the_check_says_which_profile_applies(
    settings: Settings, engine: list[str], options: list[str], outcome: str, said: str
) -> None:
    state = MachineState(settings, FakeHost())
    state.engine = {"SecurityOptions": [f"name={one},profile=default" for one in engine]}
    state.bundle = Bundle("acoupi", {"recording": {"security_opt": options}})

    result = check_profiles(state)

    assert result is not None
    assert result.outcome == outcome
    assert said in result.message
    if outcome == "fail":
        assert len(result.error().lines()) == 3
