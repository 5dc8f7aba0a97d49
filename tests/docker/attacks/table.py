"""The attacks: who tries what, and what must come of it. Tests and `scripts/attacks` read it."""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker.attacks import outside
from tests.docker.attacks.sensors import Sensor

Failed = pytest.fail.Exception

__all__ = ["ATTEMPTS", "INSIDE", "OUTSIDE", "Attempt", "attackers"]

EVERY = ("redis", "recording", "detection", "default", "beat", "setup", "web")
"""Of all kinds of sensors; each has those that it has."""
OURS = ("recording", "detection", "default", "beat")
WITH_PAGE = (*OURS, "web")
OFFLINE = ("redis", "recording", "detection", "beat")
FREE = ("compose", "committed", "balena")
FILTERED = ("compose", "committed")
"""With the filter of system calls that acoupi brings; elsewhere it is the engine's own."""
ROOT = "0"

NO_WRITE = frozenset({"EROFS", "EACCES", "ENOENT", "ENOTDIR", "EPERM", "ENXIO"})
"""Nothing was written: it is read-only, another's, or not there at all."""
NO_READ = frozenset({"EACCES", "ENOENT", "EPERM", "ENOTDIR", "ENXIO"})
NO_CALL = frozenset({"EPERM", "ENOSYS"})
NONE = frozenset({"NONE"})


@dataclass(frozen=True)
class Attempt:
    """One attack of one kind of attacker."""

    what: str
    expected: frozenset[str]
    """Each way in which it may end."""
    how: str | Callable[[Sensor], str]
    """A function of `inside` or `doors`, or one that attacks from where the sensor is."""
    by: tuple[str, ...] = OURS
    """Services; "" is whoever owns the machine."""
    users: tuple[str | None, ...] = (None,)
    at: tuple[str, ...] = FREE
    is_decided_here: Callable[[], bool] = lambda: True
    """Whether the engine of this machine can refuse it."""

    @property
    def name(self) -> str:
        return self.how if isinstance(self.how, str) else self.how.__name__

    def is_refused(self, got: list[str]) -> bool:
        """Return whether all that was got is what was expected."""
        return bool(got) and self.expected.issuperset(got)


def _may_set_limits() -> bool:
    """Whether root here has CAP_SYS_RESOURCE: without it, the engine sets a score and no limit."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.split("CapEff:\t")[1].split()[0], 16) & 1 << 24)


ANYBODY: tuple[str | None, ...] = (None, ROOT)

INSIDE = (
    Attempt("have a capability, or gain one", NONE, "rights", EVERY, ANYBODY),
    Attempt("become another user", frozenset({"EPERM"}), "another_user", EVERY),
    Attempt("ask the kernel for what hosts do", NO_CALL, "calls_of_hosts", EVERY, ANYBODY),
    Attempt("ask the kernel for what nobody needs", NO_CALL, "calls_of_nobody", WITH_PAGE, ANYBODY,
            at=FILTERED),
    Attempt("make a node of a card, disk or memory", NO_WRITE, "devices", EVERY, ANYBODY),
    Attempt("open memory, kernel log, disk or card", NO_READ, "devices_that_exist", EVERY, ANYBODY),
    Attempt("make packets of its own", frozenset({"EPERM"}), "raw_sockets", EVERY, ANYBODY),
    Attempt("use sockets that nobody needs", frozenset({"EPERM"}), "sockets_of_nobody", WITH_PAGE,
            ANYBODY, at=FILTERED),
    Attempt("write to the kernel's settings", NO_WRITE, "settings_of_the_kernel", EVERY, ANYBODY),
    Attempt("be preferred to the recorder", frozenset({"EPERM", "EACCES"}), "precedence",
            ("detection", "default", "beat", "redis", "web")),
    Attempt("be spared when memory is short", frozenset({"EACCES"}), "be_spared",
            ("detection", "default", "beat", "web"), is_decided_here=_may_set_limits),
    Attempt("change the code that it runs", frozenset({"EROFS"}), "own_image", EVERY, ANYBODY),
    Attempt("run a program from memory", frozenset({"EACCES", "EROFS"}), "programs_of_its_own",
            EVERY, ANYBODY),
    Attempt("find a setuid program", NONE, "setuid_programs", ("default",), (ROOT,)),
    Attempt("see processes of others", NONE, "processes_of_others", EVERY, ANYBODY),
    Attempt("order a container at the engine", NO_READ, "engine", EVERY, ANYBODY),
    Attempt("reach a network", frozenset({"ENETUNREACH"}), "network", OFFLINE, ANYBODY),
    Attempt("have a network interface", frozenset({"lo"}), "interfaces", OFFLINE),
    Attempt("find a secret in files and processes", NONE, "secrets", (*OFFLINE, "web"), ANYBODY),
    Attempt("open files of secrets", NO_READ, "secret_files", (*OFFLINE, "web"), ANYBODY),
    Attempt("change what the sensor is to do", NO_WRITE, "configuration",
            ("recording", "detection", "beat", "web")),
    Attempt("change what the sensor is to do, without a page", NO_WRITE, "configuration_alone",
            ("default",), at=("committed", "balena")),
    Attempt("change what the page does not", NO_WRITE, "generated_files", ("default",),
            at=("compose",)),
    Attempt("change databases, recordings, models", NO_WRITE, "data_of_others",
            ("detection", "beat", "web")),
    Attempt("change a recording that is kept", NO_WRITE, "recordings_that_are_kept",
            ("recording",), at=("compose",)),
    Attempt("see recordings and what was found", NO_READ, "recordings_at_all",
            ("beat", "redis", "setup", "web")),
    Attempt("write to logs and states of others", NO_WRITE, "folders_of_others", WITH_PAGE),
    Attempt("make files of its own, or links", NO_WRITE | {"EBUSY", "EXDEV"}, "own_folders",
            ("detection", "beat"), at=("compose",)),
    Attempt("fill the disk", frozenset({"BOUNDED"}), "the_disk", ("detection", "beat")),
    Attempt("take the place of a door", NO_WRITE, "doors_of_others",
            ("detection", "web")),
    Attempt("rule the broker", frozenset({"NOPERM", "UNKNOWN"}), "rule_the_broker", OURS),
    Attempt("order recordings", frozenset({"NOPERM"}), "order_recordings",
            ("detection", "default")),
    Attempt("take orders of others away", frozenset({"NOPERM"}), "orders_of_others", OURS),
    Attempt("enter the broker without a password", frozenset({"-WRONGPASS", "-NOAUTH"}),
            "enter_without_password", OURS),
    Attempt("call at the door what no model needs", frozenset({"REFUSED"}), "calls_of_others",
            ("detection",)),
    Attempt("send to the door what is no call", frozenset({"REFUSED", "CLOSED"}), "malformed_calls",
            ("detection", "web")),
    Attempt("call at the door what no page needs", frozenset({"REFUSED"}), "calls_of_no_page",
            ("web",)),
    Attempt("read files that are no recordings", frozenset({"REFUSED"}), "files_by_the_door",
            ("web",)),
    Attempt("have secrets shown, changed or sent elsewhere", frozenset({"REFUSED"}),
            "secrets_by_the_door", ("web",)),
    Attempt("change what only the owner may", frozenset({"REFUSED"}), "changes_of_nobody",
            ("web",)),
    Attempt("call at the door of another", NO_READ, "door_of_a_model", ("web",)),
)  # fmt: skip
"""Tried from within a container that runs."""

OUTSIDE = tuple(
    Attempt(what, frozenset({expected}), how, by, at=("compose",))
    for what, by, expected, how in outside.ATTACKS
)
"""Tried with the sensor as a whole, in this order."""

ATTEMPTS = (*INSIDE, *OUTSIDE)


def attackers(sensor: Sensor, attempt: Attempt) -> list[tuple[str, str | None]]:
    """Return who makes an attempt at a sensor: services, each with the user it runs as."""
    if sensor.kind not in attempt.at or not attempt.is_decided_here():
        return []
    there = (*sensor.services, "")
    return [(one, user) for one in attempt.by if one in there for user in attempt.users]


Got = Mapping[tuple[str, str, str | None], list[str]]
"""How attempts ended, by their names, services and users."""


def attack_from_inside(sensor: Sensor) -> Got:
    """Make all attempts of `INSIDE` at a sensor, those of one service and user together."""
    got = {}
    asked: dict[tuple[str, str | None], list[str]] = {}
    for attempt in INSIDE:
        for who in attackers(sensor, attempt):
            asked.setdefault(who, []).append(attempt.name)
    for (service, user), names in asked.items():
        for name, words in sensor.attack(service, names, user).items():
            got[name, service, user] = words
    return got


def attack_from_outside(sensor: Sensor, attempt: Attempt) -> str:
    """Make an attempt of `OUTSIDE`, and return how it ended."""
    assert callable(attempt.how)
    try:
        return attempt.how(sensor)
    except (AssertionError, Failed, OSError, subprocess.SubprocessError) as error:
        return f"not tried to the end: {str(error)[:1500]}"
