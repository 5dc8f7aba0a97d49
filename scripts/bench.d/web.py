"""How fast the page answers with 100,000 detections in the store, asked through its door."""

import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from starlette.testclient import TestClient

from acoupi.components.stores import SqliteStore
from acoupi.config.web import Web
from acoupi.door.folders import door_folder
from acoupi.services.page_door import PageDoor
from acoupi.stack.doors import WEB
from acoupi.stack.settings import Settings
from acoupi.system import setup_program
from acoupi.web.access import PageAccess
from acoupi.web.app import make_app
from acoupi.web.door_sensor import DoorSensor
from acoupi.web.limits import Rate

HERE = Path(__file__).parent
DETECTIONS = 100_000
FIRST_MS, FILTER_MS, NEW_MS = 150, 300, 1000
ALL = (
    "species=species 3&min_score=0.9&verdict=none&deployment=bench&model=bench&tag=event=call"
    "&from=2024-04-02&to=2024-04-09"
)
LOOKS: dict[str, tuple[str, float | None]] = {
    "first_page": ("/detections", FIRST_MS),
    "later_page": ("/detections?after={after}", FIRST_MS),
    "common_species": ("/detections?species=species 3", FILTER_MS),
    "rare_species": ("/detections?species=Rarissima avis", FILTER_MS),
    "two_species": ("/detections?species=species 3&species=species 4", FILTER_MS),
    "tag": ("/detections?tag=event=call", FILTER_MS),
    "high_score": ("/detections?min_score=0.999", FILTER_MS),
    "no_such_score": ("/detections?min_score=1", FILTER_MS),
    "one_night": ("/detections?from=2024-04-05&to=2024-04-06", FILTER_MS),
    "site": ("/detections?deployment=bench", FILTER_MS),
    "model": ("/detections?model=bench", FILTER_MS),
    "not_reviewed": ("/detections?verdict=none", FILTER_MS),
    "reviewed": ("/detections?verdict=right", FILTER_MS),
    "kept": ("/detections?state=kept", FILTER_MS),
    "sample": ("/detections?sample=1", FILTER_MS),
    "all_at_once": (f"/detections?{ALL}", FILTER_MS),
    "json": ("/api/v1/detections?limit=50", FIRST_MS),
    "now": ("/", None),
    "one_detection": ("/detections/{after}", None),
    "species": ("/species", None),
    "one_species": ("/species/when?species=species 3", None),
    "health": ("/health", None),
    "settings": ("/settings", None),
}  # fmt: skip


def run(runs: int) -> dict[str, Any]:
    """Return the median milliseconds of each page over `runs`, once the door has been opened."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(
            ACOUPI_HOME=f"{folder}/home",
            ACOUPI_TARGET="process",
            ACOUPI_SIMULATED_AUDIO="synthetic,pace=fast",
        )
        settings = Settings()
        setup_program(settings, "connected", [])
        path = Path(json.loads(settings.program_config_file.read_text())["paths"]["db_metadata"])
        season = _season()
        season.fill(path, DETECTIONS)
        door = door_folder(settings.home / "run", WEB)
        PageDoor(door).start()
        web = Web(public=True)
        access = PageAccess(web, Path(folder) / "keys.json", rate=Rate(burst=1e6))
        with TestClient(make_app(DoorSensor(door), web, access=access)) as client:
            return _measured(client, path, season, runs)


def _measured(client: TestClient, path: Path, season: ModuleType, runs: int) -> dict[str, Any]:
    last = client.get("/api/v1/detections?limit=50").json()["detections"][-1]["detection_id"]
    found: dict[str, Any] = {"detections_count": DETECTIONS}
    for name, (address, goal) in LOOKS.items():
        taken = [_milliseconds(client, address.format(after=last)) for _ in range(runs)]
        found[name] = _told(taken, goal)
    found["new_detection"] = _told(
        [_until_shown(client, path, season, n) for n in range(runs)], NEW_MS
    )
    return found


def _told(taken: list[float], goal: float | None) -> dict[str, Any]:
    told = {"value": round(statistics.median(taken)), "unit": "ms"}
    return told if goal is None else {**told, "goal": goal}


def _milliseconds(client: TestClient, address: str) -> float:
    start = time.perf_counter()
    answer = client.get(address)
    assert answer.status_code == 200, f"{address}: {answer.text[:500]}"
    return 1000 * (time.perf_counter() - start)


def _until_shown(client: TestClient, path: Path, season: ModuleType, number: int) -> float:
    """Return how long after it is stored a detection is on the first page."""
    number += DETECTIONS
    recording = season.recording(number)
    made = season.output(recording, number)
    store = SqliteStore(path)
    store.store_recording(recording)
    start = time.perf_counter()
    store.store_model_output(made)
    while str(made.detections[-1].id) not in client.get("/").text:
        assert time.perf_counter() - start < 30
    store.close()
    return 1000 * (time.perf_counter() - start)


def _season() -> ModuleType:
    """Return the measurement of exports, which fills a store with a season."""
    spec = importlib.util.spec_from_file_location("bench_exports", HERE / "exports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
