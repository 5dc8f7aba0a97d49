"""How soon a sensor that nobody logs in to records: from variables, on empty volumes.

The demo program as it runs on a balena device, started by ``docker compose up -d``
from its folder, with this machine's image; beside it the bundle with a home on
the host, which is set up already, and so has nothing to do but to start.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from acoupi.bundles.images import build_image, image_name, why_build
from acoupi.components import SqliteStore
from acoupi.system import Settings, setup_program
from acoupi.system.planning import SetupRequest, plan_setup
from acoupi.targets.balena import write_balena_folder

DEADLINE = 180.0
PROJECT = "acoupi-bench-fleet"
SETTINGS = {"RECORDING__DURATION": "1", "RECORDING__INTERVAL": "2"}

Figures = dict[str, object]


def run(runs: int) -> Figures:
    """Return seconds to the first stored recording, set up by itself and set up before."""
    if why_build(image_name()):
        build_image()
    by_itself, setting_up, before = [], [], []
    for _ in range(max(1, min(runs, 3))):
        with balena_folder() as folder:
            begun = time.monotonic()
            compose(folder, "up", "-d")
            wait_for(is_set_up, "the provisioning")
            setting_up.append(time.monotonic() - begun)
            wait_for(lambda: first_recording(volume("data")), "the first recording")
            by_itself.append(time.monotonic() - begun)
        with bundle() as home:
            begun = time.monotonic()
            compose(home, "up", "-d")
            wait_for(lambda h=home: first_recording(h / "data"), "the first recording")
            before.append(time.monotonic() - begun)
    return {
        "provisioned_s": round(median(setting_up), 1),
        "first recording_s": round(median(by_itself), 1),
        "first recording of a bundle with a home_s": round(median(before), 1),
        "difference_s": round(median(by_itself) - median(before), 1),
    }


@contextmanager
def balena_folder() -> Iterator[Path]:
    """Render the folder; remove all of it in the end."""
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as place:
        folder = Path(place) / "fleet"
        settings = Settings(home=Path(place) / "nowhere")
        plan = plan_setup(settings, SetupRequest("demo", target="balena", environ={}))
        write_balena_folder(folder, plan.stack, settings)
        variables = {f"ACOUPI_CONFIG__{name}": value for name, value in SETTINGS.items()}
        variables["ACOUPI_SIMULATED_AUDIO"] = "synthetic"
        names = ["redis", "setup", *plan.stack.names]
        # JSON is YAML, but for the tag that takes something away.
        services = ",".join(
            f'"{name}": {{image: {image_name()}, build: !reset null, '
            f"devices: !reset [], environment: {json.dumps(variables)}}}"
            for name in names
        )
        (folder / "docker-compose.override.yml").write_text(f"services: {{{services}}}\n")
        try:
            yield folder
        finally:
            compose(folder, "down", "--volumes", "--timeout", "5")


@contextmanager
def bundle() -> Iterator[Path]:
    """Set up a bundle with a home on this machine; remove it in the end."""
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as place:
        home = Path(place) / "home"
        options = [
            word
            for name, value in SETTINGS.items()
            for word in (f"--{name.lower().replace('__', '.')}", value)
        ]
        setup_program(
            Settings(home=home), "acoupi.programs.demo", options, target="compose", environ={}
        )
        try:
            yield home
        finally:
            compose(home, "down", "--volumes", "--timeout", "5")


def compose(folder: Path, *arguments: str) -> str:
    """Run Docker Compose in a folder and return what it printed."""
    return docker("compose", "-p", PROJECT, *arguments, cwd=folder)


def docker(*arguments: str, cwd: Path | None = None) -> str:
    """Run docker and return what it printed."""
    done = subprocess.run(
        ["docker", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"docker {arguments[0]} failed: {done.stderr[-400:]}")
    return done.stdout


def volume(name: str) -> Path:
    """Return where the engine keeps a volume (reading it needs root)."""
    where = docker("volume", "inspect", "--format", "{{.Mountpoint}}", f"{PROJECT}_{name}")
    return Path(where.strip())


def is_set_up() -> bool:
    """Return whether the provisioning says that it is done."""
    pulse = volume("run") / "setup" / "setup.json"
    return pulse.exists() and '"state":"ready"' in pulse.read_text()


def first_recording(data: Path) -> bool:
    """Return whether the store has a recording."""
    place = data / "metadata.db"
    if not place.exists():
        return False
    store = SqliteStore(place)
    return bool(store.get_captured_recordings() or store.get_model_outputs())


def wait_for(claim: Callable[[], bool], what: str) -> None:
    """Wait until something holds, or end."""
    end = time.monotonic() + DEADLINE
    while not claim():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not come within {DEADLINE:.0f} s")
        time.sleep(0.1)
