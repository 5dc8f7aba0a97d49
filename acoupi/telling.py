"""Describing detections and recordings in words, for a terminal or a web page."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acoupi.data import CaptureReport, Deployment
    from acoupi.heard import DetectionRow

__all__ = [
    "VERDICT_MARKS",
    "around",
    "clock_words",
    "place_of",
    "shown_band",
    "shown_seconds",
    "shown_share",
]

VERDICT_MARKS = {"right": "✓", "wrong": "✗", "other": "≠", "unsure": "?"}

AROUND_S = 0.5
"""Sound to play before and after a detection, seconds."""


def around(row: "DetectionRow") -> tuple[float, float]:
    """Return the part of a recording around a detection, seconds."""
    start = max(0.0, row.start_s - AROUND_S)
    return start, max(start, min(row.recording.duration_s, row.end_s + AROUND_S))


def place_of(deployment: "Deployment") -> str:
    """Return the name of a site with its coordinates."""
    if deployment.latitude is None or deployment.longitude is None:
        return deployment.name
    return f"{deployment.name} ({deployment.latitude:g}, {deployment.longitude:g})"


def clock_words(capture: "CaptureReport | None") -> str:
    """Return how reliable the time of a recording is, in words."""
    if capture is None:
        return "not known"
    error = "" if capture.clock_error_s is None else f", to {1000 * capture.clock_error_s:.3g} ms"
    if capture.clock_corrected_s:
        return f"set later; corrected by {capture.clock_corrected_s:.3f} s{error}"
    if capture.clock_synchronised is None:
        return "does not report whether a time server set it"
    return ("set" if capture.clock_synchronised else "not set") + f" by a time server{error}"


def shown_band(row: "DetectionRow") -> str | None:
    """Return the lowest and the highest frequency, kHz; None where there is no box."""
    return None if row.box is None else f"{row.box[1] / 1000:.3g}-{row.box[3] / 1000:.3g}"


def shown_seconds(seconds: float) -> str:
    """Return a duration for people; below a minute with its fraction.

    Examples
    --------
    >>> shown_seconds(0), shown_seconds(2.5), shown_seconds(45_296.2)
    ('-', '2.5 s', '12:34:56')
    """
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s" if seconds else "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def shown_share(share: float | None) -> str:
    """Return a share in percent, never rounded up to 100 %.

    Examples
    --------
    >>> shown_share(1), shown_share(0.999999), shown_share(None)
    ('100 %', '99.999 %', '-')
    """
    if share is None:
        return "-"
    return "100 %" if share >= 1 else f"{int(share * 100_000) / 1000:.3f} %"
