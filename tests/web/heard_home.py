"""A sensor whose page is looked at: a home in which something was heard, and its page."""

import json
import math
import wave
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from acoupi import data
from acoupi.components.stores import SqliteStore
from acoupi.config.page_keys import Keys, write_keys
from acoupi.config.web import Web
from acoupi.effort import CapturePlan
from acoupi.provenance import Provenance
from acoupi.stack.settings import Settings
from acoupi.system import setup_program
from acoupi.system.page import PageSensor
from acoupi.web.access import PageAccess
from acoupi.web.app import make_app
from acoupi.web.limits import Rate
from acoupi.web.live import LiveFeed
from acoupi.web.live import routes as live_routes
from acoupi.web.media import routes as media_routes
from acoupi.web.writing import routes as writing_routes
from tests.stores import at, deployment, detection, output, recording

OAK = deployment(name="Old oak", latitude=51.5, longitude=-0.1)
POND = deployment(name='Pond <b>"1"</b>', started_on=at(86_400))
BAT, NOCTULE, BIRD = "Myotis nattereri", "Nyctalus noctula", "Turdus merula"
MADE_BY = Provenance(model="bats", model_version="bats 1.2", weights="5f" * 32, configuration="c0")
REPORT = data.CaptureReport.model_validate(
    {
        "stream_id": "00000000-0000-0000-0000-000000000001",
        "first_frame": 0,
        "frames": 512_000,
        "samplerate_measured": 256_000,
        "clock_synchronised": True,
        "clock_error_s": 0.004,
    }
)
RECORDINGS = 72
"""Two of three with a detection; one of three has kept its file."""
LAST_KEPT = RECORDINGS - 3
"""With a bat; the only one with a file that can be opened."""
PASSWORD = "a bat in the belfry"


def set_up(home: Path) -> Settings:
    """Return a home with the connected program, and what it heard at two sites, a night each."""
    settings = Settings(home=home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home.parent))
        patch.setenv("ACOUPI_TARGET", "process")
        patch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,pace=fast")
        options = {"recording.duration": "1", "timezone": "Europe/Berlin"}
        given = [word for name, value in options.items() for word in (f"--{name}", value)]
        setup_program(settings, "connected", given)
    store = store_of(settings)
    store.store_deployment(OAK)
    store.note_plan(OAK, CapturePlan(duration=2, interval=60), OAK.started_on)
    for number in range(RECORDINGS):
        hear(settings, store, number)
    write_sound(_path(settings, LAST_KEPT))
    store.update_deployment(OAK.model_copy(update={"ended_on": at(86_400)}))
    store.close()
    return settings


def store_of(settings: Settings) -> SqliteStore:
    """Return the store of a home."""
    paths = json.loads(settings.program_config_file.read_text())["paths"]
    return SqliteStore(Path(paths["db_metadata"]))


def _path(settings: Settings, number: int) -> Path:
    paths = json.loads(settings.program_config_file.read_text())["paths"]
    return Path(paths["tmp_audio"]) / f"{number}.wav"


def write_sound(path: Path) -> None:
    """Write the 2 s of a recording: calls at 40 kHz, ten a second."""
    call = [round(8000 * math.sin(0.3125 * math.pi * n)) for n in range(2_560)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 256_000, 0, "NONE", ""))
        file.writeframes(array("h", [*call, *([0] * 23_040)] * 20).tobytes())


def hear(settings: Settings, store: SqliteStore, number: int) -> data.ModelOutput:
    """Store one recording more, and what was found in it."""
    site, start = (OAK, 0) if number < RECORDINGS / 2 else (POND, 86_400)
    one = recording(
        None,
        start + 60.0 * number,
        path=_path(settings, number),
        duration=2,
        deployment=site,
        capture=REPORT,
        id=data.derived_id("recording", number),
    )
    store.store_recording(one)
    species = (BAT, NOCTULE, BIRD)[number % 3]
    box = data.BoundingBox.from_coordinates(0.25, 30_000, 0.75, 50_000)
    found = detection(
        round(0.5 + number / 200, 3),
        ("species", species, 0.8),
        location=box,
        id=data.derived_id("detection", number),
    )
    made = output(one, *([found] if number % 3 < 2 else []), provenance=MADE_BY)
    store.store_model_output(made)
    if number % 3:
        store.end_recording(one, data.RecordingState.DELETED)
    return made


def page_of(settings: Settings, folder: Path, web: Mapping[str, Any] | None = None) -> ASGIApp:
    """Return the page of a home; its password is `PASSWORD`.

    Parameters
    ----------
    folder
        Where the page may write.
    web
        Settings of the page; everybody may read it.
    """
    sensor = PageSensor(settings)
    chosen = Web(**{"public": True, **(web or {})})
    keys = folder / "keys.json"
    write_keys(keys, Keys.with_token()[0].with_password(PASSWORD)[0])
    access = PageAccess(chosen, keys, rate=Rate(burst=10_000))
    feed = LiveFeed(sensor, settings.home)
    return make_app(
        sensor,
        chosen,
        access=access,
        live=live_routes(feed, access),
        media=media_routes(sensor, folder / "media"),
        writing=writing_routes(sensor, access),
        folder=folder,
    )


class Visitor(TestClient):
    """A browser without JavaScript."""

    def __init__(self, app: ASGIApp, path: str = "") -> None:
        super().__init__(app, root_path="")
        self.headers["Origin"] = "http://testserver"
        self._path = path

    def log_in(self) -> None:
        """Log in as the owner."""
        answer = self.post(f"{self._path}/login", data={"password": PASSWORD})
        assert answer.status_code in {200, 303}, answer.text

    def csrf(self) -> str:
        """Return the token of forms."""
        html = self.get(f"{self._path}/settings").text
        return html.partition('name="csrf" value="')[2].partition('"')[0]
