"""What a visitor asks: the parameters of an address, read and checked."""

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
"""At most so many rows in an answer; and how many where it is not said."""

FILTERS: Mapping[str, str] = {
    "from": "From then on: 2024-06-01 21:30, yesterday; local to the sensor unless it has a zone.",
    "to": "Up to then, or the end of this day.",
    "deployment": "Name or id of a deployment.",
    "model": "Name of a model.",
    "species": "Species, or another tag.",
    "tag": "KEY=VALUE of a tag.",
    "min_score": "Lowest score, 0 to 1.",
    "state": "Of the recording: captured, kept, clipped, deleted or lost.",
    "verdict": "right, wrong, other, unsure, or none.",
    "sample": "1: only of recordings in the sample that is kept for review.",
}
"""What chooses what was heard, as the options of ``acoupi detections``."""
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
    """One question, whether a page or a program asks it.

    Parameters
    ----------
    sensor
        Whom to ask.
    query
        The parameters of the address; what is empty is not given.
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
        """What reads recordings and detections."""
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
            404: it is none.
        """
        text = self.path.get(name) or self.text(name) or ""
        if not _ID.fullmatch(text):
            raise HTTPException(404, f'"{text}" is not an id.')
        return UUID(text)

    @cached_property
    def filters(self) -> Filters:
        """What is chosen of what was heard.

        Raises
        ------
        ParameterError
            If a parameter names what was never heard, or cannot be.
        """
        return self.choosing.filters(self.choice)

    @property
    def choosing(self) -> Choosing:
        """What makes filters of words."""
        return Choosing(self.reader, self.zone)

    @property
    def choice(self) -> Choice:
        """What is chosen, as it was written."""
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
        """The time that is asked about.

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
        """The last row that was seen."""
        return self.id("after") if self.text("after") else None

    @property
    def limit(self) -> int:
        """How many rows are wanted."""
        return int(self.number("limit", 1, LIMIT) or PAGE)

    @property
    def by(self) -> By:
        """What is counted together."""
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
            If it is none, or out of bounds.
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
        """Return the same question about the row of an id."""
        return replace(self, path={"id": id_})

    def with_limit(self, limit: int) -> "Ask":
        """Return the same question, for so many rows, and without filters."""
        return replace(self, query=QueryParams({"limit": str(limit)}))

    def address(self, **changed: str | None) -> str:
        """Return the parameters of this question with others, as they stand in an address."""
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
