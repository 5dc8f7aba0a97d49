"""Attacks as a service that was taken over makes them: this text is run within its container.

Each function tries one thing in some ways, and returns how each ended: the name of an error,
or what was gained.
"""

import ctypes
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.docker.attacks.attempts import Here, every, opened, tried, written

# --- the kernel ---

LIBC = ctypes.CDLL(None, use_errno=True)
OF_HOSTS = {
    "adjtimex": (159, ctypes.create_string_buffer(b"\xff" * 208, 208)), "bpf": (321, 0, 0, 0),
    "chroot": (161, b"/tmp"), "clock_settime": (227, 0, ctypes.create_string_buffer(16)),
    "init_module": (175, 0, 0, 0), "kexec_load": (246, 0, 0, 0, 0),
    "mount": (165, b"none", b"/tmp", b"tmpfs", 0, 0), "pivot_root": (155, b"/", b"/"),
    "reboot": (169, 0xFEE1DEAD, 672274793, 0x1234567, 0), "setns": (308, 0, 0),
    "sethostname": (170, b"x", 1), "settimeofday": (164, ctypes.create_string_buffer(16), 0),
    "swapon": (167, b"/tmp/x", 0), "umount2": (166, b"/proc", 2),
    "unshare a mount": (272, 0x20000), "unshare a user": (272, 0x10000000),
}  # fmt: skip
"""System calls by their numbers on x86-64, with what they are given."""
OF_NOBODY = {
    "io_uring_setup": (425, 1, 0), "keyctl": (250, 0, 0), "name_to_handle_at": (303, 0, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0), "process_vm_readv": (310, 1, 0, 0, 0, 0),
    "ptrace": (101, 16, 1), "userfaultfd": (323, 0),
}  # fmt: skip
"""What no service needs, and the engine's own filter may allow."""


def _called(calls: Iterable[tuple[Any, ...]]) -> list[str]:
    def call(arguments: tuple[Any, ...]) -> Callable[[], object]:
        def act() -> None:
            ctypes.set_errno(0)
            if LIBC.syscall(*arguments) == -1:
                raise OSError(ctypes.get_errno(), "")

        return act

    return every(call(arguments) for arguments in calls)


def calls_of_hosts(_: Here) -> list[str]:
    """Ask the kernel for what only a host does."""
    return _called(OF_HOSTS.values())


def calls_of_nobody(_: Here) -> list[str]:
    """Ask the kernel for what no service needs."""
    return _called(OF_NOBODY.values())


def rights(_: Here) -> list[str]:
    """Have a capability, or gain one by a program that gives it."""
    text = Path("/proc/self/status").read_text()
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    found = [name for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb") if int(status[name], 16)]
    found += [] if status["NoNewPrivs"] == "1" else ["gains rights by exec"]
    found += [] if status["Seccomp"] == "2" else ["calls whatever it wants"]
    return found or ["NONE"]


def another_user(_: Here) -> list[str]:
    """Become somebody else."""
    return every([
        lambda: os.setresuid(4321, 4321, 4321), lambda: os.setresgid(4321, 4321, 4321),
        lambda: os.setgroups([0, 29, 4321]),
    ])  # fmt: skip


def devices(here: Here) -> list[str]:
    """Make a node of the sound card, the disk or the memory."""
    places = ("/tmp", "/dev", "/dev/shm", here.home / "run" / here.service)
    numbers = ((116, 24), (116, 0), (1, 1), (8, 0), (254, 0))

    def make(place: str | Path, number: tuple[int, int], kind: int) -> Callable[[], object]:
        return lambda: os.mknod(f"{place}/node", kind | 0o666, os.makedev(*number))

    return every(make(*one, stat.S_IFCHR) for one in ((p, n) for p in places for n in numbers))


def devices_that_exist(_: Here) -> list[str]:
    """Open what stands for memory, the kernel's log, the disk or the card."""
    paths = ["/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/snd/pcmC0D0c",
             "/dev/snd/controlC0", "/proc/kcore", "/dev/fuse", "/dev/kvm"]  # fmt: skip
    return every(opened(path) for path in paths)


def raw_sockets(_: Here) -> list[str]:
    """Make packets of its own."""
    return _sockets((17, 3), (2, 3, 1), (10, 3, 58))


def sockets_of_nobody(_: Here) -> list[str]:
    """Talk to hypervisors, to the kernel's cryptography, by Bluetooth and CAN."""
    return _sockets((40, 1), (38, 5), (31, 3), (29, 3))


def _sockets(*kinds: tuple[int, ...]) -> list[str]:
    return every(lambda one=one: socket.socket(*one).close() for one in kinds)  # type: ignore[misc]


def settings_of_the_kernel(_: Here) -> list[str]:
    """Write to /proc/sys, /sys or the own limits."""
    return every(
        written(path)
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
                     "/proc/sysrq-trigger", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                     "/sys/fs/cgroup/memory.max", "/sys/kernel/uevent_helper")
    )  # fmt: skip


def precedence(_: Here) -> list[str]:
    """Be preferred to the recorder by the scheduler."""
    return every([
        lambda: os.setpriority(os.PRIO_PROCESS, 0, -10),
        lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10)),
    ])  # fmt: skip


def be_spared(_: Here) -> list[str]:
    """Be spared, and so have others ended, when the machine is short of memory."""
    worker = Path("/proc/1/oom_score_adj")  # what is run beside it has another
    return [tried(lambda: worker.write_text(str(int(worker.read_text()) - 1)))]


# --- its own container ---


def own_image(_: Here) -> list[str]:
    """Change the code that it runs."""
    folders = ("/usr/bin", "/opt/acoupi", "/etc", "/usr/lib", "/")
    return every(written(f"{folder}/mine") for folder in folders)


def programs_of_its_own(_: Here) -> list[str]:
    """Run a program that it wrote to memory."""

    def run(path: str) -> None:
        Path(path).write_text("#!/bin/true\n")
        Path(path).chmod(0o755)
        try:
            subprocess.run([path], check=True)
        finally:
            Path(path).unlink()

    return every(lambda folder=folder: run(f"{folder}/program") for folder in ("/tmp", "/dev/shm"))  # type: ignore[misc]


def setuid_programs(_: Here) -> list[str]:
    """Find a program that runs as another user."""
    folders = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local/bin", "/opt")
    found = [path for path in _files(folders) if os.stat(path).st_mode & 0o6000]  # noqa: PTH116
    return found[:5] or ["NONE"]


def processes_of_others(here: Here) -> list[str]:
    """See what else runs on the machine."""
    others: set[str] = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            text = path.read_bytes().decode(errors="replace").split("\0")
            others.update(one for one in text if one.startswith("ACOUPI_SERVICE="))
    return sorted(others - {f"ACOUPI_SERVICE={here.service}"}) or ["NONE"]


def engine(_: Here) -> list[str]:
    """Order a container at the engine."""
    names = ("docker.sock", "containerd/containerd.sock", "balena-engine.sock", "balena.sock")

    def connect(path: str) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as one:
            one.connect(path)

    return every(
        lambda path=f"{folder}/{name}": connect(path)  # type: ignore[misc]
        for folder in ("/var/run", "/run", "/host/run")
        for name in names
    )


# --- the network ---


def network(_: Here) -> list[str]:
    """Reach the internet, the metadata of a cloud, the machine itself, a name server."""

    def connect(address: tuple[str, int]) -> None:
        with closing(socket.socket()) as one:
            one.settimeout(5)
            one.connect(address)

    addresses = (("1.1.1.1", 53), ("169.254.169.254", 80), ("172.17.0.1", 22), ("10.0.0.1", 80))
    return every(lambda one=one: connect(one) for one in addresses)  # type: ignore[misc]


def interfaces(_: Here) -> list[str]:
    """Have an interface to any network."""
    return sorted(name for _, name in socket.if_nameindex())


# --- secrets ---


def secrets(here: Here) -> list[str]:
    """Find a password or token in any file, or in the environment of any process."""
    places = (str(here.home), "/run", "/tmp", "/etc", "/opt/acoupi/etc", "/dev/shm")
    found = set()
    for path in (*_files(places), *map(str, Path("/proc").glob("[0-9]*/environ"))):
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            content = os.read(handle, 4_000_000).decode(errors="replace")
            os.close(handle)
            if any(one in content for one in here.secrets):
                found.add(path)
    return sorted(found) or ["NONE"]


def _files(places: Iterable[str]) -> Iterator[str]:
    for place in places:
        for root, _, names in os.walk(place):
            for name in names:
                path = Path(root, name)
                if not path.is_symlink() and path.is_file():
                    yield str(path)


def secret_files(here: Here) -> list[str]:
    """Open the files of secrets by their names."""
    names = ["config/secrets.env", "secrets/config/secrets.env", "secrets/broker/users.acl", ".env",
             "config/fetched.json", "secrets/config/fetched.json"]  # fmt: skip
    names += [f"secrets/broker/{name}" for name in here.of_others()]
    paths = [here.home / name for name in names]
    if here.service == "redis":  # knows the passwords of its users
        paths = [path for path in paths if path.parent.name != "broker"]
    else:
        paths += [Path(f"/run/keys/{name}/password") for name in here.of_others()]
    return every(opened(path) for path in paths)


# --- the home ---

OF_SETUP = ("app.py", ".env", "docker-compose.yml", "docker-compose.override.yml",
            "config/program.json", "config/schedule.json", "config/deployment.json",
            "config/mine", "secrets/mine", ".generated.json")  # fmt: skip
OF_THE_STORES = ("data/metadata.db", "data/metadata.db-wal", "data/messages.db", "data/made.db",
                 "data/cache/model", "data/spool/made.wav", "data/recordings/made.wav")  # fmt: skip


def configuration(here: Here) -> list[str]:
    """Change what the sensor is to do, or place a file that a later start reads."""
    return every(written(here.home / name) for name in OF_SETUP)


def configuration_alone(here: Here) -> list[str]:
    """The same, by the one service that may with a page."""
    return configuration(here)


def generated_files(here: Here) -> list[str]:
    """Change what only a setup writes."""
    return every(written(here.home / name) for name in OF_SETUP if not name.startswith("config/"))


def data_of_others(here: Here) -> list[str]:
    """Change, move, remove or link anything below data/."""
    paths = [here.home / name for name in OF_THE_STORES]
    for folder in (here.home / "data/spool", here.home / "data/recordings"):
        paths += [*list(folder.rglob("*.wav"))[:3], folder]
    return every(act for path in paths for act in _harm(path))


def recordings_that_are_kept(here: Here) -> list[str]:
    """Change a recording that is kept."""
    folder = here.home / "data/recordings"
    paths = [*list(folder.rglob("*.wav"))[:3], folder / "made.wav"]
    return every(act for path in paths for act in _harm(path))


def _harm(path: Path) -> Iterator[Callable[[], object]]:
    # A folder would be there after a flag alone: none is made by trying.
    if path.is_dir():
        yield lambda: path.rename(f"{path}.aside")
        yield lambda: Path(f"{path}/link").symlink_to("/etc")
        yield lambda: Path(f"{path}/folder").mkdir()
        return
    yield lambda: path.rename(f"{path}.aside")
    yield path.unlink
    yield written(path)
    yield lambda: os.link(path, f"{path}.second")
    yield lambda: os.truncate(path, 0)
    yield lambda: path.chmod(0o777)
    yield lambda: Path(f"{path}.link").symlink_to("/etc/shadow")


def recordings_at_all(here: Here) -> list[str]:
    """Hear what was recorded, or read what was found."""
    folder = here.home / "data"
    found = [Path(one) for one in _files([str(folder)])]
    return every(opened(path) for path in (*found[:5], folder / "metadata.db", folder / "spool"))


def folders_of_others(here: Here) -> list[str]:
    """Write to the log or the state of another service, or replace its folder."""
    return every(
        act
        for name in here.of_others()
        for kind in ("log", "run")
        for act in (
            written(here.home / kind / name / "tried"),
            written(here.home / kind / name / f"{name}.json"),
            partial((here.home / kind / name).rename, here.home / kind / f"{name}.aside"),
        )
    )


def own_folders(here: Here) -> list[str]:
    """Make files beside those that it has, or replace these by links or FIFOs."""
    name = here.service
    return every(
        act
        for path in (here.home / f"run/{name}/{name}.json", here.home / f"log/{name}/{name}.log")
        for act in (
            path.unlink,
            partial(path.rename, f"{path}.aside"),
            written(path.with_name("tried")),
            partial(path.with_name("link").symlink_to, "/etc/shadow"),
            partial(os.mkfifo, path.with_name("fifo")),
        )
    )


MOST = 512  # mebibytes that a service may fill


def the_disk(here: Here) -> list[str]:
    """Fill each file and folder that it can write, other than its scratch."""
    files, folders = _writable(here.home)
    sizes = {path: path.stat().st_size for path in files}
    made = [folder / "filled" for folder in folders]
    try:
        for path in (*files, *made):
            _fill(path, sizes, made)
        for folder in folders:
            with suppress(OSError):
                for number in range(200_000):
                    (folder / f"filled-{number}").touch()
                    made.append(folder / f"filled-{number}")
        size = sum(path.stat().st_size for path in (*files, *made) if path.exists()) >> 20
        said = f"{size} MiB, {len(made)} new files"
        return ["BOUNDED" if size <= MOST and len(made) < 20_000 else said]
    finally:
        for path in made:
            path.unlink(missing_ok=True)
        for path, length in sizes.items():
            os.truncate(path, length)


def _writable(home: Path) -> tuple[list[Path], list[Path]]:
    files, folders = [], []
    for place, _, names in os.walk(home):
        folders += [Path(place)] if os.access(place, os.W_OK) else []
        paths = (Path(place, name) for name in names)
        files += [one for one in paths if one.is_file() and os.access(one, os.W_OK)]
    return [one for one in files if one.parent not in folders], folders


def _fill(path: Path, sizes: dict[Path, int], made: list[Path]) -> None:
    """Write to a file until that is refused, or all is more than may be."""
    done = sum(one.stat().st_size for one in (*sizes, *made) if one.exists())
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while done >> 20 <= MOST:
            done += file.write(b"x" * (1 << 20))


def doors_of_others(here: Here) -> list[str]:
    """Take the place of a door, or leave calls in the name of another model."""
    return every([
        written(here.home / "run/door" / here.service / "tried"),
        written(here.home / "run/door/other/tried"),
        (here.home / "run/door" / here.service / "door.sock").unlink,
        lambda: (here.home / "run/door" / here.service).rename(here.home / "run/door/x"),
        written(here.home / "waiting/other/tried"),
    ])  # fmt: skip
