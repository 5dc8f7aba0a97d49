"""The interfaces of everything a program is built from.

Each is named for its role and has one main method. If several of a kind are
given, they combine as follows: all *conditions* and *processing filters* must
hold, one of the *saving filters* is enough, and the first *saving manager* that
returns a path decides.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, ParamSpec, Protocol, Self, cast
from uuid import UUID

from pydantic import BaseModel

from acoupi import data
from acoupi.components.file_keeping import FileKeeping
from acoupi.effort import CapturePlan, EffortHistory
from acoupi.windows import DailyWindows, SolarWindows, Span

__all__ = [
    "AudioRecorder",
    "MessageBuilder",
    "MessageStore",
    "Messenger",
    "Model",
    "ModelOutputCleaner",
    "ProcessingFilter",
    "RecordingCondition",
    "RecordingSavingFilter",
    "RecordingSavingManager",
    "RecordingScheduler",
    "Store",
    "Summariser",
    "TimeCondition",
]

P = ParamSpec("P")


class RecordingScheduler(ABC):
    """Decides when the next recording starts."""

    @abstractmethod
    def time_until_next_recording(self, time: data.AwareDatetime | None = None) -> float:
        """Return the seconds from `time` (None: now) to the next recording; 0 is at once."""


class RecordingCondition(ABC):
    """Decides whether to record now."""

    refusal: ClassVar[data.EffortState] = data.EffortState.CONDITION_REFUSED
    """Effort state of the time in which it does not hold."""

    @abstractmethod
    def should_record(self) -> bool:
        """Return whether recording is wanted now."""


class TimeCondition(RecordingCondition):
    """A condition that the time alone decides, so that recording can be planned.

    The recorder and the effort ledger ask the same windows. A subclass says
    when it holds (`spans`) and, in a form that is stored with the deployment,
    what it plans (`plan`).
    """

    refusal = data.EffortState.OFF_SCHEDULE
    timezone: tzinfo
    """Days begin at its midnight."""

    @abstractmethod
    def spans(self, low: int, high: int) -> list[Span]:
        """Return the parts of [low, high) in which it holds, in order and apart.

        Times are microseconds since 1970.
        """

    @abstractmethod
    def plan(self) -> DailyWindows | SolarWindows | None:
        """Return what it plans, for the effort ledger; None if that cannot be written down."""

    def should_record(self) -> bool:
        """Return whether now lies in one of its windows."""
        now = data.to_microseconds(data.utc_now())
        return bool(self.spans(now, now + 1))

    def windows(self, day: date) -> list[tuple[datetime, datetime]]:
        """Return start and end of each window of a local day, in UTC.

        A window over midnight is cut there.
        """
        bounds = (
            data.to_microseconds(datetime.combine(one, time(), self.timezone))
            for one in (day, day + timedelta(days=1))
        )
        return [
            (data.from_microseconds(start), data.from_microseconds(end))
            for start, end in self.spans(*bounds)
        ]


class AudioRecorder(ABC):
    """Turns sound into recordings."""

    @abstractmethod
    def record(self, deployment: data.Deployment) -> data.Recording:
        """Record once and return the recording, its file complete under its final name.

        Raises
        ------
        DeviceError
            If the microphone is missing, refuses its settings or stops.
        """

    def check(self) -> None:  # noqa: B027 - optional
        """Raise `HealthCheckError` if recording would fail."""


class ProcessingFilter(ABC):
    """Decides whether to run a model on a recording."""

    @abstractmethod
    def should_process_recording(self, recording: data.Recording) -> bool:
        """Return whether to run the model; must be cheap."""


class Model(Protocol):
    """Finds things in recordings.

    Besides `run` it has a ``name`` and may have a ``check()`` that raises
    `HealthCheckError`.
    """

    @abstractmethod
    def run(self, recording: data.Recording) -> data.ModelOutput:
        """Return everything that the model finds in the recording's file."""


class ModelOutputCleaner(ABC):
    """Removes unwanted parts of a model's output."""

    @abstractmethod
    def clean(self, model_output: data.ModelOutput) -> data.ModelOutput:
        """Return the output without them; the id stays."""


class RecordingSavingFilter(ABC):
    """Decides whether to keep a recording's file."""

    judges_detections: bool = False
    """Whether it cannot judge a recording that no model has analysed.

    It is then not asked about one that no model has begun with, which is kept.
    """

    @abstractmethod
    def should_save_recording(
        self,
        recording: data.Recording,
        model_outputs: list[data.ModelOutput] | None = None,
    ) -> bool:
        """Return whether this filter wants the file kept."""


class RecordingSavingManager(ABC):
    """Decides where a recording's file is kept."""

    @abstractmethod
    def save_recording(
        self,
        recording: data.Recording,
        model_outputs: list[data.ModelOutput] | None = None,
    ) -> Path | None:
        """Return where the file should go; None leaves it to the next manager.

        It only names the path: the file management task moves the file, and
        never overwrites another.
        """


class Store(FileKeeping):
    """Stores deployments, recordings, and detections in them.

    Storing is idempotent: storing the same id again replaces the earlier entry.
    """

    @abstractmethod
    def get_current_deployment(self) -> data.Deployment:
        """Return the deployment that recordings belong to now; without one, an unnamed one."""

    @abstractmethod
    def store_deployment(self, deployment: data.Deployment) -> None:
        """Store a deployment."""

    @abstractmethod
    def update_deployment(self, deployment: data.Deployment) -> None:
        """Change name, place and end of a stored deployment."""

    @abstractmethod
    def store_recording(self, recording: data.Recording) -> None:
        """Store a recording, and its deployment if it is new."""

    @abstractmethod
    def store_model_output(self, model_output: data.ModelOutput) -> None:
        """Store a model's output with all its detections."""

    @abstractmethod
    def store_model_outputs(self, model_outputs: list[data.ModelOutput]) -> None:
        """Store several outputs, or, on an error, none of them."""

    @abstractmethod
    def get_recordings(
        self, ids: list[UUID]
    ) -> list[tuple[data.Recording, list[data.ModelOutput]]]:
        """Return recordings with their outputs, newest first."""

    @abstractmethod
    def get_recordings_by_path(
        self, paths: Sequence[Path | None]
    ) -> list[tuple[data.Recording, list[data.ModelOutput]]]:
        """Return the recordings whose files these are with their outputs, newest first."""

    @abstractmethod
    def get_recordings_info_by_path(
        self, paths: Sequence[Path | None]
    ) -> list[tuple[data.Recording, list[data.ModelOutputInfo]]]:
        """Like `get_recordings_by_path`, without the detections: cheap."""

    @abstractmethod
    def get_recording_model_outputs(self, recording: data.Recording) -> list[data.ModelOutput]:
        """Return the outputs of one recording."""

    @abstractmethod
    def get_recordings_model_outputs(
        self, recordings: Sequence[data.Recording]
    ) -> dict[UUID, list[data.ModelOutput]]:
        """Return the outputs of each recording by its id; an empty list if there are none."""

    @abstractmethod
    def update_recording_path(self, recording: data.Recording, path: Path) -> data.Recording:
        """Note that the file is now kept at `path`; return the recording with this path."""

    # What follows has defaults, so that a store of a published program still works.

    def begin_analysis(self, recording: data.Recording, name_model: str) -> data.Analysis:
        """Note that a model is about to run, and count the attempt.

        A final analysis is returned as it is, and not counted.
        """
        for analysis in self.get_analyses([recording])[recording.id]:
            if analysis.name_model == name_model:
                return analysis
        return data.Analysis(
            recording_id=recording.id,
            name_model=name_model,
            state=data.AnalysisState.RUNNING,
            attempts=1,
        )

    def begin_newest_analysis(
        self, recording: data.Recording, name_model: str
    ) -> tuple[data.Recording, data.Analysis]:
        """Begin the analysis of the newest recording that waits for the model; return both.

        Of `recording` if none waits, or the store does not know.
        """
        return recording, self.begin_analysis(recording, name_model)

    def end_analysis(self, analysis: data.Analysis) -> None:
        """Note how an analysis ended: its state and error."""

    def get_analyses(self, recordings: Sequence[data.Recording]) -> dict[UUID, list[data.Analysis]]:
        """Return what each model has done with each recording, by recording id."""
        outputs = self.get_recordings_model_outputs(recordings)
        return {
            recording.id: [
                data.Analysis(
                    recording_id=recording.id,
                    name_model=output.name_model,
                    state=data.AnalysisState.DONE,
                    attempts=1,
                    updated_on=output.created_on,
                )
                for output in outputs.get(recording.id, [])
            ]
            for recording in recordings
        }

    def end_recording(self, recording: data.Recording, state: data.RecordingState) -> None:
        """Note that the file no longer exists (deleted or lost): the path becomes None."""

    # The effort ledger (see `acoupi.effort`). A store without one does nothing.

    def note_effort(self, deployment: data.Deployment, notes: Sequence[data.EffortSpan]) -> None:
        """Note what kept the recorder from recording.

        A note with the same start and state replaces the earlier one: it is ongoing.
        """

    def note_plan(self, deployment: data.Deployment, plan: CapturePlan, since: datetime) -> None:
        """Note when a program plans to record; repeating the same plan changes nothing."""

    def get_alive_until(
        self, deployment: data.Deployment, without: UUID | None = None
    ) -> datetime | None:
        """Return the end of the last recording or note; None if there is none.

        Parameters
        ----------
        without
            A boot: what its clock told before it was set does not count.
        """
        return None

    def get_alive_in_boot(
        self, deployment: data.Deployment, boot_id: UUID, *, before_set: bool = False
    ) -> float | None:
        """Return the same of one boot, on its monotonic clock: seconds.

        Parameters
        ----------
        before_set
            Whether only what its clock told before it was set counts.
        """
        return None

    def get_effort(
        self,
        deployment: data.Deployment,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> EffortHistory | None:
        """Return the facts about a deployment, or a part of it, for its ledger.

        None if the deployment is not stored, or the store keeps no ledger.
        """
        return None

    def get_grouped_effort(
        self,
        deployment: data.Deployment,
        since: datetime,
        until: datetime,
        within: tuple[datetime, datetime],
    ) -> EffortHistory | None:
        """Return the same as `get_effort`, with runs of recordings grouped where it is quicker.

        A run lies within these times, and within a quarter of an hour (UTC).
        """
        return self.get_effort(deployment, since, until)

    def correct_times(
        self, clock: data.BootClock, now: float, error_s: float | None = None
    ) -> tuple[int, float]:
        """Correct the times recorded in this boot before the clock was set.

        Parameters
        ----------
        clock
            The current clock, which can be trusted.
        now
            Time of the monotonic clock.
        error_s
            How far the clock may be off now; None: not known.

        Returns
        -------
        int
            Number of recordings whose time was changed.
        float
            Seconds by which the first of them was moved.
        """
        return 0, 0.0

    def correct_late(self, recording: data.Recording) -> bool:
        """Correct the time of a recording that is stored after the clock of its boot was set.

        Returns
        -------
        bool
            Whether that was so; in a boot whose clock was not set, nobody knows by how much.
        """
        return False

    def get_files_to_correct(self, limit: int) -> list[data.Recording]:
        """Return recordings whose corrected time is not yet in their files."""
        return []

    def note_file_corrected(self, recording: data.Recording) -> None:
        """Note that a file holds the corrected time, or never will."""

    def get_deployments(self) -> list[data.Deployment]:
        """Return all deployments, in order of their start."""
        return []

    def get_last_recording(
        self, deployment: data.Deployment | None = None
    ) -> data.Recording | None:
        """Return the last recording (of a deployment) with its capture report."""
        return None

    own_conditions: Sequence[RecordingCondition] = ()
    """Further conditions for recording, of the sensor itself."""


class MessageBuilder(ABC, Generic[P]):
    """Builds a message from its arguments, or none."""

    @abstractmethod
    def build_message(
        self, *args: P.args, **kwargs: P.kwargs
    ) -> data.Message | list[data.Message] | None:
        """Return the message; None if there is nothing to report."""


class Summariser(ABC):
    """Summarises what happened over a period."""

    @abstractmethod
    def build_summary(self, now: datetime) -> data.Message | list[data.Message] | None:
        """Return the summary of the period ending at `now`; None if there is nothing to report."""


class Messenger(ABC):
    """Sends messages to a server.

    A class that users can configure says how: see `acoupi.components.messengers`.
    """

    key: ClassVar[str]
    """Its section of the configuration, below ``messaging``."""
    Config: ClassVar[type[BaseModel]]
    """What users set in that section."""
    needs_network: ClassVar[bool] = True
    """Whether it sends to another machine: only then has the worker that sends a network."""

    @classmethod
    def from_config(cls, config: Any, logger: logging.Logger | None = None) -> Self:
        """Make the messenger that a `Config` describes: its fields are the arguments."""
        settings = {name: getattr(config, name) for name in cls.Config.model_fields}
        return cast("Self", cast("Any", cls)(**settings, logger=logger))

    @property
    def name(self) -> str:
        """Name under which its deliveries are stored; each destination needs its own."""
        return type(self).__name__

    @abstractmethod
    def send_message(self, message: data.Message) -> data.Response:
        """Send, and return what the server answered.

        FAILED and TIMEOUT are about the server, ERROR is about the message (see
        `acoupi.components.messengers`). After three of the former in a row the
        task sends no more in this pass. If the server says when to come back,
        give it as `retry_after` of the response: nothing is sent before.

        Raises
        ------
        MessageSendError
            If nothing reached the server.
        """

    def check(self) -> None:  # noqa: B027 - optional
        """Raise `HealthCheckError` if sending would fail."""

    def trouble(self) -> str | None:
        """Return what a person must put right although messages arrive; None: nothing."""
        return None

    def close(self) -> None:  # noqa: B027 - optional
        """Close the connection, if there is one."""


class MessageStore(ABC):
    """Stores messages until every messenger has delivered them."""

    @abstractmethod
    def get_unsent_messages(
        self,
        limit: int | None = None,
        order: Literal["oldest_first", "newest_first"] = "oldest_first",
    ) -> list[data.Message]:
        """Return the messages that no server has acknowledged, at most `limit`."""

    @abstractmethod
    def store_message(self, message: data.Message) -> None:
        """Store a message; the same id again changes nothing."""

    @abstractmethod
    def store_response(self, response: data.Response) -> None:
        """Store what a server answered."""

    # What follows has defaults, so that a store of a published program still works.

    def claim_messages(
        self,
        messenger: str,
        limit: int | None = None,
        order: Literal["oldest_first", "newest_first"] = "oldest_first",
    ) -> list[data.Message]:
        """Return what this messenger should try to deliver now.

        That excludes messages it has delivered, those that rest until their
        next attempt, those given up, and those that another process has claimed
        in the last few minutes.
        """
        return self.get_unsent_messages(limit=limit, order=order)

    def settle_message(self, messenger: str, response: data.Response) -> bool | None:
        """Store the result of an attempt to deliver a claimed message.

        SUCCESS completes it. Anything else counts the attempt and sets the time
        of the next one, or gives the message up (a dead letter) if the server
        has refused it (ERROR) too often.

        Returns
        -------
        bool or None
            True if the later messages of its kind must wait for it.
        """
        self.store_response(response)
        return None

    def release_messages(  # noqa: B027 - optional
        self, messenger: str, messages: Sequence[data.Message]
    ) -> None:
        """Release claimed messages that were not tried."""

    def remove_delivered(
        self, before: datetime, messengers: Sequence[str], limit: int = 1000
    ) -> int:
        """Remove messages from before a time that all these messengers have delivered.

        Returns
        -------
        int
            Number removed, at most `limit`. 0 if the store never removes any.
        """
        return 0
