"""Who can open sound devices: `may_open.py NAME PID...`, as JSON: of each process, what it got.

Of a process like it: in its control group, in what it sees of the disk, with its user and groups.
Each device that the *board* has is tried, so one that the process does not see is refused.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x00020000


def become(pid: str) -> None:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    group = Path(f"/proc/{pid}/cgroup").read_text().strip().rpartition(":")[2]
    Path(f"/sys/fs/cgroup{group}/cgroup.procs").write_text(str(os.getpid()))
    with Path(f"/proc/{pid}/ns/mnt").open() as namespace:
        if LIBC.setns(namespace.fileno(), CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "setns")
    os.setgroups([int(one) for one in status["Groups"].split()])
    gid, uid = int(status["Gid"].split()[0]), int(status["Uid"].split()[0])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def tried(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except BlockingIOError:
        return "busy"  # there, and allowed: somebody records from it
    except OSError as error:
        return "busy" if error.errno == 16 else f"refused: {error.strerror}"
    return "opened"


def of_process(pid: str, devices: list[str]) -> dict[str, str]:
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            become(pid)
            said: object = {path: tried(path) for path in devices}
        except OSError as error:
            said = {"error": str(error)}
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer: dict[str, str] = json.loads(file.read())
    os.wait()
    return answer


devices = sorted(str(one) for one in Path("/dev/snd").iterdir() if one.name.startswith("pcm"))
print(json.dumps({pid: of_process(pid, devices) for pid in sys.argv[1:]}))
