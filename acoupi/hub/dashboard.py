"""The pages of a hub: those of a sensor, over what many sensors reported."""

import datetime
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import uvicorn
from pydantic import ValidationError
from starlette.types import ASGIApp

from acoupi import __version__, clock
from acoupi.audio.formats import media_type
from acoupi.config.web import Web
from acoupi.errors import ParameterError, RecordingFileError
from acoupi.exports.effort_report import find_deployment, measure, read_effort
from acoupi.fleet.judging import Fleet
from acoupi.fleet.words import ON_PAGE, row_words
from acoupi.heard import RecordingFile, VerdictRow
from acoupi.hub.audio import find_sound, read_audio
from acoupi.hub.dashboard_access import PeopleAccess
from acoupi.hub.database import LONGEST_STATEMENT
from acoupi.hub.heartbeats import put_reported
from acoupi.hub.parts import Hub
from acoupi.hub.reader import HubReader
from acoupi.hub.verdicts import put_verdict
from acoupi.web.app import make_app
from acoupi.web.asking import zone_named
from acoupi.web.media import routes as media_routes
from acoupi.web.parts import Subject
from acoupi.web.prompt import PromptHTTP
from acoupi.web.sensor import Files, Now
from acoupi.web.service import signing_key
from acoupi.web.writing import routes as writing_routes

__all__ = ["HubSensor", "Place", "checked_zone", "make_dashboard", "serve"]

AT_ONCE = 100
"""Most connections; others are told to try later."""
GRACE = 5
"""Seconds for open responses when it stops."""
FOR_S = 20.0
"""Seconds for which the states of sensors are cached."""
MOST_DEPLOYMENTS = 200
"""Newest detections on the first page."""
MENU = {
    "": "Sensors",
    "detections": "Detections",
    "species": "Species",
    "effort": "Effort",
    "export": "Export",
    "help": "Help",
}


class HubSensor:
    """Answers the pages from the database of a hub; see `acoupi.web.sensor.Sensor`.

    Parameters
    ----------
    hub, place
        The hub and its place.
    """

    def __init__(self, hub: Hub, place: "Place") -> None:
        self._hub, self._place = hub, place
        self._lock = threading.Lock()
        self._known: tuple[float, Now] | None = None
        self.reader = HubReader(hub.database, LONGEST_STATEMENT)
        self.child_reader = ("acoupi.hub.reader:HubReader", place.url)

    def now(self) -> Now:
        """Return the states of the sensors, up to `FOR_S` old: reading heartbeats is slow."""
        with self._lock:
            if self._known is None or clock.monotonic() - self._known[0] >= FOR_S:
                self._known = clock.monotonic(), self._now()
            return self._known[1]

    def _now(self) -> Now:
        now = clock.utc_now()
        fleet = Fleet(now)
        put_reported(fleet, self._hub.database)
        rows = fleet.rows()
        counts = Counter(row.state for row in rows)
        newest = self.reader.get_deployments()[: -MOST_DEPLOYMENTS - 1 : -1]
        return {
            "time": now.isoformat(),
            "timezone": self._place.timezone,
            "device": self._place.name,
            "version": __version__,
            "ok": counts["well"] == len(rows),
            "status": {
                "counts": {one: counts[one] for one in ("silent", "unwell", "well")},
                "columns": ON_PAGE,
                "sensors": [
                    {
                        **asdict(row),
                        **row_words(row, now),
                        "heartbeat_on": _text(row.heartbeat_on),
                        "reported_on": _text(row.reported_on),
                    }
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
        """Return the output of ``acoupi effort --json``."""
        which = find_deployment(self.reader, None if deployment is None else str(deployment))
        found, spans = read_effort(self.reader, which, since, until, grouped=True)
        return measure(found, spans).as_json()

    def add_verdict(self, verdict: VerdictRow) -> None:
        """Store a person's verdict on a detection or a recording."""
        if not put_verdict(self._hub.database, verdict):
            raise RecordingFileError(
                "the detection or recording no longer exists.", "open it again"
            )

    def find_file(self, recording_id: UUID, clip_id: UUID | None = None) -> RecordingFile:
        """Return the sound that the hub has of a recording, or of one of its clips."""
        row = self.reader.recording(recording_id)
        if row is None:
            raise RecordingFileError(
                "there is no recording with that id.", "acoupi recordings list"
            )
        found = find_sound(self._hub, clip_id or recording_id)
        name = f"{clip_id or recording_id}.{found.format}"
        return RecordingFile(
            name=name,
            size=found.size,
            media_type=media_type(name),
            samplerate_hz=row.samplerate_hz,
        )

    def read_file(
        self, recording_id: UUID, offset: int, length: int, clip_id: UUID | None = None
    ) -> bytes:
        """Return a part of it; shorter at its end."""
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


@dataclass(frozen=True)
class Place:
    """Where the pages find the hub's database, and how they show the hub."""

    url: str
    """Address of the database, for child processes that read it."""
    folder: Path
    """Folder where pictures and exports are made."""
    name: str = "hub"
    """Name of the hub on its pages."""
    timezone: str = "UTC"
    """Key of the time zone of the pages."""


def make_dashboard(hub: Hub, place: Place, web: Web, signing: str | None = None) -> ASGIApp:
    """Return the web application of a hub.

    Parameters
    ----------
    hub, place
        The hub and its place.
    web
        Settings of the pages: the path at which a proxy shows them.
    signing
        Signs sessions; None: they end with this process.
    """
    # Pages that need a single sensor are left out.
    source = cast("Files", HubSensor(hub, place))
    subject = Subject(
        menu=MENU, first="fleet", trouble="", has_sound=lambda id_: _has_sound(hub, UUID(id_))
    )
    access = PeopleAccess(web, hub.database, signing=signing)
    zone = zone_named(place.timezone)
    return make_app(
        source,
        web,
        access=access,
        subject=subject,
        media=media_routes(source, place.folder / "media", lambda: zone),
        writing=writing_routes(source, access, subject),
        folder=place.folder,
    )


def serve(
    hub: Hub,
    place: Place,
    settings: Mapping[str, Any],
    *,
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """Serve the pages until a signal stops it; over TLS if given a certificate and its key.

    Parameters
    ----------
    hub, place
        As for `make_dashboard`.
    settings
        Settings of the pages, as in the section ``web`` of a sensor: host, port, path_prefix,
        trusted_proxy.

    Raises
    ------
    ParameterError
        If one of them, or the time zone, is not valid.
    """
    web = _checked(settings, place.timezone)
    place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    uvicorn.run(
        make_dashboard(hub, place, web, signing_key(place.folder / "sessions.key")),
        host=web.host,
        port=web.port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        http=PromptHTTP,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=bool(web.trusted_proxy),
        forwarded_allow_ips=web.trusted_proxy or None,
        limit_concurrency=AT_ONCE,
        timeout_graceful_shutdown=GRACE,
    )


def checked_zone(text: str) -> str:
    """Return the key of a time zone.

    Raises
    ------
    ParameterError
        If there is no such zone.
    """
    try:
        ZoneInfo(text)
    except (ValueError, LookupError, OSError) as error:
        raise ParameterError(
            "--timezone",
            f'there is no time zone "{text}".',
            "--timezone Europe/London",
            why="this machine does not know it.",
        ) from error
    return text


def _checked(settings: Mapping[str, Any], timezone: str) -> Web:
    checked_zone(timezone)
    try:
        return Web(**settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise ParameterError(
            option,
            f"the value of {option} is not valid.",
            "acoupi hub web --help",
            why=f"{first['msg']}.",
        ) from error
