"""A summary of a sensor: whether it records, what was heard today, what is wrong."""

import datetime
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from typing import Any

from acoupi import clock
from acoupi.errors import AcoupiError, StoreError
from acoupi.heard import Filters
from acoupi.stack.settings import Settings
from acoupi.system.page import PageSensor
from acoupi.system.reading import message_reader_of, zone_of
from acoupi.system.state import AcoupiStatus
from acoupi.telling import shown_share

__all__ = ["Summary", "summary_of"]

GIGABYTE = 1e9


class Summary:
    """The state of a sensor at one moment, and its description.

    Parameters
    ----------
    now
        The result of `acoupi.system.page.PageSensor.now`.
    zone
        Time zone of the sensor's times.
    today
        Counts since midnight there: recordings, detections, delivered messages.
    here
        The same since the deployment began; empty if there is none.
    effort
        Effort of the last 24 hours; empty if nothing was planned or recorded.
    unreadable
        Why `today` and `here` could not be counted, or None.
    """

    def __init__(
        self,
        now: Mapping[str, Any],
        zone: datetime.tzinfo,
        today: Mapping[str, int],
        here: Mapping[str, int],
        effort: Mapping[str, Any],
        *,
        unreadable: StoreError | None = None,
    ) -> None:
        self.now, self.zone, self.today, self.here, self.effort = now, zone, today, here, effort
        self.unreadable = unreadable
        self.state = AcoupiStatus.model_validate(now["status"])

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.state.is_well and self.unreadable is None

    def rows(self) -> dict[str, str]:
        """Return the summary, a line for each subject."""
        rows = {
            "recording": self._recording(),
            "next": self._time(self.now["next_recording"]) or "none is planned",
            "today": _counted(self.today) or "cannot be read",
            "at this site": _counted(self.here) or "nothing yet",
            "last 24 hours": self._effort(),
            "disk": "; ".join(self._disks()),
            "clock": self._clock(),
        }
        if self.unreadable is not None:
            del rows["at this site"], rows["last 24 hours"]
        if self.state.analysis is not None:
            rows["analysis"] = self.state.analysis.words()
        if self.state.in_memory is not None:
            rows["spool"] = self.state.in_memory.words()
        if self.state.space is not None:
            rows["disk"] = self.state.space.words()
        if self.state.messages:
            rows["to send"] = ", ".join(one.words() for one in self.state.messages)
        rows["program"] = f"{self.state.program.program}, acoupi {self.now['version']}"
        return rows

    def _recording(self) -> str:
        deployment, unnamed = self.state.deployment, self.state.unnamed
        if self.state.stands_by:
            return "no: it was stopped on the page"
        elsewhere = [one.message for one in self.state.celery.workers if one.state == "unknown"]
        if elsewhere:
            return elsewhere[0] or "unknown"
        if deployment is None and unnamed is None:
            return "no: acoupi start"
        where = f'at "{deployment.name}"' if deployment else "without a named place"
        began = (deployment or unnamed).started_on  # type: ignore[union-attr]
        since = self._time(began.isoformat())
        celery = self.state.celery
        down = ", ".join(
            f"{one.name} {one.state}" for one in celery.services if one.state != "ready"
        )
        recording = [one for one in celery.services if one not in celery.others]
        if recording and all(one.state == "ready" for one in recording):
            return f"{where}, since {since}{f' ({down})' if down else ''}"
        return f"should be {where}, since {since} ({down or 'there are no services'})"

    def _effort(self) -> str:
        planned = self.effort.get("planned_s") or 0
        if not planned:
            return "nothing was planned"
        return f"{shown_share(self.effort.get('captured_share'))} of the plan was recorded"

    def _disks(self) -> Iterator[str]:
        for one in self.now["disks"]:
            free, total = one["free_bytes"] / GIGABYTE, one["total_bytes"] / GIGABYTE
            hours = one["hours_left"]
            left = "" if hours is None else f", full in {hours:.0f} hours"
            yield f"{free:.1f} of {total:.1f} GB free{left}"

    def _clock(self) -> str:
        synchronised, error = self.now["clock"]["synchronised"], self.now["clock"]["error_s"]
        if synchronised is None:
            return "unknown whether a time server set it"
        known = "" if error is None or not synchronised else f", to {error * 1000:.3g} ms"
        return ("set" if synchronised else "not set") + f" by a time server{known}"

    def _time(self, text: str | None) -> str | None:
        if text is None:
            return None
        moment = datetime.datetime.fromisoformat(text).astimezone(self.zone)
        return f"{moment:%Y-%m-%d %H:%M:%S} {self.now['timezone']}"

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        return {
            **self.now,
            "ok": self.ok,
            "today": dict(self.today),
            "deployment_so_far": dict(self.here),
            "last_day": dict(self.effort),
        }


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} {what.removesuffix('s') if count == 1 else what}"
        for what, count in counts.items()
    )


def _counts(settings: Settings, page: PageSensor, since: datetime.datetime) -> dict[str, int]:
    after, messages = Filters(since=since), message_reader_of(settings)
    counts = {
        "recordings": sum(page.reader.count_recordings("deployment", after).values()),
        "detections": sum(page.reader.count_detections("deployment", after).values()),
    }
    sent = {} if messages is None else {"messages": messages.count_sent(since)}
    return counts | sent


def summary_of(settings: Settings) -> Summary:
    """Return the summary of a home's sensor.

    Raises
    ------
    AcoupiError
        If there is no sensor.
    """
    zone = zone_of(settings)
    time = clock.utc_now().astimezone(zone)
    with closing(PageSensor(settings)) as page:
        now = page.now()
        today: dict[str, int] = {}
        here: dict[str, int] = {}
        deployment = now["status"]["deployment"] or now["status"]["unnamed"]
        unreadable = None
        try:
            today = _counts(settings, page, time.replace(hour=0, minute=0, second=0, microsecond=0))
            if deployment is not None:
                began = datetime.datetime.fromisoformat(deployment["started_on"])
                here = _counts(settings, page, began)
        except StoreError as error:
            unreadable = error
        effort: dict[str, Any] = {}
        with suppress(AcoupiError):  # nothing has been recorded yet
            effort = page.effort(None, time - datetime.timedelta(days=1), None)
        return Summary(now, zone, today, here, effort, unreadable=unreadable)
