"""Rounded coordinates, for people who may not know where sensors are."""

from dataclasses import replace
from typing import Any

from acoupi import data
from acoupi.effort import CapturePlan, EffortHistory, SolarWindows
from acoupi.exports.source import rounded
from acoupi.heard import DetectionRow, RecordingRow

__all__ = ["PRECISION", "rounded_places"]

PRECISION = 0.1
"""Precision of rounded coordinates, degrees; about 10 km."""


def rounded_places(value: Any) -> Any:
    """Return a reader's answer with every coordinate in it rounded.

    Examples
    --------
    >>> site = data.Deployment(name="Oak", latitude=51.5432, longitude=-0.0213)
    >>> [(one.latitude, one.longitude) for one in rounded_places([site])]
    [(51.5, 0.0)]
    """
    if isinstance(value, list):
        return [rounded_places(one) for one in value]
    if isinstance(value, data.Deployment):
        return value.model_copy(
            update={"latitude": _degrees(value.latitude), "longitude": _degrees(value.longitude)}
        )
    if isinstance(value, DetectionRow):
        return replace(value, recording=rounded_places(value.recording))
    if isinstance(value, RecordingRow):
        return replace(value, deployment=rounded_places(value.deployment))
    if isinstance(value, EffortHistory):
        plans = [replace(one, plan=_plan(one.plan)) for one in value.plans]
        return replace(value, deployment=rounded_places(value.deployment), plans=plans)
    return value


def _degrees(value: float | None) -> float | None:
    return None if value is None else rounded(value, PRECISION) + 0.0  # avoids -0.0


def _plan(plan: CapturePlan) -> CapturePlan:
    windows = tuple(
        one.model_copy(update={"location": tuple(rounded(x, PRECISION) for x in one.location)})
        if isinstance(one, SolarWindows) and one.location
        else one
        for one in plan.windows
    )
    return plan.model_copy(update={"windows": windows})
