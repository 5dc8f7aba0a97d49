"""GUANO: the metadata of a recording, as text inside its file.

One ``key: value`` per line, in UTF-8, as in the GUANO 1.0 specification
(github.com/riggsd/guano-spec). Keys specific to acoupi begin with ``Acoupi|``;
they make it possible to rebuild a `Recording` from its file alone.
"""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

from acoupi import __version__, data
from acoupi.errors import AudioError

__all__ = [
    "CLIP_OF",
    "FIELDS",
    "INCOMPLETE",
    "INCOMPLETE_DETAIL",
    "MISSING_AFTER",
    "MISSING_BEFORE",
    "RECORDING_ID",
    "build_guano",
    "corrected_time",
    "guano_of_recording",
    "parse_guano",
    "place_in_stream",
    "position",
    "recording_of_guano",
    "time_expansion",
    "time_told",
    "timestamp",
    "true_samplerate",
]

RECORDING_ID = "Acoupi|Recording ID"
INCOMPLETE = "Acoupi|Incomplete"
"""Why the recording is shorter than it was meant to be (`data.IncompleteReason`); absent from a
whole one."""
INCOMPLETE_DETAIL = "Acoupi|Incomplete Detail"

CLIP_OF = "Acoupi|Clip Of"
MISSING_BEFORE = "Acoupi|Clip Missing Before"
MISSING_AFTER = "Acoupi|Clip Missing After"

_STREAM_ID = "Acoupi|Stream ID"
_FIRST_FRAME = "Acoupi|First Frame"
_MEASURED_RATE = "Acoupi|Measured Samplerate"
_IS_SYNCHRONISED = "Acoupi|Clock Synchronised"
_CLOCK_ERROR = "Acoupi|Clock Error"
_BOOT_CLOCK = "Acoupi|Boot Clock"
"""Id of the boot, and the offset (UTC minus monotonic clock, seconds) used for the time."""
_CORRECTED = "Acoupi|Clock Corrected"
"""Seconds by which the time was corrected once the clock had been set: ``+3600.000000``."""
_OVERRUNS = "Acoupi|Overruns"
"""First lost frame (of the recording) and how many, for example ``480+96 9000+20``."""
_GAP_BEFORE = "Acoupi|Gap Before"
_HEALTH = "Acoupi|Microphone"
_MOST_OVERRUNS = 200
_MOST_FRAMES = 2**60
_MOST_HZ = 2.0**32
_MOST_SECONDS = 1e12
_MOST_DB = 1000
_EXPANSIONS = (1e-3, 1e3)
"""Limits that no recorder exceeds: anything beyond is an error."""
_YEARS = (1970, 9000)
_DEPLOYMENT_ID = "Acoupi|Deployment ID"
_DEPLOYMENT_NAME = "Acoupi|Deployment Name"
_DEPLOYMENT_START = "Acoupi|Deployment Start"

FIELDS = {
    "GUANO|Version": "version of the GUANO specification",
    "Timestamp": "when the first frame was captured, UTC",
    "Make": "acoupi",
    "Firmware Version": "version of acoupi",
    "Serial": "id of the device",
    "Samplerate": "frames per second of the original sound, Hz",
    "Length": "length of the original sound, s",
    "TE": "how many times slower the file plays than the original sound; absent: 1",
    "Loc Position": "latitude and longitude of the deployment, degrees, WGS 84; absent: unknown",
    RECORDING_ID: "UUID of the recording, as in the store",
    _DEPLOYMENT_ID: "UUID of the deployment",
    _DEPLOYMENT_NAME: "name of the site",
    _DEPLOYMENT_START: "when the deployment began, UTC",
    _STREAM_ID: "UUID of the stream of the microphone that the recording was cut from",
    _FIRST_FRAME: "number of its first frame in that stream",
    _MEASURED_RATE: "frames per second by the clock of the board, Hz",
    _IS_SYNCHRONISED: "yes: a time server or GPS had set the clock; no: none had",
    _CLOCK_ERROR: "largest error of the clock by its own estimate, s",
    _BOOT_CLOCK: "id of the boot, and UTC minus monotonic clock as it was used for the time, s",
    _CORRECTED: "seconds by which the time was corrected once the clock had been set",
    _OVERRUNS: "lost frames, as FIRST+COUNT: silence stands in their place",
    _GAP_BEFORE: "frames before it that should have been recorded but were not",
    INCOMPLETE: "why it is shorter than planned; absent from a whole recording",
    INCOMPLETE_DETAIL: "the same in words",
    CLIP_OF: "for a clip: UUIDs of the recordings that it was cut from",
    MISSING_BEFORE: "for a clip: seconds before it that should be in it but were not recorded",
    MISSING_AFTER: "for a clip: seconds after it that should be in it but were not recorded",
    _HEALTH: "level, peak, noise floor (dBFS), clipped share, offset, and whether silent or stuck",
}
"""Every field that acoupi writes, and its meaning; empty ones are left out."""


def build_guano(fields: Mapping[str, object]) -> str:
    r"""Return the text of these fields, the version first; fields that are None are left out.

    Raises
    ------
    AudioError
        If a key is empty or holds a colon or a line break.

    Examples
    --------
    >>> build_guano({"Make": "acoupi", "Note": "two\nlines", "TE": None})
    'GUANO|Version: 1.0\nMake: acoupi\nNote: two\\nlines\n'
    """
    lines = ["GUANO|Version: 1.0"]
    for key, value in fields.items():
        if value is None or key == "GUANO|Version":
            continue
        if not key.strip() or ":" in key or "\n" in key:
            raise AudioError(
                f'cannot write the GUANO field "{key}".',
                "name it without a colon and without a line break",
                why="the format separates name and value by the first colon of a line.",
            )
        text = "\\n".join(str(value).splitlines())
        lines.append(f"{key}: {text}")
    return "\n".join(lines) + "\n"


def parse_guano(text: str | bytes) -> dict[str, str]:
    r"""Return the fields of a GUANO text in their order; other lines are skipped.

    Examples
    --------
    >>> parse_guano("GUANO|Version: 1.0\nTimestamp: 2024-08-01T20:30:00Z\n  \n")
    {'GUANO|Version': '1.0', 'Timestamp': '2024-08-01T20:30:00Z'}
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    fields = {}
    for line in text.replace("\0", "").split("\n"):
        key, colon, value = line.partition(":")
        if colon and key.strip():
            fields[key.strip()] = value.strip().replace("\\n", "\n")
    return fields


def guano_of_recording(
    recording: data.Recording,
    *,
    serial: str = "",
) -> dict[str, str]:
    """Return the fields that describe a recording.

    Parameters
    ----------
    recording
        Its path is not written: files are moved.
    serial
        Id of the device; left out when empty.
    """
    deployment = recording.deployment
    fields = {
        "GUANO|Version": "1.0",
        "Timestamp": _format_time(recording.created_on),
        "Make": "acoupi",
        "Firmware Version": __version__,
        "Samplerate": str(recording.samplerate),
        "Length": repr(round(recording.duration, 9)),
        RECORDING_ID: str(recording.id),
        _DEPLOYMENT_ID: str(deployment.id),
        _DEPLOYMENT_NAME: deployment.name,
        _DEPLOYMENT_START: _format_time(deployment.started_on),
    }
    if serial:
        fields["Serial"] = serial
    if recording.time_expansion != 1:
        fields["TE"] = f"{recording.time_expansion:.12g}"
    if deployment.latitude is not None and deployment.longitude is not None:
        fields["Loc Position"] = f"{deployment.latitude!r} {deployment.longitude!r}"
    if recording.capture is not None:
        fields |= _fields_of_capture(recording.capture)
    return fields


def recording_of_guano(
    fields: Mapping[str, str],
    *,
    path: Path,
    duration: float,
    samplerate: int,
    audio_channels: int,
) -> data.Recording:
    """Rebuild a recording from the fields made by `guano_of_recording`.

    Parameters
    ----------
    fields
        GUANO fields of the file.
    path
        Path of the file.
    duration
        Length of the *original* sound, seconds.
    samplerate
        Frames per second of the original sound, Hz.
    audio_channels
        At least 1.

    Raises
    ------
    AudioError
        If the fields do not name a recording of acoupi, with its time and
        deployment. Any other field that cannot be read counts as missing.
    """
    try:
        began = _parse_time(fields["Timestamp"])
        return data.Recording(
            id=UUID(fields[RECORDING_ID]),
            path=path,
            duration=duration,
            samplerate=samplerate,
            audio_channels=audio_channels,
            time_expansion=time_expansion(fields),
            created_on=began,
            deployment=_deployment_of(fields, UUID(fields[_DEPLOYMENT_ID]), began),
            capture=_capture_of(fields, round(duration * samplerate)),
        )
    except KeyError as error:
        raise AudioError(
            f'"{path.name}" has no id of a recording.',
            "move it out of the folder of temporary recordings if it is not from this sensor",
            why=f"its GUANO metadata has no {error}.",
        ) from error
    except ValueError as error:
        raise AudioError(
            f'the GUANO metadata of "{path.name}" is damaged.',
            "move the file out of the folder of temporary recordings",
            why=_first_line(error),
        ) from error


def true_samplerate(fields: Mapping[str, str], header: int) -> int:
    """Return the rate of the original sound, from the fields or else from the header, Hz.

    Examples
    --------
    >>> true_samplerate({"TE": "10"}, 38_400), true_samplerate({"TE": "0"}, 48_000)
    (384000, 48000)
    """
    slowest, fastest = (header * times for times in _EXPANSIONS)
    stated = _number(fields.get("Samplerate"), max(1, slowest), fastest)
    expansion = time_expansion(fields)
    expanded = max(1, round(header * expansion))
    # Headers hold whole numbers. Where the two contradict each other, some programs wrote the
    # rate of the file.
    if stated is None or (expansion != 1 and abs(stated - expanded) > expansion + 1):
        return expanded
    return int(stated)


def time_expansion(fields: Mapping[str, str]) -> float:
    """Return how many times slower the file plays than the original sound; 1 by default."""
    return _number(fields.get("TE"), *_EXPANSIONS) or 1.0


def timestamp(fields: Mapping[str, str]) -> datetime.datetime | None:
    """Return when the recording started; None if unknown.

    A time without a zone is taken as UTC.
    """
    try:
        return _parse_time(fields.get("Timestamp", ""))
    except ValueError:
        return None


def time_told(fields: Mapping[str, str]) -> datetime.datetime | None:
    """Return when the recording started by the fields: naive without a zone.

    None if they do not say, or a time that no recorder can have lived through.

    Examples
    --------
    >>> time_told({"Timestamp": "2024-08-01 20:30:00"})
    datetime.datetime(2024, 8, 1, 20, 30)
    """
    try:
        return _as_told(fields.get("Timestamp", ""))
    except ValueError:
        return None


def position(fields: Mapping[str, str]) -> tuple[float, float] | None:
    """Return latitude and longitude, degrees north and east; None if unknown.

    Examples
    --------
    >>> position({"Loc Position": "51.5 -0.02"}), position({"Loc Position": "91 0"})
    ((51.5, -0.02), None)
    """
    words = fields.get("Loc Position", "").replace(",", " ").split()
    if len(words) < 2:
        return None
    latitude, longitude = _number(words[0], -90, 90), _number(words[1], -180, 180)
    return None if latitude is None or longitude is None else (latitude, longitude)


def _number(text: str | None, lowest: float, highest: float) -> float | None:
    """Return a finite number in this range; None if the text is no such number."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if lowest <= value <= highest else None


def _whole(text: str | None) -> int | None:
    """Return a number of frames, at least 0; None if the text is none."""
    try:
        value = int(text or "")
    except ValueError:
        return None
    return value if 0 <= value <= _MOST_FRAMES else None


def _fields_of_capture(capture: data.CaptureReport) -> dict[str, str]:
    """Return the fields of a report; empty ones are left out."""
    overruns = " ".join(
        f"{overrun.frame - capture.first_frame}+{overrun.frames}"
        for overrun in capture.overruns[:_MOST_OVERRUNS]
    )
    fields = {
        _STREAM_ID: str(capture.stream_id),
        _FIRST_FRAME: str(capture.first_frame),
        _MEASURED_RATE: capture.samplerate_measured and f"{capture.samplerate_measured:.3f}",
        _IS_SYNCHRONISED: {True: "yes", False: "no"}.get(capture.clock_synchronised),  # type: ignore[arg-type]
        _CLOCK_ERROR: capture.clock_error_s and f"{capture.clock_error_s:.6f}",
        _BOOT_CLOCK: capture.boot_clock and _text_of_clock(capture.boot_clock),
        _CORRECTED: capture.clock_corrected_s and f"{capture.clock_corrected_s:+.6f}",
        _OVERRUNS: overruns,
        _GAP_BEFORE: capture.gap_before_frames and str(capture.gap_before_frames),
        INCOMPLETE: capture.incomplete and capture.incomplete.value,
        INCOMPLETE_DETAIL: capture.incomplete_detail,
        _HEALTH: capture.health and _text_of_health(capture.health),
    }
    return {key: value for key, value in fields.items() if value}


def _capture_of(fields: Mapping[str, str], frames: int) -> data.CaptureReport | None:
    """Return the report, as far as its fields can be read; None without a place in a stream."""
    place = place_in_stream(fields)
    if place is None:
        return None
    stream, first = place
    reason, detail = _incomplete_of(fields)
    return data.CaptureReport(
        stream_id=stream,
        first_frame=first,
        frames=frames,
        samplerate_measured=_number(fields.get(_MEASURED_RATE), 1, _MOST_HZ),
        clock_synchronised={"yes": True, "no": False}.get(fields.get(_IS_SYNCHRONISED, "")),
        clock_error_s=_number(fields.get(_CLOCK_ERROR), 0, _MOST_SECONDS),
        boot_clock=_clock_of(fields.get(_BOOT_CLOCK)),
        clock_corrected_s=_number(fields.get(_CORRECTED), -_MOST_SECONDS, _MOST_SECONDS) or 0.0,
        overruns=list(_overruns_of(fields.get(_OVERRUNS, ""), first)),
        gap_before_frames=_whole(fields.get(_GAP_BEFORE)) or 0,
        incomplete=reason,
        incomplete_detail=detail,
        health=_health_of(fields.get(_HEALTH, "")),
    )


def place_in_stream(fields: Mapping[str, str]) -> tuple[UUID, int] | None:
    """Return the stream of a recording and its first frame there; None if unknown."""
    stream, first = _id(fields.get(_STREAM_ID)), _whole(fields.get(_FIRST_FRAME))
    return None if stream is None or first is None else (stream, first)


def _overruns_of(text: str, first: int) -> Iterator[data.Overrun]:
    for word in text.split():
        begin, _, count = word.partition("+")
        frame, frames = _whole(begin), _whole(count)
        if frame is not None and frames is not None:
            yield data.Overrun(first + frame, frames)


def _id(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None


def _incomplete_of(fields: Mapping[str, str]) -> tuple[data.IncompleteReason | None, str]:
    text = fields.get(INCOMPLETE)
    if text is None:
        return None, ""
    try:
        return data.IncompleteReason(text), fields.get(INCOMPLETE_DETAIL, "")
    except ValueError:
        return data.IncompleteReason.OTHER, text


def _text_of_clock(clock: data.BootClock) -> str:
    return f"{clock.boot_id} {clock.offset_s:.6f}"


def _clock_of(text: str | None) -> data.BootClock | None:
    name, _, offset = (text or "").partition(" ")
    boot_id, seconds = _id(name), _number(offset, -_MOST_SECONDS, _MOST_SECONDS)
    if boot_id is None or seconds is None:
        return None
    return data.BootClock(boot_id=boot_id, offset_s=seconds)


def corrected_time(
    fields: Mapping[str, str], created_on: datetime.datetime, report: data.CaptureReport
) -> dict[str, str]:
    """Return the fields with the corrected time in place of the first one."""
    changed = {"Timestamp": _format_time(created_on)}
    if report.clock_error_s is not None:
        changed[_CLOCK_ERROR] = f"{report.clock_error_s:.6f}"
    if report.boot_clock is not None:
        changed[_BOOT_CLOCK] = _text_of_clock(report.boot_clock)
    changed[_CORRECTED] = f"{report.clock_corrected_s:+.6f}"
    return {**fields, **changed}


def _text_of_health(health: data.MicrophoneHealth) -> str:
    return " ".join(
        f"{name}={value if isinstance(value, bool) else format(value, '.6g')}"
        for name, value in health.model_dump().items()
    )


def _health_of(text: str) -> data.MicrophoneHealth | None:
    """Return the measured health; None if any of it cannot be read."""
    values: dict[str, float | str | None] = {}
    for word in text.split():
        name, _, value = word.partition("=")
        is_flag = value in ("True", "False")
        values[name] = value if is_flag else _number(value, -_MOST_DB, _MOST_DB)
    if None in values.values():
        return None
    try:
        return data.MicrophoneHealth.model_validate(values)
    except ValueError:
        return None


def _deployment_of(
    fields: Mapping[str, str], id_: UUID, began: datetime.datetime
) -> data.Deployment:
    latitude, longitude = position(fields) or (None, None)
    return data.Deployment(
        id=id_,
        name=fields.get(_DEPLOYMENT_NAME, ""),
        started_on=timestamp({"Timestamp": fields.get(_DEPLOYMENT_START, "")}) or began,
        latitude=latitude,
        longitude=longitude,
    )


def _format_time(time: datetime.datetime) -> str:
    """Write a time as GUANO wants it: ISO 8601, here always in UTC and to the microsecond."""
    return f"{time.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _parse_time(text: str) -> datetime.datetime:
    """Return a time in UTC; raise as `_as_told` does."""
    time = _as_told(text)
    return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)


def _as_told(text: str) -> datetime.datetime:
    """Return a time, naive if it names no zone.

    Raises
    ------
    ValueError
        If the text is no time, or one that no recorder can have lived through.
    """
    time = datetime.datetime.fromisoformat(text)
    if not _YEARS[0] <= time.year <= _YEARS[1]:
        raise ValueError(f"the year is {time.year}")
    return time


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())
