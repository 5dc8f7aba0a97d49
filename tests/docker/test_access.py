"""What a container may do with each place of the disk, tried from inside: the table of `ACCESS`."""

import json
from pathlib import Path

import pytest

from acoupi.stack.access import ACCESS, Job, access_of
from tests.docker.bundles import SERVICES, Bundle

JOBS: dict[str, tuple[Job, ...]] = {
    "recording": ("recorder",),
    "detection": ("model",),
    "default": ("manager", "sender"),
    "beat": ("beat",),
}
PLACES = {"config": "config", "data": "data", "spool": "data/spool", "cache": "data/cache",
          "recordings": "data/recordings"}  # fmt: skip
TRY = """
import json, os, sys
def tried(path):
    if not os.path.exists(os.path.join(path, ".here")):
        return "NONE"  # an empty folder of the container, on the way to a mount
    made = os.path.join(path, ".tried")
    try:
        os.close(os.open(made, os.O_WRONLY | os.O_CREAT, 0o600))
        os.unlink(made)
    except OSError:
        return "READ"
    return "WRITE"
print(json.dumps({path: tried(path) for path in sys.argv[1:]}))
"""


def tried(bundle: Bundle, service: str, *paths: Path) -> dict[Path, str]:
    """What a service can do with folders."""
    marks = [path / ".here" for path in paths]
    for mark in marks:
        mark.touch()
    try:
        said = bundle.run_in(service, "python", "-c", TRY, *map(str, paths)).stdout
    finally:
        for mark in marks:
            mark.unlink()
    found: dict[str, str] = json.loads(said)
    return {Path(path): access for path, access in found.items()}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_can_do_with_each_place_what_the_table_says(bundle: Bundle, service: str) -> None:
    expected = {
        bundle.home / path: access_of(JOBS[service], [place]).name  # type: ignore[list-item]
        for place, path in PLACES.items()
    }

    assert tried(bundle, service, *expected) == expected
    assert set(PLACES) <= set(ACCESS)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_its_own_log_and_part_of_run_and_sees_no_other(
    bundle: Bundle, service: str
) -> None:
    """Who writes nothing that is another's has the files, and cannot make more of them."""
    has_folders = service in ("recording", "default")
    folders = {
        bundle.home / kind / name: ("WRITE" if name == service and has_folders else "NONE")
        for kind in ("log", "run")
        for name in SERVICES
    }

    assert tried(bundle, service, *folders) == folders


@pytest.mark.parametrize("service", SERVICES)
def test_only_who_keeps_the_stores_writes_where_doors_are(bundle: Bundle, service: str) -> None:
    door, waiting = (bundle.home / "run/door/detection", bundle.home / "waiting/detection")
    expected = {"default": "WRITE", "detection": "READ"}
    writes = f"import os; print(os.access({str(waiting)!r}, os.W_OK))"

    assert tried(bundle, service, door) == {door: expected.get(service, "NONE")}
    assert bundle.python_in(service, writes) == str(service in expected)


def test_a_model_that_is_taken_over_changes_no_store_no_recording_and_no_model(
    bundle: Bundle,
) -> None:
    """Also as root, and whatever it does to the paths that it sees."""
    bundle.goes_on("work")
    kept = list((bundle.home / "data" / "recordings").rglob("*.wav"))
    code = """
import json, os, sys
home, *files = sys.argv[1:]
done = []
data = home + "/data"
files += [data + "/spool/" + name for name in os.listdir(data + "/spool")]
names = ("data/metadata.db", "data/messages.db", "data/cache/model", "data/spool/x.wav", "app.py")
for path in (*files, *(home + "/" + name for name in names)):
    for act in (lambda: os.unlink(path), lambda: os.rename(path, path + ".x"),
                lambda: os.symlink(home + "/secrets", path + ".link"),
                lambda: open(path, "ab").close()):
        try:
            act()
        except OSError:
            continue
        done.append(path)
print(json.dumps(done))
"""

    attack = ("python", "-c", code, str(bundle.home), *map(str, kept))
    code_before = (bundle.home / "app.py").read_bytes()

    assert json.loads(bundle.run_in("detection", *attack).stdout) == []
    # As root it makes files beside the mounts, in the memory of its own container.
    bundle.run_in("detection", *attack, user="0")

    assert all(path.exists() for path in kept)
    made = [
        one for one in bundle.home.rglob("*") if one.name.endswith((".link", ".db.x", ".wav.x"))
    ]
    assert made == []
    assert (bundle.home / "app.py").read_bytes() == code_before
    bundle.goes_on("work after that")
