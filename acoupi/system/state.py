"""The state of the sensor, read only from what its services have written.

No component is built, so the microphone is never opened and no server is
contacted; the state of the services does not even need the program.
"""

from contextlib import suppress
from datetime import timedelta
from typing import Literal

from pydantic import Field

from acoupi import clock
from acoupi.audio.files import strange_entries
from acoupi.backlog import recording_ends
from acoupi.commit import is_there
from acoupi.components.stores import SqliteStore
from acoupi.components.stores.database import stores_that_only_read
from acoupi.config.sensor import load_sensor, reading_once
from acoupi.data import AwareDatetime, Deployment, MicrophoneHealth
from acoupi.deferred import DeferredModel
from acoupi.deployed import known_deployed, standby_file
from acoupi.effort import gap_now
from acoupi.errors import AcoupiError
from acoupi.pace import Pace, pace_of
from acoupi.provisioned import read_from_hub, read_provisioned
from acoupi.services.address import masked_url
from acoupi.services.broker import load_celery_settings
from acoupi.services.space_state import SpaceState
from acoupi.stack.settings import Settings
from acoupi.stack.stack import SETUP, is_extra_role
from acoupi.system.alarms import AlarmState, active_alarms
from acoupi.system.backlog import MessagesWaiting, waiting_messages
from acoupi.system.deployments import read_deployment
from acoupi.system.home_files import configured_path, faults_of_files
from acoupi.system.memory import InMemory, in_memory
from acoupi.system.reporting import HubState, hub_state
from acoupi.system.sensor import Sensor
from acoupi.system.space import room_of
from acoupi.system.update_records import update_trouble
from acoupi.targets import ServiceStatus

__all__ = [
    "AcoupiStatus",
    "CeleryStatus",
    "MicrophoneState",
    "ProgramState",
    "ServicesStatus",
    "celery_status",
    "get_celery_status",
    "get_status",
    "microphone_state",
    "program_state",
    "sensor_status",
    "services_status",
    "store_of",
    "stored_deployments",
    "unnamed_deployment",
]


class CeleryStatus(DeferredModel):
    """The state of the workers."""

    state: Literal["ok", "notok", "unavailable"]
    """ok: all are running and reach the broker; notok: some; unavailable: none."""
    workers: list[ServiceStatus] = Field(default_factory=list)
    beat: ServiceStatus | None = None
    others: list[ServiceStatus] = Field(default_factory=list)
    """Services that are no workers, such as the page."""
    broker: str = "embedded"
    """Its URL without the password."""
    waiting: dict[str, int] | None = None
    """Messages in each queue; None: the broker does not answer."""
    message: str | None = None

    @property
    def services(self) -> list[ServiceStatus]:
        """All of them, in the order in which they are shown."""
        return [*self.workers, *([self.beat] if self.beat else []), *self.others]


class ProgramState(DeferredModel):
    """The state of the program."""

    status: Literal["ok", "unhealthy", "error"]
    """unhealthy: a task fails; error: it cannot be loaded or is not configured."""
    program: str | None = None
    """Name of the program, as given to setup."""
    message: str | None = None


class ServicesStatus(DeferredModel):
    """Where the services run."""

    target: str
    acoupi: str
    """State of the workers in systemd's terms: active, inactive, failed, …; or unknown."""
    beat: str
    message: str | None = None


class MicrophoneState(DeferredModel):
    """The state of the microphone, from the last recording and anything that prevents the next."""

    recorded_on: AwareDatetime | None = None
    """When the last measured recording began; None if there is none."""
    health: MicrophoneHealth | None = None
    faults: list[str] = Field(default_factory=list)
    """What is wrong, in words."""
    missing_since: AwareDatetime | None = None
    """Since when recording has been impossible, as the recorder noted; else None."""
    missing_detail: str | None = None
    """Why not."""
    incomplete: str | None = None
    """Why the last recording is shorter than planned."""


class AcoupiStatus(DeferredModel):
    """The state of the sensor."""

    celery: CeleryStatus
    deployment: Deployment | None
    """The running deployment, or None."""
    unnamed: Deployment | None = None
    """The unnamed deployment of recordings made while none was started, or None."""
    program: ProgramState
    services: ServicesStatus
    microphone: MicrophoneState | None = None
    """None until this deployment has a measured recording."""
    analysis: Pace | None = None
    """None if no analysis has started today."""
    messages: list[MessagesWaiting] = Field(default_factory=list)
    """By messenger; empty if the sensor has sent none."""
    hub: HubState | None = None
    """None: the sensor reports to no hub."""
    in_memory: InMemory | None = None
    """Recordings that would be lost in a power cut; None: all wait on the disk."""
    stands_by: bool = False
    """Whether recording was stopped on the page, until a deployment is started."""
    space: SpaceState | None = None
    """The room on its disks; None if there is no disk policy."""
    alarms: list[AlarmState] = Field(default_factory=list)
    """Active alarms, the oldest first; empty if alarms are off."""

    @property
    def is_well(self) -> bool:
        """Whether all services work, no task fails, analysis keeps up and no alarm is active."""
        runs = (self.deployment or self.unnamed) is None or self.celery.state == "ok"
        keeps_up = self.analysis is None or not self.analysis.falls_behind
        has_room = self.space is None or self.space.is_well
        is_well = self.program.status == "ok" and not self.alarms
        return runs and keeps_up and has_room and is_well


def get_celery_status(settings: Settings) -> CeleryStatus:
    """Return the state of the workers; a failing worker does not raise.

    Raises
    ------
    NotConfiguredError
        If there is no sensor in the home.
    """
    return celery_status(Sensor.read(settings))


def celery_status(sensor: Sensor, services: list[ServiceStatus] | None = None) -> CeleryStatus:
    """Return the state of the workers; a failing worker does not raise.

    Parameters
    ----------
    sensor
        The sensor.
    services
        The services as reported by the target; None: ask it.
    """
    services = sensor.target.status() if services is None else services
    workers = [service for service in services if service.role in ("recorder", "worker")]
    beat = next((service for service in services if service.role == "beat"), None)
    # A fault in the sources of a home belongs to its program, not to Celery.
    well = [service.state == "ready" for service in services if service.role != SETUP]
    state: Literal["ok", "notok", "unavailable"] = "notok"
    if not any(worker.is_running for worker in workers):
        state = "unavailable"
    elif all(well):
        state = "ok"
    waiting, message = None, None
    try:
        waiting = sensor.target.count_waiting(sensor.queues)
    except AcoupiError as error:
        message = f"{error.message} {error.why or ''}".strip()
    broker = sensor.target.broker or load_celery_settings(sensor.settings).broker_url
    return CeleryStatus(
        state=state,
        workers=workers,
        beat=beat,
        others=[service for service in services if is_extra_role(service.role)],
        broker=masked_url(broker),
        waiting=waiting,
        message=message,
    )


def program_state(sensor: Sensor, services: list[ServiceStatus] | None = None) -> ProgramState:
    """Return the state of the program from the results of its tasks, without running it.

    Parameters
    ----------
    sensor
        The sensor.
    services
        The services as reported by the target; None: ask it.
    """
    name = None
    try:
        name = sensor.program_name
        if not sensor.target.has_own_python:
            _ = sensor.config  # raises if it is not valid
        services = sensor.target.status() if services is None else services
    except AcoupiError as error:
        return ProgramState(
            status="error", program=name, message=f"{error.message} {error.why or ''}".strip()
        )
    failing = [
        f"{one.name}: {one.last_error}" for one in services if one.last_error and one.role != SETUP
    ]
    with suppress(AcoupiError):  # `faults_of_files` reports it
        config = sensor.settings.program_config_file.parent
        states = (read_provisioned(config), read_from_hub(config))
        failing += filter(None, [one.trouble() for one in states if one])
    failing += faults_of_files(sensor.settings, owns_data=not sensor.target.has_own_python)
    failing += _strange_recordings(sensor.settings)
    with suppress(AcoupiError):  # `acoupi rollback` reports it
        failing += filter(None, [update_trouble(sensor.settings)])
    if failing:
        return ProgramState(status="unhealthy", program=name, message="; ".join(failing))
    return ProgramState(status="ok", program=name)


def _strange_recordings(settings: Settings) -> list[str]:
    """Return anything in the spool that is not a file: a link, a FIFO."""
    spool = configured_path(settings, "paths.tmp_audio")
    if spool is None:
        return []
    return [
        f"{path} is {kind}, not a file, and is ignored" for path, kind in strange_entries(spool)
    ]


def services_status(sensor: Sensor, services: list[ServiceStatus] | None = None) -> ServicesStatus:
    """Return where the services run, and whether they are running."""
    target = sensor.target
    if (units := target.unit_states()) is not None:
        workers_unit, beat_unit, note = units
        return ServicesStatus(target=target.name, acoupi=workers_unit, beat=beat_unit, message=note)
    services = target.status() if services is None else services
    workers = [service for service in services if service.role in ("recorder", "worker")]
    beats = [service for service in services if service.role == "beat"]
    return ServicesStatus(target=target.name, acoupi=_as_unit(workers), beat=_as_unit(beats))


def _as_unit(services: list[ServiceStatus]) -> str:
    """Return the state of some services in one of systemd's terms."""
    if services and all(one.state == "unknown" for one in services):
        return "unknown"
    running = [service.is_running for service in services]
    if running and all(running):
        return "activating" if any(one.state == "starting" for one in services) else "active"
    if any(running) or any(one.state == "restarting" for one in services):
        return "failed"
    return "inactive"


def get_status(settings: Settings) -> AcoupiStatus:
    """Return the state of the sensor; never opens the microphone or contacts a server.

    Raises
    ------
    NotConfiguredError
        If there is no sensor in the home.
    """
    return sensor_status(Sensor.read(settings))


def sensor_status(sensor: Sensor) -> AcoupiStatus:
    """Return the state of a sensor; never opens the microphone or contacts a server."""
    with reading_once(sensor.settings):
        return _status(sensor)


def _status(sensor: Sensor) -> AcoupiStatus:
    services = sensor.target.status()
    deployment = read_deployment(sensor.settings)
    current = deployment if deployment and deployment.ended_on is None else None
    celery = celery_status(sensor, services)
    runs = any(worker.is_running for worker in celery.workers)
    unnamed = unnamed_deployment(sensor.settings) if runs and current is None else None
    return AcoupiStatus(
        celery=celery,
        deployment=current,
        unnamed=unnamed,
        program=program_state(sensor, services),
        services=services_status(sensor, services),
        microphone=microphone_state(sensor.settings, unnamed or deployment),
        analysis=analysis_pace(sensor.settings, unnamed or current),
        messages=waiting_messages(sensor.settings),
        hub=hub_state(sensor.settings),
        in_memory=in_memory(sensor.settings),
        stands_by=is_there(standby_file(sensor.settings.deployment_file)),
        alarms=_alarms(sensor.settings),
        space=room_of(sensor.settings),
    )


def _alarms(settings: Settings) -> list[AlarmState]:
    """Return the active alarms; none if they cannot be read."""
    try:
        return active_alarms(settings)
    except AcoupiError:
        return []  # it is in the worker's log


def analysis_pace(settings: Settings, deployment: Deployment | None) -> Pace | None:
    """Return whether analysis keeps up with recording, from the store of a running deployment."""
    if deployment is None:
        return None
    now = clock.utc_now()
    since = max(deployment.started_on, now - timedelta(days=1))
    try:
        store, backlog = store_of(settings), load_sensor(settings).backlog
        if store is None:
            return None
        progress = store.get_progress(since, waiting_since=deployment.started_on)
        history = store.get_effort(deployment, since=now, until=now)
    except AcoupiError:
        return None  # `program_state` reports it
    plans = history.plans if history else ()
    ends = recording_ends(plans[-1].plan, deployment, now) if plans else None
    pace = pace_of(progress, now, ends)
    if pace is not None and backlog.policy != "none":
        pace.policy, pace.limit_hours = backlog.policy, backlog.limit_hours
    return pace


def stored_deployments(settings: Settings) -> list[Deployment]:
    """Return every deployment in the home or its store, in order of their start.

    If one is in both, the name, place and end of the files are used.

    Raises
    ------
    AcoupiError
        If the store cannot be read.
    """
    store = store_of(settings)
    known = {one.id: one for one in (store.get_deployments() if store else [])}
    for one in known_deployed(settings.deployment_file).every:
        start = known.get(one.id, one).started_on  # the store's may have been corrected
        known[one.id] = one.model_copy(update={"started_on": start})
    return sorted(known.values(), key=lambda one: one.started_on)


def unnamed_deployment(settings: Settings) -> Deployment | None:
    """Return the unnamed deployment of current recordings from the store, or None."""
    try:
        store = store_of(settings)
        return None if store is None else store.get_unnamed_deployment()
    except AcoupiError:
        return None


def store_of(settings: Settings) -> SqliteStore | None:
    """Return the store of the configuration, without the program; None if there is none yet."""
    path = configured_path(settings, "paths.db_metadata")
    if path is None:
        return None
    with stores_that_only_read():
        return SqliteStore(path, deployed=lambda: known_deployed(settings.deployment_file))


def microphone_state(settings: Settings, deployment: Deployment | None) -> MicrophoneState | None:
    """Return the state of the microphone, from the store.

    None if there is no measured recording and nothing prevents recording, or if
    the program does not store its recordings where ``paths.db_metadata`` says.
    """
    if deployment is None:
        return None
    now = clock.utc_now()
    try:
        store = store_of(settings)
        if store is None:
            return None
        recording = store.get_last_recording(deployment)
        history = store.get_effort(deployment, now - timedelta(minutes=15), now)
    except AcoupiError:
        return None  # `program_state` reports it
    state = MicrophoneState()
    if recording is not None and recording.capture and recording.capture.health is not None:
        state.recorded_on, state.health = recording.created_on, recording.capture.health
        state.faults = state.health.faults()
        state.incomplete = recording.capture.incomplete_words
    gap = None if history is None or deployment.ended_on else gap_now(history, now)
    if gap is not None:
        state.missing_since, state.missing_detail = gap.start, gap.detail
        state.faults = [gap.state.value.replace("_", " "), *state.faults]
    return state if state.health or gap else None
