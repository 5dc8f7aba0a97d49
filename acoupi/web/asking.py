"""The parameters of a request, read and checked."""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from starlette.datastructures import MultiDict, QueryParams
from starlette.exceptions import HTTPException

from acoupi.errors import ParameterError
from acoupi.exports.counting import BY, By
from acoupi.exports.reader import Reader
from acoupi.heard import Filters
from acoupi.system.choosing import Choice, Choosing, moment_of
from acoupi.web.sensor import Sensor

__all__ = ["FILTERS", "LIMIT", "PAGE", "Ask", "zone_named"]

LIMIT, PAGE = 500, 50
"""Most rows in an answer, and the default number."""

FILTERS: Mapping[str, str] = {
    "from": "From this time: 2024-06-01 21:30, yesterday; local unless it has a zone.",
    "to": "Up to this time, or the end of this day.",
    "deployment": "Name or id of a deployment.",
    "model": "Name of a model.",
    "species": "Species, or another tag.",
    "tag": "KEY=VALUE of a tag.",
    "min_score": "Lowest score, 0 to 1.",
    "state": "State of the recording: captured, kept, clipped, deleted or lost.",
    "verdict": "right, wrong, other, unsure, or none.",
    "sample": "1: only recordings in the sample that is kept for review.",
}
"""Filters of what was heard, like the options of ``acoupi detections``."""
_SEVERAL = ("deployment", "model", "species", "tag", "state", "verdict")
_ID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def zone_named(key: str) -> datetime.tzinfo:
    """Return a time zone; UTC where this machine does not know it."""
    try:
        return ZoneInfo(key)
    except (ValueError, LookupError, OSError):
        return datetime.UTC


@dataclass(frozen=True)
class Ask:
    """One request, from a page or a program.

    Parameters
    ----------
    sensor
        The sensor.
    query
        The parameters of the address; empty ones count as missing.
    path
        The variable parts of the path.
    timezone
        Key of the zone of the sensor.
    """

    sensor: Sensor
    query: QueryParams
    path: Mapping[str, str]
    timezone: str

    @property
    def reader(self) -> Reader:
        """The reader of recordings and detections."""
        return self.sensor.reader

    @cached_property
    def zone(self) -> datetime.tzinfo:
        """The zone of the sensor; UTC where this machine does not know it."""
        return zone_named(self.timezone)

    def text(self, name: str) -> str | None:
        """Return a parameter; None if it is not given, or empty."""
        return (self.query.get(name) or "").strip() or None

    def several(self, name: str) -> list[str] | None:
        """Return a parameter that may be given more than once."""
        return [one.strip() for one in self.query.getlist(name) if one.strip()] or None

    def id(self, name: str = "id") -> UUID:
        """Return the id in the path, or that of a parameter.

        Raises
        ------
        HTTPException
            404, if it is not an id.
        """
        text = self.path.get(name) or self.text(name) or ""
        if not _ID.fullmatch(text):
            raise HTTPException(404, f'"{text}" is not an id.')
        return UUID(text)

    @cached_property
    def filters(self) -> Filters:
        """The filters of what was heard.

        Raises
        ------
        ParameterError
            If a parameter names something that was never heard, or is not valid.
        """
        return self.choosing.filters(self.choice)

    @property
    def choosing(self) -> Choosing:
        """Converts words to filters."""
        return Choosing(self.reader, self.zone)

    @property
    def choice(self) -> Choice:
        """The filters as they were written."""
        several: Any = {name: self.several(name) for name in _SEVERAL}
        return Choice(
            since=self.text("from"),
            until=self.text("to"),
            min_score=self.number("min_score", 0, 1),
            sample=self.text("sample") in {"1", "on", "true"},
            **several,
        )

    @property
    def period(self) -> tuple[datetime.datetime | None, datetime.datetime | None]:
        """The requested time.

        Raises
        ------
        ParameterError
            If it is no time.
        """
        return (
            moment_of("from", self.text("from"), self.zone),
            moment_of("to", self.text("to"), self.zone, ends_day=True),
        )

    @property
    def after(self) -> UUID | None:
        """The last row of the previous page."""
        return self.id("after") if self.text("after") else None

    @property
    def limit(self) -> int:
        """The number of rows."""
        return int(self.number("limit", 1, LIMIT) or PAGE)

    @property
    def by(self) -> By:
        """How counts are grouped."""
        given = self.text("by") or "night"
        for one in BY:
            if one == given:
                return one
        raise ParameterError(
            given, f'by cannot be "{given}".', "by=night", why=f"it is one of {', '.join(BY)}."
        )

    def number(self, name: str, least: float, most: float) -> float | None:
        """Return a parameter that is a number.

        Raises
        ------
        ParameterError
            If it is not a number, or out of bounds.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = most + 1
        if least <= number <= most:
            return number
        raise ParameterError(
            text,
            f'{name} cannot be "{text}".',
            f"{name}={most:g}",
            why=f"it is a number from {least:g} to {most:g}.",
        )

    def of(self, id_: str) -> "Ask":
        """Return the same request for the row with an id."""
        return replace(self, path={"id": id_})

    def with_limit(self, limit: int) -> "Ask":
        """Return the same request for this many rows, without filters."""
        return replace(self, query=QueryParams({"limit": str(limit)}))

    def address(self, **changed: str | None) -> str:
        """Return the parameters of this request with some changed, for an address."""
        wanted = MultiDict(
            (name, value) for name, value in self.query.multi_items() if value and name != "after"
        )
        for name, value in changed.items():
            wanted.pop(name, None)
            if value is not None:
                wanted[name] = value
        return urlencode(wanted.multi_items())

    def chosen(self, names: Sequence[str] = tuple(FILTERS)) -> dict[str, list[str]]:
        """Return the filters that are given, as they were written."""
        return {name: self.several(name) or [] for name in names}
