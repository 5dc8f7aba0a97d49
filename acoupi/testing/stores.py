"""Stores that remember in memory only: fast, and gone with the process.

They keep the same promises as `SqliteStore` and `SqliteMessageStore`, for
threads of one process; tests run the same contract over both. Only times that a
wrong clock told are not corrected (`correct_times` finds nothing).
"""

import datetime
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from acoupi import data
from acoupi.components import types
from acoupi.components.message_stores.deliveries import (
    LEASE,
    DeadLetter,
    Delivery,
    DeliveryState,
    Order,
    Refusal,
    check_request,
    is_due,
    refused,
    settled,
    unknown_message,
)
from acoupi.components.stores.rules import (
    begun,
    check_end,
    check_limit,
    ended,
    shared_path,
    unknown_deployment,
    unknown_recordings,
)
from acoupi.testing.effort import InMemoryEffort

__all__ = ["InMemoryMessageStore", "InMemoryStore"]

T = TypeVar("T")
WithOutputs = list[tuple[data.Recording, list[data.ModelOutput]]]


@dataclass
class _Entry:
    recording: data.Recording
    state: data.RecordingState = data.RecordingState.CAPTURED


class InMemoryStore(InMemoryEffort):
    """A metadata store for tests; see `SqliteStore` for what its methods promise."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[UUID, _Entry] = {}
        self._outputs: dict[UUID, data.ModelOutput] = {}
        self._analyses: dict[tuple[UUID, str], data.Analysis] = {}

    # Deployments

    def get_current_deployment(self) -> data.Deployment:
        """Return the latest deployment that has not ended; without one, begin one."""
        with self._lock:
            going_on = [d for d in self._deployments.values() if d.ended_on is None]
            if going_on:
                return _newest_first(going_on, lambda d: d.started_on)[0].model_copy()
            now = data.utc_now()
            deployment = data.Deployment(name=now.strftime("%Y%m%d_%H%M%S"), started_on=now)
            self.store_deployment(deployment)
            return deployment

    def store_deployment(self, deployment: data.Deployment) -> None:
        """Store a deployment; one of the same id is replaced."""
        with self._lock:
            self._deployments[deployment.id] = deployment.model_copy()

    def update_deployment(self, deployment: data.Deployment) -> None:
        """Change name, place and end of a stored deployment; its start stays."""
        with self._lock:
            if deployment.id not in self._deployments:
                raise unknown_deployment(deployment)
            started_on = self._deployments[deployment.id].started_on
            changed = deployment.model_copy(update={"started_on": started_on})
            self._deployments[deployment.id] = changed

    # Recordings

    def store_recording(
        self, recording: data.Recording, deployment: data.Deployment | None = None
    ) -> None:
        """Store a recording as captured, and its deployment if it is new."""
        deployment = deployment or recording.deployment
        with self._lock:
            entry = self._entries.get(recording.id)
            path = recording.path
            state = data.RecordingState.CAPTURED
            if entry is not None:
                state = entry.state
                if state in (data.RecordingState.KEPT, data.RecordingState.DELETED):
                    path = entry.recording.path
                elif path is not None:
                    state = data.RecordingState.CAPTURED
            self._refuse_shared_path(recording.id, path)
            self._deployments.setdefault(deployment.id, deployment.model_copy())
            capture = recording.capture
            if capture is None and entry is not None:
                capture = entry.recording.capture
            changed = recording.model_copy(
                update={"path": path, "deployment": deployment, "capture": capture}
            )
            self._entries[recording.id] = _Entry(changed, state)

    def update_recording_path(self, recording: data.Recording, path: Path) -> data.Recording:
        """Note that the file is kept at `path` now; return the recording with it."""
        with self._lock:
            entry = self._entry(recording.id, "change a recording's path", recording.path)
            self._refuse_shared_path(recording.id, path)
            entry.recording = entry.recording.model_copy(update={"path": Path(path)})
            entry.state = data.RecordingState.KEPT
        return recording.model_copy(update={"path": Path(path)})

    def end_recording(self, recording: data.Recording, state: data.RecordingState) -> None:
        """Note that there is no file any more, unless it is elsewhere than `recording` says."""
        check_end(state)
        with self._lock:
            entry = self._entry(recording.id, "end a recording", recording.path)
            if recording.path is None or entry.recording.path in (None, recording.path):
                entry.recording = entry.recording.model_copy(update={"path": None})
                entry.state = state

    def get_recordings(self, ids: list[UUID]) -> WithOutputs:
        """Return recordings with their outputs, newest first."""
        return self._with_outputs(lambda recording: recording.id in ids)

    def get_recordings_by_path(self, paths: Sequence[Path | None]) -> WithOutputs:
        """Return the recordings of these files with their outputs, newest first."""
        wanted = {Path(path) for path in paths if path is not None}
        return self._with_outputs(lambda recording: recording.path in wanted)

    def get_recordings_info_by_path(
        self, paths: Sequence[Path | None]
    ) -> list[tuple[data.Recording, list[data.ModelOutputInfo]]]:
        """Like `get_recordings_by_path`, without the detections."""
        return [
            (
                recording,
                [
                    data.ModelOutputInfo(
                        id=output.id, name_model=output.name_model, created_on=output.created_on
                    )
                    for output in outputs
                ],
            )
            for recording, outputs in self.get_recordings_by_path(paths)
        ]

    def get_captured_recordings(self, limit: int | None = None) -> list[data.Recording]:
        """Return the recordings whose files wait in the spool, oldest first."""
        check_limit(limit)
        with self._lock:
            captured = [
                self._recording(id_)
                for id_, entry in self._entries.items()
                if entry.state is data.RecordingState.CAPTURED
            ]
        return sorted(captured, key=lambda recording: recording.created_on)[:limit]

    def count_recordings(self) -> dict[data.RecordingState, int]:
        """Return how many recordings are in each state, 0 included."""
        with self._lock:
            states = [entry.state for entry in self._entries.values()]
        return {state: states.count(state) for state in data.RecordingState}

    # Analyses

    def begin_analysis(self, recording: data.Recording, name_model: str) -> data.Analysis:
        """Note, before a model runs, that it is about to; counts the attempt."""
        with self._lock:
            self._entry(recording.id, "begin an analysis", recording.path)
            stored = self._analyses.get((recording.id, name_model))
            analysis = begun(stored, recording.id, name_model)
            self._analyses[recording.id, name_model] = analysis
            return analysis.model_copy()

    def end_analysis(self, analysis: data.Analysis) -> None:
        """Note how an analysis ended; what is final stays final."""
        with self._lock:
            self._entry(analysis.recording_id, "end an analysis")
            key = (analysis.recording_id, analysis.name_model)
            self._analyses[key] = ended(self._analyses.get(key), analysis)

    def get_analyses(self, recordings: Sequence[data.Recording]) -> dict[UUID, list[data.Analysis]]:
        """Return what each model has done with each recording, by recording id."""
        with self._lock:
            return {
                recording.id: [
                    self._analyses[key].model_copy()
                    for key in sorted(self._analyses, key=lambda key: key[1])
                    if key[0] == recording.id
                ]
                for recording in recordings
            }

    def count_analyses(self) -> dict[data.AnalysisState, int]:
        """Return how many analyses are in each state, 0 included."""
        with self._lock:
            states = [analysis.state for analysis in self._analyses.values()]
        return {state: states.count(state) for state in data.AnalysisState}

    # Model outputs

    def store_model_output(self, model_output: data.ModelOutput) -> None:
        """Store a model's output; one of the same id is replaced."""
        self.store_model_outputs([model_output])

    def store_model_outputs(self, model_outputs: list[data.ModelOutput]) -> None:
        """Store several outputs, or, on an error, none of them."""
        with self._lock:
            recordings = {output.recording.id: output.recording.path for output in model_outputs}
            missing = [item for item in recordings.items() if item[0] not in self._entries]
            if missing:
                raise unknown_recordings("store a model's output", missing)
            for output in model_outputs:
                self._outputs[output.id] = _copy(output, output.recording)

    def get_recording_model_outputs(self, recording: data.Recording) -> list[data.ModelOutput]:
        """Return the outputs of one recording, newest first."""
        return self.get_recordings_model_outputs([recording])[recording.id]

    def get_recordings_model_outputs(
        self, recordings: Sequence[data.Recording]
    ) -> dict[UUID, list[data.ModelOutput]]:
        """Return the outputs of each recording by its id, newest first."""
        return {
            recording.id: self.get_model_outputs(recording_ids=[recording.id])
            for recording in recordings
        }

    def get_model_outputs_by_recording_time(
        self, start: datetime.datetime, end: datetime.datetime
    ) -> list[data.ModelOutput]:
        """Return the outputs of the recordings that began in [start, end), oldest first."""
        start, end = _aware(start), _aware(end)
        with self._lock:
            order = {id_: position for position, id_ in enumerate(self._entries)}
            outputs = [
                output
                for output in self._all_outputs()
                if start <= output.recording.created_on < end
            ]
        return sorted(
            outputs,
            key=lambda o: (o.recording.created_on, order[o.recording.id], o.created_on),
        )

    def get_model_outputs(  # noqa: PLR0917 - a published signature
        self,
        after: datetime.datetime | None = None,
        before: datetime.datetime | None = None,
        ids: list[UUID] | None = None,
        recording_ids: list[UUID] | None = None,
        model_names: list[str] | None = None,
        detection_ids: list[UUID] | None = None,
        limit: int | None = None,
    ) -> list[data.ModelOutput]:
        """Return the outputs for which every filter holds, newest first."""
        check_limit(limit)
        with self._lock:
            outputs = [
                output
                for output in self._all_outputs()
                if _within(output.created_on, after, before)
                and _among(output.id, ids)
                and _among(output.recording.id, recording_ids)
                and _among(output.name_model, model_names)
                and (
                    detection_ids is None
                    or any(detection.id in detection_ids for detection in output.detections)
                )
            ]
        return _newest_first(outputs, lambda output: output.created_on)[:limit]

    def get_detections(  # noqa: PLR0917 - a published signature
        self,
        ids: list[UUID] | None = None,
        model_output_ids: list[UUID] | None = None,
        score_gt: float | None = None,
        score_lt: float | None = None,
        model_names: list[str] | None = None,
        after: datetime.datetime | None = None,
        before: datetime.datetime | None = None,
    ) -> list[data.Detection]:
        """Return the detections for which every filter holds, those of the newest output first."""
        return [
            detection
            for output in self.get_model_outputs(after, before, model_output_ids, None, model_names)
            for detection in output.detections
            if _among(detection.id, ids) and _between(detection.detection_score, score_gt, score_lt)
        ]

    def get_predicted_tags(  # noqa: PLR0917 - a published signature
        self,
        detection_ids: list[UUID] | None = None,
        after: datetime.datetime | None = None,
        before: datetime.datetime | None = None,
        score_gt: float | None = None,
        score_lt: float | None = None,
        keys: list[str] | None = None,
        values: list[str] | None = None,
    ) -> list[data.PredictedTag]:
        """Return the tags for which every filter holds, those of the newest output first."""
        return [
            predicted
            for detection in self.get_detections(ids=detection_ids, after=after, before=before)
            for predicted in detection.tags
            if _between(predicted.confidence_score, score_gt, score_lt)
            and _among(predicted.tag.key, keys)
            and _among(predicted.tag.value, values)
        ]

    # Under the lock

    def _recordings(self) -> list[data.Recording]:
        return [self._recording(id_) for id_ in self._entries]

    def _entry(self, id_: UUID, action: str, path: Path | None = None) -> _Entry:
        if id_ not in self._entries:
            raise unknown_recordings(action, [(id_, path)])
        return self._entries[id_]

    def _refuse_shared_path(self, id_: UUID, path: Path | None) -> None:
        for other, entry in self._entries.items():
            if other != id_ and path is not None and entry.recording.path == path:
                raise shared_path(id_, other, path)

    def _recording(self, id_: UUID) -> data.Recording:
        recording = self._entries[id_].recording
        deployment = self._deployments[recording.deployment.id]
        return recording.model_copy(update={"deployment": deployment.model_copy()})

    def _all_outputs(self) -> list[data.ModelOutput]:
        return [
            _copy(output, self._recording(output.recording.id)) for output in self._outputs.values()
        ]

    def _with_outputs(self, wanted: Callable[[data.Recording], bool]) -> WithOutputs:
        with self._lock:
            recordings = [self._recording(id_) for id_ in self._entries]
            found = _newest_first(filter(wanted, recordings), lambda r: r.created_on)
            outputs = self.get_recordings_model_outputs(found)
        return [(recording, outputs[recording.id]) for recording in found]


class InMemoryMessageStore(types.MessageStore):
    """A message store for tests; see `SqliteMessageStore` for what its methods promise."""

    def __init__(self, *, lease: float = LEASE) -> None:
        self.lease = lease
        self._lock = threading.RLock()
        self._messages: dict[UUID, data.Message] = {}
        self._responses: dict[UUID, list[data.Response]] = {}
        self._closed: set[UUID] = set()
        self._deliveries: dict[str, dict[UUID, Delivery]] = {}
        self._refusals: dict[str, Refusal | None] = {}

    def store_message(self, message: data.Message) -> None:
        """Store a message; the same id again changes nothing."""
        with self._lock:
            if message.id not in self._messages:
                self._messages[message.id] = message.model_copy()
                self._responses[message.id] = []

    def get_unsent_messages(
        self, limit: int | None = None, order: Order = "oldest_first"
    ) -> list[data.Message]:
        """Return the messages to which no SUCCESS was ever answered, at most `limit`."""
        check_request(limit, order)
        with self._lock:
            unsent = [
                message
                for id_, message in self._messages.items()
                if not any(
                    response.status is data.ResponseStatus.SUCCESS
                    for response in self._responses[id_]
                )
            ]
        return _ordered(unsent, order)[:limit]

    def store_response(self, response: data.Response) -> None:
        """Store an answer; SUCCESS ends the message for every messenger."""
        with self._lock:
            self._add_response(response, "store a response")
            if response.status is not data.ResponseStatus.SUCCESS:
                return
            self._closed.add(response.message.id)
            for deliveries in self._deliveries.values():
                delivery = deliveries.get(response.message.id)
                if delivery is not None:
                    deliveries[response.message.id] = replace(
                        delivery,
                        state="acknowledged",
                        next_attempt_on=None,
                        claimed_until=None,
                        last_error=None,
                        updated_on=data.utc_now(),
                    )

    def get_responses(self, message: data.Message) -> list[data.Response]:
        """Return all that servers answered to a message, in the order they were stored."""
        with self._lock:
            self._require(message, "read the responses")
            return list(self._responses[message.id])

    def claim_messages(
        self,
        messenger: str,
        limit: int | None = None,
        order: Order = "oldest_first",
    ) -> list[data.Message]:
        """Return what this messenger should try to deliver now, and keep others from it."""
        check_request(limit, order)
        with self._lock:
            deliveries = self._of(messenger)
            now = data.utc_now()
            due = [
                message
                for id_, message in self._messages.items()
                if is_due(self._delivery(deliveries, id_), now, self.lease)
            ]
            claimed = _ordered(due, order)[:limit]
            until = now + datetime.timedelta(seconds=self.lease)
            for message in claimed:
                deliveries[message.id] = replace(
                    self._delivery(deliveries, message.id), claimed_until=until
                )
        return claimed

    def settle_message(self, messenger: str, response: data.Response) -> None:
        """Note how an attempt to deliver a claimed message went."""
        with self._lock:
            self._add_response(response, "settle a message")
            deliveries = self._of(messenger)
            id_ = response.message.id
            deliveries[id_] = settled(self._delivery(deliveries, id_), response)
            self._refusals[messenger] = refused(self._refusals.get(messenger), messenger, response)

    def get_refusals(self) -> list[Refusal]:
        """Return the servers that do not let the sensor in, by their last answer."""
        with self._lock:
            return [refusal for _, refusal in sorted(self._refusals.items()) if refusal]

    def remove_delivered(
        self, before: datetime.datetime, messengers: Sequence[str], limit: int = 1000
    ) -> int:
        """Remove messages that all these messengers have delivered; return how many."""
        with self._lock:
            old = [
                message
                for message in self._messages.values()
                if message.created_on < before and self._is_removable(message.id, messengers)
            ]
            for message in _ordered(old, "oldest_first")[:limit]:
                del self._messages[message.id], self._responses[message.id]
                for deliveries in self._deliveries.values():
                    deliveries.pop(message.id, None)
        return min(len(old), limit)

    def _is_removable(self, id_: UUID, messengers: Sequence[str]) -> bool:
        if not messengers or any(
            id_ in deliveries and deliveries[id_].state == "dead"
            for deliveries in self._deliveries.values()
        ):
            return False
        return all(
            self._delivery(self._deliveries.get(name, {}), id_).state == "acknowledged"
            for name in messengers
        )

    def release_messages(self, messenger: str, messages: Sequence[data.Message]) -> None:
        """Give claimed messages back that were not tried."""
        with self._lock:
            deliveries = self._deliveries.get(messenger, {})
            for message in messages:
                if message.id in deliveries:
                    deliveries[message.id] = replace(deliveries[message.id], claimed_until=None)

    def count_deliveries(self) -> dict[str, dict[DeliveryState, int]]:
        """Return, for each messenger known, how many messages are in each state."""
        counts: dict[str, dict[DeliveryState, int]] = {}
        with self._lock:
            for messenger, deliveries in self._deliveries.items():
                counts[messenger] = {"pending": 0, "acknowledged": 0, "dead": 0}
                for id_ in self._messages:
                    if id_ in deliveries or id_ not in self._closed:
                        counts[messenger][self._delivery(deliveries, id_).state] += 1
        return counts

    def get_dead_letters(self, messenger: str | None = None) -> list[DeadLetter]:
        """Return the messages given up, oldest first; None for those of every messenger."""
        with self._lock:
            letters = [
                DeadLetter(
                    messenger=name,
                    message=self._messages[id_].model_copy(),
                    attempts=delivery.attempts,
                    last_error=delivery.last_error,
                    updated_on=delivery.updated_on or data.utc_now(),
                )
                for name, id_, delivery in self._dead(messenger)
            ]
        return sorted(
            letters, key=lambda d: (d.message.created_on, d.message.id.bytes, d.messenger)
        )

    def retry_dead_letters(self, messenger: str | None = None) -> int:
        """Make dead letters pending again, their attempts forgotten; return how many."""
        with self._lock:
            dead = self._dead(messenger)
            for name, id_, delivery in dead:
                self._deliveries[name][id_] = Delivery(
                    last_error=delivery.last_error, updated_on=data.utc_now()
                )
        return len(dead)

    # Under the lock

    def _of(self, messenger: str) -> dict[UUID, Delivery]:
        return self._deliveries.setdefault(messenger, {})

    def _delivery(self, deliveries: dict[UUID, Delivery], id_: UUID) -> Delivery:
        missing = Delivery(state="acknowledged" if id_ in self._closed else "pending")
        return deliveries.get(id_, missing)

    def _dead(self, messenger: str | None) -> list[tuple[str, UUID, Delivery]]:
        return [
            (name, id_, delivery)
            for name, deliveries in self._deliveries.items()
            if messenger in (None, name)
            for id_, delivery in deliveries.items()
            if delivery.state == "dead"
        ]

    def _require(self, message: data.Message, action: str) -> None:
        if message.id not in self._messages:
            raise unknown_message(action, [message.id])

    def _add_response(self, response: data.Response, action: str) -> None:
        self._require(response.message, action)
        self._responses[response.message.id].append(response.model_copy())


def _copy(output: data.ModelOutput, recording: data.Recording) -> data.ModelOutput:
    return output.model_copy(update={"recording": recording, "detections": list(output.detections)})


def _newest_first(items: Iterable[T], time: Callable[[T], datetime.datetime]) -> list[T]:
    """Of equal times, what was stored later comes first, as in SQLite."""
    return sorted(items, key=time)[::-1]


def _ordered(messages: Iterable[data.Message], order: Order) -> list[data.Message]:
    return [
        message.model_copy()
        for message in sorted(
            messages,
            key=lambda message: (message.created_on, message.id.bytes),
            reverse=order == "newest_first",
        )
    ]


def _aware(time: datetime.datetime) -> datetime.datetime:
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def _within(
    time: datetime.datetime, after: datetime.datetime | None, before: datetime.datetime | None
) -> bool:
    return (after is None or time >= _aware(after)) and (before is None or time <= _aware(before))


def _between(score: float, above: float | None, below: float | None) -> bool:
    return (above is None or score > above) and (below is None or score < below)


def _among(value: Any, values: Collection[Any] | None) -> bool:
    return values is None or value in values
