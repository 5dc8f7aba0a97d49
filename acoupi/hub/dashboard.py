"""The pages of a hub: those of a sensor, over what many sensors reported."""

import datetime
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from starlette.types import ASGIApp

from acoupi import __version__, clock
from acoupi.config.web import Web
from acoupi.errors import RecordingFileError
from acoupi.exports.effort_report import find_deployment, measure, read_effort
from acoupi.fleet.judging import Fleet
from acoupi.fleet.words import row_words
from acoupi.heard import RecordingFile, VerdictRow
from acoupi.hub.audio import find_sound, read_audio
from acoupi.hub.dashboard_access import PeopleAccess
from acoupi.hub.heartbeats import put_reported
from acoupi.hub.parts import Hub
from acoupi.hub.reader import HubReader
from acoupi.hub.verdicts import put_verdict
from acoupi.system.page_files import SOUNDS
from acoupi.web.app import make_app
from acoupi.web.asking import zone_named
from acoupi.web.media import Files
from acoupi.web.media import routes as media_routes
from acoupi.web.parts import Subject
from acoupi.web.sensor import Now
from acoupi.web.writing import routes as writing_routes

__all__ = ["HubSensor", "make_dashboard"]

MOST_DEPLOYMENTS = 200
"""On the first page, the newest."""
MENU = {
    "": "Sensors",
    "detections": "Detections",
    "species": "Species",
    "effort": "Effort",
    "export": "Export",
    "help": "Help",
}


class HubSensor:
    """Answers what the pages ask, from the database of a hub; see `acoupi.web.sensor.Sensor`.

    Parameters
    ----------
    hub
        Whose pages they are.
    url
        Of its database, for processes that read it for themselves.
    name
        Of the hub, as the pages show it.
    timezone
        Key of the zone in which times are shown.
    """

    def __init__(self, hub: Hub, url: str, name: str, timezone: str) -> None:
        self._hub, self._url = hub, url
        self._name, self._timezone = name, timezone
        self.reader = HubReader(url)
        self.child_reader = ("acoupi.hub.reader:HubReader", url)

    def now(self) -> Now:
        """Return how the sensors are."""
        now = clock.utc_now()
        fleet = Fleet(now)
        put_reported(fleet, self._hub.database)
        rows = fleet.rows()
        counts = Counter(row.state for row in rows)
        newest = self.reader.get_deployments()[: -MOST_DEPLOYMENTS - 1 : -1]
        return {
            "time": now.isoformat(),
            "timezone": self._timezone,
            "device": self._name,
            "version": __version__,
            "ok": counts["well"] == len(rows),
            "status": {
                "counts": {one: counts[one] for one in ("silent", "unwell", "well")},
                "sensors": [
                    {**asdict(row), **row_words(row, now), "heartbeat_on": _text(row.heartbeat_on)}
                    for row in rows
                ],
                "deployments": [one.model_dump(mode="json") for one in newest],
            },
            "alarms": [],
            "next_recording": None,
            "disks": [],
            "clock": {"synchronised": None, "error_s": None},
        }

    def effort(
        self,
        deployment: UUID | None,
        since: datetime.datetime | None,
        until: datetime.datetime | None,
    ) -> dict[str, Any]:
        """Return what ``acoupi effort --json`` prints."""
        which = find_deployment(self.reader, None if deployment is None else str(deployment))
        found, spans = read_effort(self.reader, which, since, until, grouped=True)
        return measure(found, spans).as_json()

    def add_verdict(self, verdict: VerdictRow) -> None:
        """Store what a person says of a detection, or of a recording."""
        put_verdict(self._hub.database, verdict)

    def find_file(self, recording_id: UUID, clip_id: UUID | None = None) -> RecordingFile:
        """Return what the hub has of the sound of a recording, or of one of its clips."""
        row = self.reader.recording(recording_id)
        if row is None:
            raise RecordingFileError("there is no recording of that id.", "acoupi recordings list")
        found = find_sound(self._hub, clip_id or recording_id)
        return RecordingFile(
            name=f"{clip_id or recording_id}.{found.format}",
            size=found.size,
            media_type=SOUNDS[f".{found.format}"],
            samplerate_hz=row.samplerate_hz,
        )

    def read_file(
        self, recording_id: UUID, offset: int, length: int, clip_id: UUID | None = None
    ) -> bytes:
        """Return a part of it; less at its end."""
        start = max(offset, 0)
        return b"".join(read_audio(self._hub, clip_id or recording_id, start, start + length))


def _has_sound(hub: Hub, id_: UUID) -> bool:
    try:
        find_sound(hub, id_)
    except RecordingFileError:
        return False
    return True


def _text(time: datetime.datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def make_dashboard(
    hub: Hub,
    url: str,
    folder: Path,
    settings: Web,
    *,
    name: str = "hub",
    timezone: str = "UTC",
    signing: str | None = None,
) -> ASGIApp:
    """Return the pages of a hub.

    Parameters
    ----------
    hub
        Whose.
    url
        Of its database.
    folder
        Where pictures, and exports, are made.
    settings
        Of the pages: the path below which a proxy shows them.
    name
        Of the hub, as the pages show it.
    timezone
        Key of the zone in which times are shown.
    signing
        Signs sessions; None: they end with this process.
    """
    # It has no page that asks what only a sensor can answer.
    source = cast("Files", HubSensor(hub, url, name, timezone))
    subject = Subject(
        menu=MENU,
        first="fleet",
        trouble="",
        has_sound=lambda id_: _has_sound(hub, UUID(id_)),
    )
    access = PeopleAccess(settings, hub.database, signing=signing)
    return make_app(
        source,
        settings,
        access=access,
        subject=subject,
        media=media_routes(source, folder / "media", lambda: zone_named(timezone)),
        writing=writing_routes(source, access, subject),
        folder=folder,
    )
