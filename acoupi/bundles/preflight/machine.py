"""Whether this machine has what a sensor needs, with or without containers."""

import shlex
from pathlib import Path

from acoupi.bundles.engine import Storage
from acoupi.bundles.preflight.machine_state import (
    GB,
    MachineState,
    Result,
    fail,
    ok,
    size,
    warn,
)

__all__ = [
    "check_clock",
    "check_disk",
    "check_file_system",
    "check_home",
    "check_home_space",
    "check_memory",
    "check_rights",
    "check_sound",
]

SPACE_TO_BUILD = 2 * GB
"""Bytes: the image, its base, and the layers that building it leaves behind (measured: 1.8 GB)."""
SPACE_TO_KEEP = 200_000_000
"""Bytes that the engine needs when the image is there: containers and their logs."""
SPACE_IN_HOME = GB
"""Bytes below which a home is nearly full for a device that records."""


def check_home(state: MachineState) -> Result:
    """Look whether this user may write into the home."""
    home = state.home
    if state.probes.can_write(home):
        return ok(f"{home} can be written")
    return fail(
        f'cannot write in ACOUPI_HOME, "{home}".',
        "this user may not; containers run as this user too.",
        f"sudo chown -R $(id -u):$(id -g) {shlex.quote(str(home))}   "
        "(or put ACOUPI_HOME elsewhere)",
    )


NO_OWNERS = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfsplus"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs"})
VIRTUAL = frozenset({"proc", "sysfs", "devtmpfs", "cgroup", "cgroup2", "debugfs", "securityfs"})


def check_file_system(state: MachineState) -> Result | None:
    """Look whether containers can work on the file system of the home."""
    storage = state.probes.storage(state.home)
    if storage is None:
        return None
    why = _why_not_mountable(storage)
    if why is not None:
        return fail(
            f'cannot use "{state.home}" as ACOUPI_HOME: it is on {storage.kind}.',
            why,
            "put ACOUPI_HOME on ext4, xfs or btrfs: export ACOUPI_HOME=~/.acoupi   "
            "(recordings may be elsewhere)",
        )
    if storage.kind == "tmpfs":
        return warn(
            f"{state.home} is kept in memory",
            f"{storage.mounted_on} is a tmpfs: what is recorded is lost with the power.",
            "export ACOUPI_HOME=~/.acoupi",
        )
    return ok(f"{storage.kind}, mounted on {storage.mounted_on}")


def _why_not_mountable(storage: Storage) -> str | None:
    if "ro" in storage.options:
        return f"{storage.mounted_on} is mounted read-only."
    if storage.kind in NO_OWNERS:
        return "it knows no owners and no rights, so secrets could be read by everyone."
    if storage.kind in VIRTUAL:
        return "that is a view into the kernel, not a disk."
    if storage.kind in REMOTE or storage.kind == "fuse.sshfs":
        return "that is on another machine: the databases need a local disk."
    if storage.kind.startswith("fuse.") and "allow_other" not in storage.options:
        return "only the user who mounted it may look into it, the engine may not (allow_other)."
    return None


def check_disk(state: MachineState) -> Result | None:
    """Look whether the engine has room for images."""
    needed = SPACE_TO_KEEP if not state.bundle or state.images else SPACE_TO_BUILD
    root = Path(str(state.engine.get("DockerRootDir") or "/var/lib/docker"))
    free = state.probes.free_bytes(root)
    if free is None:
        return None
    if free < needed:
        use = "the images of the bundle" if needed == SPACE_TO_BUILD else "its containers"
        return fail(
            f"there is no space for {use}.",
            f"{root} has {size(free)} free, and they need {size(needed)}.",
            "docker builder prune   (removes what builds left behind, no images, no data)",
        )
    return ok(f"{size(free)} free in {root}")


def check_home_space(state: MachineState) -> Result | None:
    """Look whether there is room for recordings."""
    free = state.probes.free_bytes(state.home)
    if free is None:
        return None
    if free < SPACE_IN_HOME:
        return warn(
            f"only {size(free)} free in {state.home}",
            "a day of recordings may need more.",
            f"df -h {shlex.quote(str(state.home))}   (and make room)",
        )
    return ok(f"{size(free)} free in {state.home}")


def check_memory(state: MachineState) -> Result | None:
    """Compare the memory with what the services may use."""
    if state.bundle is None:
        return None
    total, wanted = state.probes.memory_bytes(), state.bundle.memory_limit
    if state.engine.get("MemoryLimit") is False:
        return warn(
            "the kernel does not limit memory",
            "a model that grows could end the recorder (usual on Raspberry Pi OS).",
            "add cgroup_enable=memory to /boot/firmware/cmdline.txt, and reboot",
        )
    if wanted > total:
        return warn(
            f"the limits add up to {size(wanted)}, and there are {size(total)}",
            "if all of it is used, models are ended first and the recorder last.",
            "lower mem_limit in docker-compose.override.yml",
        )
    return ok(f"{size(total)}; the limits add up to {size(wanted)}")


def check_sound(state: MachineState) -> Result | None:
    """Look for a microphone; the bundle starts without one too."""
    if state.simulated:
        return ok(f"simulated: {state.simulated}")
    if state.bundle is not None and state.bundle.recorder is None:
        return None
    cards = state.probes.cards()
    if cards:
        return ok(", ".join(cards))
    return warn(
        "no microphone is plugged in",
        "the recorder starts all the same, and records as soon as there is one.",
        "acoupi devices   (to try without one: ACOUPI_SIMULATED_AUDIO=synthetic acoupi setup)",
    )


def check_rights(state: MachineState) -> Result | None:
    """Say what keeps the services apart; containers have checks of their own."""
    return ok(state.rights) if state.rights else None


def check_clock(state: MachineState) -> Result | None:
    """Look whether the time of recordings will be right."""
    right = state.probes.is_clock_synchronised()
    if right is None:
        return None
    if right:
        return ok("synchronised")
    return warn(
        "the clock is not synchronised",
        "recordings are marked with a time that may be wrong, until it is.",
        "timedatectl set-ntp true   (or a clock chip, where there is no network)",
    )
