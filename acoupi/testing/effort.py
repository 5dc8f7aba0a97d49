"""The account of every second, kept in memory."""

import datetime
import threading
from abc import abstractmethod
from collections.abc import Sequence
from uuid import UUID

from acoupi import data
from acoupi.components import types
from acoupi.effort import Captured, CapturePlan, EffortHistory, PlanFrom

__all__ = ["InMemoryEffort"]


class InMemoryEffort(types.Store):
    """The part of `InMemoryStore` that keeps account of every second."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._deployments: dict[UUID, data.Deployment] = {}
        self._notes: dict[tuple[UUID, datetime.datetime, data.EffortState], data.EffortSpan] = {}
        self._plans: dict[UUID, list[PlanFrom]] = {}

    @abstractmethod
    def _recordings(self) -> list[data.Recording]:
        """Return all recordings that are stored."""

    def note_effort(self, deployment: data.Deployment, notes: Sequence[data.EffortSpan]) -> None:
        """Note what kept the recorder from recording; stores the deployment if it is new."""
        with self._lock:
            self._deployments.setdefault(deployment.id, deployment.model_copy())
            for note in notes:
                self._notes[deployment.id, note.start, note.state] = note

    def note_plan(
        self, deployment: data.Deployment, plan: CapturePlan, since: datetime.datetime
    ) -> None:
        """Note when a program plans to record; the same plan again changes nothing."""
        with self._lock:
            self._deployments.setdefault(deployment.id, deployment.model_copy())
            plans = self._plans.setdefault(deployment.id, [])
            if not plans or plans[-1].plan != plan:
                plans.append(PlanFrom(since, plan))

    def get_alive_until(self, deployment: data.Deployment) -> datetime.datetime | None:
        """Return the end of the last recording or note; None if there is none."""
        history = self.get_effort(deployment)
        if history is None:
            return None
        ends = [note.end for note in history.notes]
        ends += [data.from_microseconds(one.end) for one in history.captured[-1:]]
        return max(ends, default=None)

    def get_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> EffortHistory | None:
        """Return all that is known of a deployment, whatever part is asked for."""
        with self._lock:
            if deployment.id not in self._deployments:
                return None
            captured = [
                Captured.of(recording)
                for recording in self._recordings()
                if recording.deployment.id == deployment.id
            ]
            return EffortHistory(
                deployment=self._deployments[deployment.id].model_copy(),
                captured=sorted(captured, key=lambda one: one.start),
                notes=[self._notes[key] for key in sorted(self._notes) if key[0] == deployment.id],
                plans=list(self._plans.get(deployment.id, [])),
            )

    def get_deployments(self) -> list[data.Deployment]:
        """Return all deployments, the first to start first."""
        with self._lock:
            ordered = sorted(self._deployments.values(), key=lambda one: one.started_on)
            return [deployment.model_copy() for deployment in ordered]

    def get_last_recording(
        self, deployment: data.Deployment | None = None
    ) -> data.Recording | None:
        """Return the last recording (of a deployment) with the report of its capture."""
        with self._lock:
            recordings = [
                recording
                for recording in self._recordings()
                if deployment is None or recording.deployment.id == deployment.id
            ]
        return max(recordings, key=lambda recording: recording.created_on, default=None)
