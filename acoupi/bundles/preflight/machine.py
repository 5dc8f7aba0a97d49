"""Checks of the machine, with or without containers."""

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
"""Bytes that the engine needs in addition to the image: containers and their logs."""
SPACE_IN_HOME = GB
"""Free bytes below which a home is nearly full for a sensor."""


def check_home(state: MachineState) -> Result:
    """Check that this user may write into the home."""
    home = state.home
    if state.probes.can_write(home):
        return ok(f"{home} is writable")
    return fail(
        f'cannot write in ACOUPI_HOME, "{home}".',
        "this user has no permission; containers also run as this user.",
        f"sudo chown -R $(id -u):$(id -g) {shlex.quote(str(home))}   "
        "(or put ACOUPI_HOME elsewhere)",
    )


NO_OWNERS = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfsplus"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs"})
VIRTUAL = frozenset({"proc", "sysfs", "devtmpfs", "cgroup", "cgroup2", "debugfs", "securityfs"})


def check_file_system(state: MachineState) -> Result | None:
    """Check that containers can work on the file system of the home."""
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
            f"{storage.mounted_on} is a tmpfs: recordings are lost in a power cut.",
            "export ACOUPI_HOME=~/.acoupi",
        )
    return ok(f"{storage.kind}, mounted on {storage.mounted_on}")


def _why_not_mountable(storage: Storage) -> str | None:
    if "ro" in storage.options:
        return f"{storage.mounted_on} is mounted read-only."
    if storage.kind in NO_OWNERS:
        return "it has no owners or permissions, so anyone could read secrets."
    if storage.kind in VIRTUAL:
        return "that is a view into the kernel, not a disk."
    if storage.kind in REMOTE or storage.kind == "fuse.sshfs":
        return "that is on another machine: the databases need a local disk."
    if storage.kind.startswith("fuse.") and "allow_other" not in storage.options:
        return "only the user who mounted it may read it, the engine may not (allow_other)."
    return None


def check_disk(state: MachineState) -> Result | None:
    """Check that the engine has room for images."""
    needed = SPACE_TO_KEEP if not state.bundle or state.images else SPACE_TO_BUILD
    root = Path(str(state.engine.get("DockerRootDir") or "/var/lib/docker"))
    free = state.probes.free_bytes(root)
    if free is None:
        return None
    if free < needed:
        use = "the images of the bundle" if needed == SPACE_TO_BUILD else "its containers"
        return fail(
            f"there is no space for {use}.",
            f"{root} has {size(free)} free, but {size(needed)} are needed.",
            "docker builder prune   (removes the leftovers of builds, no images or data)",
        )
    return ok(f"{size(free)} free in {root}")


def check_home_space(state: MachineState) -> Result | None:
    """Check that there is room for recordings."""
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
    """Compare the memory with the limits of the services."""
    if state.bundle is None:
        return None
    total, wanted = state.probes.memory_bytes(), state.bundle.memory_limit
    if state.engine.get("MemoryLimit") is False:
        return warn(
            "the kernel does not limit memory",
            "a growing model could get the recorder killed (usual on Raspberry Pi OS).",
            "add cgroup_enable=memory to /boot/firmware/cmdline.txt, and reboot",
        )
    if wanted > total:
        return warn(
            f"the limits add up to {size(wanted)}, but there are only {size(total)}",
            "if memory runs out, models are killed first and the recorder last.",
            "lower mem_limit in docker-compose.override.yml",
        )
    return ok(f"{size(total)}; the limits add up to {size(wanted)}")


def check_sound(state: MachineState) -> Result | None:
    """Look for a microphone; the bundle also starts without one."""
    if state.simulated:
        return ok(f"simulated: {state.simulated}")
    if state.bundle is not None and state.bundle.recorder is None:
        return None
    cards = state.probes.cards()
    if cards:
        return ok(", ".join(cards))
    return warn(
        "no microphone is plugged in",
        "the recorder starts anyway, and records as soon as one is plugged in.",
        "acoupi devices   (to try without one: ACOUPI_SIMULATED_AUDIO=synthetic acoupi setup)",
    )


def check_rights(state: MachineState) -> Result | None:
    """Report the isolation of the services; containers have their own checks."""
    return ok(state.rights) if state.rights else None


def check_clock(state: MachineState) -> Result | None:
    """Check that the times of recordings will be right."""
    right = state.probes.is_clock_synchronised()
    if right is None:
        return None
    if right:
        return ok("synchronised")
    return warn(
        "the clock is not synchronised",
        "until it is, the times of recordings may be wrong, and are marked so.",
        "timedatectl set-ntp true   (or a clock chip, where there is no network)",
    )
