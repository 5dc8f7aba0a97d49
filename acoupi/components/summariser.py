"""Summaries: what was detected over a period, in one small message.

A summary covers the recordings that *began* in a half-open window, no matter when
the model processed them. The first window is ``[now - interval, now)``; each further
one of the same summariser begins where the last one ended, so that a late run neither
leaves out nor repeats a recording. If it is made far less often than every `interval`,
the window is as long as the time between, and a warning names both figures: programs
have taken seconds for minutes. If it is made more often than every half of it, windows
overlap as they are meant to. Each message covers one device and one deployment::

    {"timeinterval": {"starttime": "2024-08-01T20:00:00Z", "endtime": "2024-08-01T21:00:00Z"},
     "device": "100000003d1f2c4b",
     "deployment": {"id": "…", "name": "Pond", "latitude": 51.5, "longitude": -0.1},
     "models": ["BatDetect2"],
     "recordings": 342,
     "tags": {"species": {"Myotis": {"mean": 0.71, "min": 0.4, "max": 0.98, "count": 12}}}}

``recordings`` is the number of recordings in the window that a model has
analysed. If a model failed on some for good, ``not_analysed`` is their number:
nothing is known of what was to be heard in them. Without any, it is left out. If
the models had no time for some (`acoupi.backlog`), ``left_out`` is their number, and
``analysed_fraction`` the share of the others: counts are to be divided by it. If
the model lags behind the microphone, set ``delay``, so that the window ends early
enough for its last recordings to be included.
"""

import datetime
import json
import logging
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from acoupi import data, devices
from acoupi.components import types
from acoupi.deferred import DeferredModel

__all__ = ["StatisticsDetectionsSummariser", "SummaryContent", "ThresholdsDetectionsSummariser"]

_logger = logging.getLogger(__name__)

Scores = dict[data.Tag, list[float]]


class SummaryInterval(DeferredModel):
    """The window of a summary; recordings that began in it count."""

    starttime: str
    """Its start, ISO 8601 in UTC."""
    endtime: str
    """The first moment after it."""


class SummaryDeployment(DeferredModel):
    """The deployment of a summary."""

    id: str
    """UUID of the deployment."""
    name: str
    """Name of the site."""
    latitude: float | None
    """Degrees north, WGS 84; null: unknown."""
    longitude: float | None
    """Degrees east, WGS 84; null: unknown."""


class SummaryContent(DeferredModel):
    """The content of a summary."""

    timeinterval: SummaryInterval
    """The window."""
    device: str
    """Id of the device."""
    deployment: SummaryDeployment
    """Where the sensor was; each summary is of one deployment."""
    models: list[str]
    """Names of the models that had results."""
    recordings: int
    """Recordings of the window that a model has analysed."""
    not_analysed: int = 0
    """Recordings on which a model failed for good; absent: none."""
    left_out: int = 0
    """Recordings for which the models had no time (`acoupi.backlog`); absent: none."""
    analysed_fraction: float = 1.0
    """Share of the others, by which to divide counts; absent: all."""
    tags: dict[str, dict[str, dict[str, Any]]]
    """For each kind of tag and each tag: ``mean``, ``min``, ``max`` and ``count`` of its scores; or
    for each of the bands ``low``, ``mid``, ``high`` and ``above_high``, ``count`` and ``mean``."""


_MAY_BE_ABSENT = {"not_analysed", "left_out", "analysed_fraction"}


class _SummaryStore(Protocol):
    """What a summariser needs from a store."""

    def get_model_outputs_by_recording_time(
        self, start: datetime.datetime, end: datetime.datetime
    ) -> Sequence[data.ModelOutput]:
        """Return the outputs of recordings that began in [start, end)."""


class _DetectionsSummariser(types.Summariser):
    """Gathers the confidence of each tag over a window."""

    def __init__(
        self,
        store: _SummaryStore,
        interval: float | datetime.timedelta = 3600,
        *,
        delay: float | datetime.timedelta = 0,
    ) -> None:
        self.store = store
        self.interval = _timedelta(interval)
        self.delay = _timedelta(delay)
        self._last_end: datetime.datetime | None = None
        self._is_warned = False
        if self.interval <= datetime.timedelta(0):
            raise ValueError(f"interval must be more than 0 seconds, not {interval}")
        if self.delay < datetime.timedelta(0):
            raise ValueError(f"delay must not be negative, not {delay}")

    def build_summary(self, now: data.AwareDatetime) -> data.Message | list[data.Message] | None:
        """Return the summary of the window that ends at `now`, less `delay`.

        One message; a list of them if the window covers several deployments;
        None if nothing was detected, and no recording was left without an analysis.
        """
        end = now.astimezone(datetime.UTC) - self.delay
        start = self._start_of(end)
        heard: dict[UUID, list[data.ModelOutput]] = defaultdict(list)
        deployments: dict[UUID, data.Deployment] = {}
        failed: Counter[UUID] = Counter()
        for output in self.store.get_model_outputs_by_recording_time(start, end):
            if start <= output.recording.created_on < end:
                deployment = output.recording.deployment
                deployments[deployment.id] = deployment
                heard[deployment.id].append(output)
        for recording in self._not_analysed(start, end):
            deployments[recording.deployment.id] = recording.deployment
            failed[recording.deployment.id] += 1
        left_out = self._left_out(start, end)
        self._last_end = end
        messages = [
            self._message(
                deployment,
                heard[id_],
                _not_analysed(failed[id_], left_out.get(id_, (0, 0))),
                start,
                end,
            )
            for id_, deployment in deployments.items()
            if failed[id_] or _scores(heard[id_])
        ]
        if not messages:
            return None
        return messages[0] if len(messages) == 1 else messages

    def _not_analysed(
        self, start: datetime.datetime, end: datetime.datetime
    ) -> Sequence[data.Recording]:
        ask = getattr(self.store, "get_unanalysed_recordings", None)  # a published store has none
        return [] if ask is None else ask(start, end)

    def _left_out(
        self, start: datetime.datetime, end: datetime.datetime
    ) -> Mapping[UUID, tuple[int, int]]:
        ask = getattr(self.store, "count_left_out", None)
        return {} if ask is None else ask(start, end)

    def _start_of(self, end: datetime.datetime) -> datetime.datetime:
        """Return where a window begins: at the end of the last one, if it follows that."""
        last = self._last_end
        if last is None or end - last <= self.interval / 2:
            return end - self.interval
        if end - last >= 2 * self.interval and not self._is_warned:
            self._is_warned = True
            _logger.warning(
                "A summary of %s is made only %s after the last one: it covers all of that. "
                "Are interval (seconds) and schedule in the same unit?",
                self.interval,
                end - last,
            )
        return last

    def _message(
        self,
        deployment: data.Deployment,
        outputs: Sequence[data.ModelOutput],
        not_analysed: Mapping[str, Any],
        start: datetime.datetime,
        end: datetime.datetime,
    ) -> data.Message:
        scores = _scores(outputs)
        tags: dict[str, dict[str, Any]] = defaultdict(dict)
        for tag in sorted(scores, key=lambda tag: (tag.key, tag.value)):
            tags[tag.key][tag.value] = self._describe(scores[tag])
        device = devices.get_device_id()
        content = SummaryContent(
            timeinterval=SummaryInterval(starttime=_iso(start), endtime=_iso(end)),
            device=device,
            deployment=SummaryDeployment(
                id=str(deployment.id),
                name=deployment.name,
                latitude=deployment.latitude,
                longitude=deployment.longitude,
            ),
            models=sorted({output.name_model for output in outputs}),
            recordings=len({output.recording.id for output in outputs}),
            tags=tags,
            **not_analysed,
        ).model_dump(exclude=_MAY_BE_ABSENT - not_analysed.keys())
        return data.Message(
            id=data.derived_id(device, deployment.id, type(self).__name__, _iso(start), _iso(end)),
            content=json.dumps(content, ensure_ascii=False),
            message_type=data.MessageType.SUMMARY,
        )

    @abstractmethod
    def _describe(self, scores: list[float]) -> dict[str, Any]:
        """Return the summary of one tag; it has at least one score."""


class StatisticsDetectionsSummariser(_DetectionsSummariser):
    """Report the mean, lowest and highest confidence of each tag, and its count.

    Parameters
    ----------
    store
        Holds the model outputs; it has `get_model_outputs_by_recording_time`.
    interval
        Length of the window: seconds, or a timedelta. Greater than 0.
    delay
        How long before `now` the window ends: seconds, or a timedelta.
    """

    def _describe(self, scores: list[float]) -> dict[str, Any]:
        return {
            "mean": _mean(scores),
            "min": min(scores),
            "max": max(scores),
            "count": len(scores),
        }


class ThresholdsDetectionsSummariser(_DetectionsSummariser):
    """Report how often each tag occurred in three bands of confidence.

    Every detection is in exactly one of the bands ``low`` (confidence up to
    `low_band_threshold`), ``mid`` (above it, up to `mid_band_threshold`) and
    ``high`` (above that). `high_band_threshold` divides no band: those of
    ``high`` that are above it are reported *again*, as ``above_high``: the
    detections that need no checking. Each band has ``count`` and ``mean``, 0
    where there are none.

    Parameters
    ----------
    store, interval, delay
        As for `StatisticsDetectionsSummariser`.
    low_band_threshold, mid_band_threshold, high_band_threshold
        Confidences, 0 to 1, in ascending order.
    """

    def __init__(
        self,
        store: _SummaryStore,
        interval: float | datetime.timedelta = 3600,
        low_band_threshold: float = 0.1,
        mid_band_threshold: float = 0.5,
        high_band_threshold: float = 0.9,
        *,
        delay: float | datetime.timedelta = 0,
    ) -> None:
        super().__init__(store, interval, delay=delay)
        if not 0 <= low_band_threshold <= mid_band_threshold <= high_band_threshold <= 1:
            raise ValueError(
                "the thresholds must rise from 0 to 1, not "
                f"{low_band_threshold}, {mid_band_threshold}, {high_band_threshold}"
            )
        self.low_band_threshold = low_band_threshold
        self.mid_band_threshold = mid_band_threshold
        self.high_band_threshold = high_band_threshold

    def _describe(self, scores: list[float]) -> dict[str, Any]:
        bands: dict[str, list[float]] = {"low": [], "mid": [], "high": [], "above_high": []}
        for score in scores:
            bands[self._band(score)].append(score)
            if score > self.high_band_threshold:
                bands["above_high"].append(score)
        return {
            band: {"count": len(inside), "mean": _mean(inside)} for band, inside in bands.items()
        }

    def _band(self, score: float) -> str:
        if score <= self.low_band_threshold:
            return "low"
        return "mid" if score <= self.mid_band_threshold else "high"


def _scores(outputs: Iterable[data.ModelOutput]) -> Scores:
    scores: Scores = defaultdict(list)
    for output in outputs:
        for detection in output.detections:
            for predicted in detection.tags:
                scores[predicted.tag].append(float(predicted.confidence_score))
    return scores


def _not_analysed(failed: int, counts: tuple[int, int]) -> dict[str, float]:
    """Return the figures about recordings that no model analysed; nothing if there are none."""
    made, left_out = counts
    told: dict[str, float] = {"not_analysed": failed} if failed else {}
    if left_out:
        told |= {"left_out": left_out, "analysed_fraction": round(1 - left_out / made, 6)}
    return told


def _mean(scores: Sequence[float]) -> float:
    return round(sum(scores) / len(scores), 3) if scores else 0


def _iso(time: datetime.datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _timedelta(value: float | datetime.timedelta) -> datetime.timedelta:
    if isinstance(value, datetime.timedelta):
        return value
    return datetime.timedelta(seconds=value)
