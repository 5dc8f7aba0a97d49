"""A program that records, and keeps the recordings that its filters select."""

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from zoneinfo import ZoneInfo

from acoupi import components, data, tasks
from acoupi.components import types
from acoupi.components.audio_recorder import MicrophoneConfig
from acoupi.components.saving_managers import NAME_BY_TIME
from acoupi.effort import CapturePlan
from acoupi.errors import ConfigurationError
from acoupi.programs.core.base import AcoupiProgram, ProgramTask
from acoupi.programs.core.periodic import ScheduleLike, as_schedule
from acoupi.programs.core.workers import (
    DEFAULT_QUEUE,
    DEFAULT_WORKER_CONFIG,
    RECORDING_QUEUE,
)
from acoupi.programs.templates.configuration import (
    AudioConfiguration,
    BasicProgramConfiguration,
    PathsConfiguration,
)

# Published programs import the configurations from here, too.
__all__ = [
    "AudioConfiguration",
    "BasicProgram",
    "BasicProgramConfiguration",
    "MicrophoneConfig",
    "PathsConfiguration",
]

C = TypeVar("C", bound=BasicProgramConfiguration)

MANAGEMENT_INTERVAL = datetime.timedelta(minutes=2)
RECOVERY_INTERVAL = datetime.timedelta(minutes=1)
ANALYSIS_TIME_LIMIT = 600.0
"""Seconds; without a Celery time limit, an older analysis is considered dead."""


class BasicProgram(AcoupiProgram[C]):
    """A program that records, and keeps the recordings that its filters select.

    It records at its interval while every recording condition holds, moves
    or deletes what was recorded every two minutes, and finishes every minute
    what a crash may have left.

    Override points, each given the configuration:

    - `configure_recorder`, `configure_store`: the components;
    - `get_recording_conditions`: when to record (all must hold);
    - `get_capture_plan`: when it plans to record, for `acoupi effort`;
    - `get_recording_callbacks`: what is done with each recording;
    - `get_recording_filters`: what to keep (one suffices; none: everything);
    - `get_file_managers`: where (the first that names a place wins);
    - `get_required_models`: whose work must be done before a file is touched;
    - ``create_…_task`` and ``register_…_task``: the tasks themselves;
    - `validate_dirs`, `check`, `on_start`, `on_end`: call ``super()``.
    """

    worker_config = DEFAULT_WORKER_CONFIG
    filename_template: ClassVar[str] = NAME_BY_TIME
    """Names of kept files; see `components.DateFileManager`."""

    leaves_models_out: bool = False
    """Whether the models run elsewhere: nothing of them is loaded here."""

    recorder: types.AudioRecorder
    store: types.Store

    def setup(self, config: C) -> None:
        """Build the components and register the tasks; touches nothing."""
        self.recorder = self.configure_recorder(config)
        self.store = self.configure_store(config)
        self.register_recording_task(config)
        self.register_file_management_task(config)
        self.register_recovery_task(config)
        super().setup(config)

    def check(self, config: C) -> None:
        """Check that the folders can be written to and that the microphone records."""
        self.validate_dirs(config)
        check_component(self.recorder)
        super().check(config)

    def on_start(self, deployment: data.Deployment) -> None:
        """Make the folders and store the deployment; end any earlier open one."""
        self.validate_dirs(self.config)
        self.store.store_deployment(deployment)
        self._settle_deployments()
        super().on_start(deployment)

    def on_end(self, deployment: data.Deployment) -> None:
        """Store the end of the deployment, and move or delete processed files.

        One pass, and no model is run here: what is still to be analysed stays
        in the spool with its state in the store, and the next start goes on
        with it.
        """
        self.store.update_deployment(deployment)
        self._settle_deployments()
        self.run_once("file_management_task")
        self._report_pending()
        super().on_end(deployment)

    # Components.

    def configure_recorder(self, config: C) -> types.AudioRecorder:
        """Return the recorder; by default for the configured (or simulated) microphone."""
        microphone = config.microphone
        return components.PARecorder(
            duration=config.recording.duration,
            samplerate=microphone.samplerate,
            audio_channels=microphone.audio_channels,
            device_name=microphone.device_name,
            chunksize=config.recording.chunksize,
            audio_dir=config.paths.tmp_audio,
            time_expansion=microphone.time_expansion,
            simulated=getattr(microphone, "simulated", None),
            interval=config.recording.interval,
            # A schema of a published program need not have these.
            **{
                name: getattr(config.recording, name)
                for name in ("bits", "ring_seconds", "ring_bytes", "idle_close", "file_format")
                if hasattr(config.recording, name)
            },
        )

    def configure_store(self, config: C) -> types.Store:
        """Return the store of recordings and detections."""
        return components.SqliteStore(config.paths.db_metadata)

    def get_recording_conditions(self, config: C) -> list[types.RecordingCondition]:
        """Return the conditions for making a recording: by default, the time of day.

        From ``schedule_start`` to ``schedule_end``, over midnight if the end is
        earlier; all day if both are the same.
        """
        interval = data.TimeInterval(
            start=config.recording.schedule_start, end=config.recording.schedule_end
        )
        return [components.IsInInterval(interval, ZoneInfo(str(config.timezone)))]

    def get_capture_plan(self, config: C) -> CapturePlan | None:
        """Return when the program plans to record, for the effort ledger.

        By default from ``duration`` and ``interval`` of the configuration and
        those of the recording conditions that the time alone decides
        (`types.TimeCondition`). None: not known; a program that schedules its
        recordings otherwise says so here.
        """
        recording = config.recording
        if not hasattr(recording, "interval") or not hasattr(recording, "duration"):
            return None
        conditions = self.get_recording_conditions(config)
        windows = [one.plan() for one in conditions if isinstance(one, types.TimeCondition)]
        return CapturePlan(
            duration=recording.duration,
            interval=recording.interval,
            windows=tuple(each for each in windows if each is not None),
            timezone=str(config.timezone),
        )

    def get_recording_callbacks(self, config: C) -> list[Callable[..., Any]]:
        """Return the callbacks for each recording; by default none."""
        return []

    def get_recording_filters(self, config: C) -> list[types.RecordingSavingFilter]:
        """Return the saving filters: one that accepts suffices; without any, all is kept."""
        return []

    def get_file_managers(self, config: C) -> list[types.RecordingSavingManager]:
        """Return the saving managers; by default a folder for each day."""
        return [components.DateFileManager(config.paths.recordings, self.filename_template)]

    def get_required_models(self, config: C) -> list[str]:
        """Return the names of the models that must finish with a recording first."""
        return []

    # Tasks.

    def create_recording_task(self, config: C) -> Callable[[], data.Recording | None]:
        """Return the task that records."""
        return tasks.generate_recording_task(
            recorder=self.recorder,
            store=self.store,
            logger=self.logger.getChild("recording"),
            recording_conditions=self.get_recording_conditions(config),
            plan=self.get_capture_plan(config),
        )

    def create_file_management_task(self, config: C) -> Callable[[], None]:
        """Return the task that moves or deletes recordings."""
        return tasks.generate_file_management_task(
            store=self.store,
            file_managers=self.get_file_managers(config),
            logger=self.logger.getChild("file_management"),
            file_filters=self.get_recording_filters(config),
            required_models=self.get_required_models(config),
            tmp_path=config.paths.tmp_audio,
        )

    def create_recovery_task(self, config: C) -> Callable[[], None]:
        """Return the task that finishes what a crash left."""
        return tasks.generate_recovery_task(
            store=self.store,
            resend=self.resend,
            waiting=self.count_waiting_recordings,
            logger=self.logger.getChild("recovery"),
            required_models=self.get_required_models(config),
            tmp_path=config.paths.tmp_audio,
            time_limit=self.app.conf.task_time_limit or ANALYSIS_TIME_LIMIT,
        )

    def register_recording_task(self, config: C) -> None:
        """Record at every interval, in the recording queue."""
        self.add_task(
            function=self.create_recording_task(config),
            callbacks=self.get_recording_callbacks(config),
            schedule=recording_schedule(config.recording.duration, config.recording.interval),
            queue=RECORDING_QUEUE,
        )

    def register_file_management_task(self, config: C) -> None:
        """Manage files every two minutes, in the default queue."""
        self.add_task(
            function=self.create_file_management_task(config),
            schedule=MANAGEMENT_INTERVAL,
            queue=DEFAULT_QUEUE,
        )

    def register_recovery_task(self, config: C) -> None:
        """Recover every minute, in the default queue."""
        self.add_task(
            function=self.create_recovery_task(config),
            schedule=RECOVERY_INTERVAL,
            queue=DEFAULT_QUEUE,
        )

    # What happens when.

    def validate_dirs(self, config: C) -> None:
        """Create the configured folders and check that they are writable.

        Called by `check` and `on_start`, never while the program is built.
        Subclasses add theirs and call ``super().validate_dirs(config)``.

        Raises
        ------
        ConfigurationError
            If a folder cannot be made or written to.
        """
        for folder in (config.paths.tmp_audio, config.paths.recordings):
            self._require_mount(folder)
        require_folder(config.paths.tmp_audio, "paths.tmp_audio")
        require_folder(config.paths.recordings, "paths.recordings")
        require_folder(config.paths.db_metadata.parent, "paths.db_metadata")

    def _require_mount(self, folder: Path) -> None:
        """Raise before a folder is made where the disk for it is not mounted."""
        space = self.store.space
        mount = None if space is None else space.missing_mount(folder)
        if mount is not None:
            raise ConfigurationError(
                f'will not write to "{folder}": no disk is mounted at {mount}.',
                f"mount {mount}",
                why="sensor.disk.mounts names it; the disk below it would be filled instead.",
            )

    def resend(self, recording: data.Recording) -> None:
        """Send a stored recording to the callbacks again, as if it was just made."""
        for task in self._recording_tasks():
            task.send_to_callbacks(recording)

    def tasks_of_recordings(self) -> list[ProgramTask]:
        """Return the tasks that receive each recording."""
        given = [one for each in self._recording_tasks() for one, _ in each.callbacks]
        return list(dict.fromkeys(given))

    def count_waiting_recordings(self) -> int:
        """Return how many recordings wait in the queues of the callbacks."""
        queues = {
            queue or task.home_queue or DEFAULT_QUEUE
            for recording_task in self._recording_tasks()
            for task, queue in recording_task.callbacks
        }
        return sum(self.count_waiting(queue) for queue in queues)

    def run_once(self, task_name: str) -> None:
        """Run a task in this process, if there is one with that name; a failure is logged."""
        if task_name not in self.tasks:
            return
        try:
            self.tasks[task_name].function()
        except Exception:
            self.logger.exception('task "%s" failed at the end of the deployment', task_name)

    def _settle_deployments(self) -> None:
        settle = getattr(self.store, "settle_deployments", None)
        if settle is not None:
            settle()

    def _recording_tasks(self) -> list[ProgramTask]:
        return [task for task in self.tasks.values() if task.records]

    def _report_pending(self) -> None:
        captured = getattr(self.store, "get_captured_recordings", None)
        if captured is None:
            return
        pending = len(captured())
        if pending:
            self.logger.warning(
                "recordings in the spool, to be processed at the next start: %d", pending
            )


def recording_schedule(duration: float, interval: float) -> ScheduleLike:
    """Return when to ask the recorder: with a pause between recordings, when their slot begins.

    The recorder cuts them from its stream; asked at another time it would
    have the beginning in memory no more.
    """
    if interval <= duration:
        return interval
    return tasks.aligned_schedule(as_schedule(interval).run_every)


_left_out: ContextVar[tuple[object, ...]] = ContextVar("left_out", default=())


@contextmanager
def leaving_out(*components: object) -> Iterator[None]:
    """Let `check_component` skip some components that are checked elsewhere."""
    token = _left_out.set(components)
    try:
        yield
    finally:
        _left_out.reset(token)


def check_component(component: object) -> None:
    """Run the ``check`` of a component, if it has one."""
    if any(component is one for one in _left_out.get()):
        return
    check = getattr(component, "check", None)
    if callable(check):
        check()


def require_folder(folder: Path, option: str) -> None:
    """Create a folder and check that it is writable.

    Raises
    ------
    ConfigurationError
        If it cannot; names the option that asks for it.
    """
    probe = folder / ".acoupi-write-test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f'cannot write to the folder "{folder}".',
            help=f"acoupi config set {option} PATH",
            why=f"{error.strerror or error}",
        ) from error
