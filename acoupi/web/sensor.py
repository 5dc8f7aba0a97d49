"""The interface of a sensor for the page, implemented by the door of a sensor, or a hub."""

import datetime
from collections.abc import Mapping
from typing import Any, Literal, Protocol
from uuid import UUID

from typing_extensions import TypedDict  # pydantic makes schemas of these, and wants it before 3.12

from acoupi.exports.reader import Reader
from acoupi.heard import RecordingFile, VerdictRow

__all__ = [
    "Change",
    "Clock",
    "DeadLetter",
    "Disk",
    "Files",
    "Health",
    "Level",
    "LogError",
    "Now",
    "Plan",
    "Problem",
    "Sensor",
    "Setting",
]

JsonObject = dict[str, Any]


class Disk(TypedDict):
    """A disk that the sensor writes to."""

    path: str
    free_bytes: int
    total_bytes: int
    hours_left: float | None
    """Hours at the current rate of recording; None: nothing is recorded."""


class Clock(TypedDict):
    """How reliable times are."""

    synchronised: bool | None
    """Whether a time server has set it; None: unknown."""
    error_s: float | None


class Now(TypedDict):
    """The state of the sensor at this moment. Times are ISO 8601 with a zone."""

    time: str
    timezone: str
    """Key of the zone of the program, such as Europe/London; "UTC" if it has none."""
    device: str
    """Name of the sensor."""
    version: str
    """Of acoupi."""
    ok: bool
    status: JsonObject
    """What ``acoupi deployment status --json`` prints: celery (state, workers, beat, others,
    broker, waiting, message), deployment, unnamed, program, services, microphone, analysis,
    messages."""
    alarms: list[JsonObject]
    """The active ones, the oldest first: alarm, description, detail, since, until."""
    next_recording: str | None
    """When the next one is planned to start; None: none is planned, or unknown."""
    disks: list[Disk]
    clock: Clock


class Level(TypedDict):
    """The level of one recording, and faults of its microphone."""

    time: str
    rms_dbfs: float
    peak_dbfs: float
    noise_floor_dbfs: float
    faults: list[str]


class DeadLetter(TypedDict):
    """A message that is no longer sent."""

    message_id: str
    messenger: str
    created_on: str
    attempts: int
    last_error: str | None


class LogError(TypedDict):
    """The last error in a log."""

    service: str
    time: str | None
    line: str


class Health(TypedDict):
    """Recent events: slower to collect than `Now`."""

    levels: list[Level]
    """The trend of the microphone over the last days, the oldest first; at most 500."""
    alarms: list[JsonObject]
    """Of the last 30 days, those that are over, too; the oldest first."""
    dead_letters: list[DeadLetter]
    """At most 50, the newest first."""
    errors: list[LogError]
    """At most one for each service."""


class Change(TypedDict):
    """A setting that would change; secrets are shown as ``***``."""

    name: str
    """Dotted: recording.duration; sensor.alarms.enabled."""
    old: Any
    new: Any


class Problem(TypedDict):
    """Why a value is not valid."""

    name: str
    """Dotted; "" where it is about several."""
    message: str


class Plan(TypedDict):
    """The effects of a change of settings, planned or done."""

    changes: list[Change]
    problems: list[Problem]
    """Where there are any, nothing can be applied."""
    restarts: list[str]
    """Services that restart with the new settings after their current work."""
    host_command: str | None
    """What to run on the host because rendered files change; None: nothing."""
    state: Literal["planned", "applied", "pending"]
    """pending: kept until `host_command` is run."""


class Setting(TypedDict):
    """One setting as a form shows it: a leaf of the tree of the configuration."""

    name: str
    """Dotted: recording.duration; sensor.alarms.enabled."""
    section: str
    """The part of the name before the last dot; "" at the top."""
    title: str
    description: str
    schema: JsonObject
    """JSON Schema of the value: type, enum, minimum, maximum, default, … without ``$ref``."""
    value: Any
    """The current value as JSON; None for secrets."""
    is_secret: bool
    """Its value never leaves the sensor; an empty field leaves it as it is."""
    restarts: list[str]
    """Services that a change restarts."""


class Sensor(Protocol):
    """The interface of a sensor for the page.

    The methods block: the page calls them in threads, several at a time.

    Raises
    ------
    AcoupiError
        From every method, with what happened, why, and what to try: shown on the page. For invalid
        input, `ParameterError` (an answer with status 422).
    """

    @property
    def reader(self) -> Reader:
        """The reader of recordings and detections."""

    @property
    def child_reader(self) -> tuple[str, str]:
        """How a separate process reads the same: a function as "module:name", its argument.

        Exports and pictures need numpy, which the page does not import.
        """

    def metrics(self) -> str:
        """Return the metrics for Prometheus, as they were last written.

        Raises
        ------
        AcoupiError
            If there are none yet.
        """

    def now(self) -> Now:
        """Return the state of the sensor; fast enough to be called every few seconds."""

    def health(self) -> Health:
        """Return recent events."""

    def effort(
        self,
        deployment: UUID | None,
        since: datetime.datetime | None,
        until: datetime.datetime | None,
    ) -> JsonObject:
        """Return the output of ``acoupi effort --json``.

        Parameters
        ----------
        deployment
            Its id; None: the last to start.
        since, until
            Aware; None: from its beginning, to its end.

        Raises
        ------
        ConfigurationError
            If there has been no deployment, or the store keeps no record of effort.
        """

    # Writing: checked again where the call is answered.

    def add_verdict(self, verdict: VerdictRow) -> None:
        """Store a person's verdict on a detection or a recording."""

    def settings_schema(self) -> JsonObject:
        """Return the JSON Schema of all settings, those of the sensor below ``sensor``."""

    def settings(self) -> list[Setting]:
        """Return every setting in the order of the configuration."""

    def plan_settings(self, changes: Mapping[str, Any]) -> Plan:
        """Return the effects of changes, without making them.

        Parameters
        ----------
        changes
            Values as JSON, by dotted name; others stay. Text is converted to a number, true or
            false if the setting is one, as by ``acoupi config set``.
        """

    def apply_settings(self, changes: Mapping[str, Any], by: str) -> Plan:
        """Change settings; `by` is the person, for the log.

        Raises
        ------
        ParameterError
            If a value is not valid.
        """

    def start_deployment(
        self, name: str, latitude: float | None, longitude: float | None, by: str
    ) -> JsonObject:
        """Start one, as ``acoupi deployment start`` does; return it."""

    def stop_deployment(self, by: str) -> JsonObject | None:
        """Stop recording and end the deployment; return it, None if none was running."""


class Files(Sensor, Protocol):
    """A sensor that gives away the files of its recordings."""

    def find_file(self, recording_id: UUID, clip_id: UUID | None = None) -> RecordingFile:
        """Return what there is of the file of a recording, or of that of one of its clips.

        Raises
        ------
        RecordingFileError
            If there is none; says why.
        """

    def read_file(
        self, recording_id: UUID, offset: int, length: int, clip_id: UUID | None = None
    ) -> bytes:
        """Return a part of it: at most 1 MiB, less at its end."""
