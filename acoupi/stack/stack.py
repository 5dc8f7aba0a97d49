"""The stack: the one description of what runs, which every target adapts and renders.

`stack_for` is pure: it asks neither the disk nor the clock, so a stack can be
compared, rendered and tested without anything running.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from acoupi.errors import ConfigurationError
from acoupi.programs.core.workers import (
    DEFAULT_QUEUE,
    DETECTION_QUEUE,
    RECORDING_QUEUE,
    RECORDING_TASK,
    AcoupiWorker,
    Pool,
    WorkerConfig,
)
from acoupi.stack.access import Mount
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.mounting import Surroundings, own_environment, own_mounts
from acoupi.stack.rights import (
    can_withhold_secrets,
    names_server,
    secret_names,
    sends_to_server,
)
from acoupi.stack.settings import BEAT, BROKER, Settings

if TYPE_CHECKING:
    from acoupi.programs import AcoupiProgram

__all__ = [
    "BEAT",
    "BROKER",
    "SETUP",
    "Broker",
    "HealthCheck",
    "Limits",
    "Mount",
    "Role",
    "Service",
    "Stack",
    "check_name",
    "is_extra_role",
    "is_sound_worker",
    "own_health",
    "recording_queue_of",
    "service_command",
    "stack_for",
    "stack_of_program",
    "without_models",
]

Role = str
"""recorder, worker, beat, broker, setup, or the role of another service."""
WORKER_ROLES = ("recorder", "worker")

SETUP = "setup"
"""The service that sets a home up by itself."""
_KNOWN_ROLES = (*WORKER_ROLES, "beat", "broker", SETUP)
WORKER_MODULE = "acoupi.system.celery.worker"
BEAT_MODULE = "acoupi.system.celery.beat"
SOUND_DEVICE = "/dev/snd"
SOUND_GROUP = "audio"
SAMPLES_ARRIVE = '"last_error":null'
"""In the pulse of a recorder: its last recording did not fail."""
STOP_MARGIN = 10.0
"""Seconds a service is given to end beyond its longest task."""
WORKER_STOP_GRACE = 30.0
"""Seconds for a worker that does not record: unfinished tasks are done again."""
RECORDER_STOP_GRACE = 60.0
"""Seconds for a recorder whose recordings have no known duration."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_RESERVED = (BEAT, BROKER, "broker", SETUP)

MEBIBYTE = 1024 * 1024
RECORDER_MEMORY = 512 * MEBIBYTE
MODEL_MEMORY = 1024 * MEBIBYTE
WORKER_MEMORY = 384 * MEBIBYTE
BEAT_MEMORY = 128 * MEBIBYTE
"""Default memory limit of a service, bytes: several times what it needs."""
RECORDER_SCORE, BEAT_SCORE, WORKER_SCORE, MODEL_SCORE = 0, 200, 400, 800
"""Order of killing when memory runs out: models first, the recorder last.

None is negative: only an engine with CAP_SYS_RESOURCE starts such a container.
"""
RECORDER_SHARES, BEAT_SHARES, WORKER_SHARES, MODEL_SHARES = 4096, 2048, 1024, 256
"""Share of the processor when several want it: a model must not starve the recorder."""


@dataclass(frozen=True)
class HealthCheck:
    """The file of a healthy service: recent, and with the state ready."""

    pulse: Path
    words: str = ""
    """Text that must also be in it, after that."""


@dataclass(frozen=True)
class Limits:
    """Limits of a service; None is no limit."""

    memory_bytes: int | None = None
    out_of_memory_score: int = 0
    """-1000 to 1000: order of killing when memory runs out; the highest goes first."""
    cpu_shares: int = WORKER_SHARES
    """2 to 262144: its share of the processor under contention."""


@dataclass(frozen=True)
class Port:
    """Where a service listens."""

    number: int
    address: str = "127.0.0.1"
    """Address of this machine to listen on; containers listen on all of their own."""


@dataclass(frozen=True)
class Broker:
    """The broker, which carries the wake-ups."""

    kind: Literal["embedded", "external", "service"]
    url: str | None
    """None for the embedded one and for a service, whose URL its target knows."""


@dataclass(frozen=True)
class Service:
    """One process (or container) that a target keeps running."""

    name: str
    role: Role
    command: tuple[str, ...]
    """After the interpreter: ``("-m", module, ...)``; unchanged for the broker."""
    queues: tuple[str, ...] = ()
    concurrency: int | None = 1
    """Tasks at once; None: one for each core of the machine that runs it."""
    pool: Pool | None = None
    devices: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    network: bool = False
    """Whether it connects to anything but the broker."""
    port: Port | None = None
    secrets: bool = False
    """Whether it gets the secrets of the configuration."""
    environment: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    health: HealthCheck | None = None
    stop_grace: float = WORKER_STOP_GRACE
    """Seconds from being asked to stop to being killed."""
    limits: Limits = field(default_factory=Limits)

    @property
    def is_worker(self) -> bool:
        """Whether it runs tasks."""
        return self.role in WORKER_ROLES

    @property
    def is_extra(self) -> bool:
        """Whether it is neither a worker nor one that every sensor has; see `is_extra_role`."""
        return is_extra_role(self.role)


@dataclass(frozen=True)
class Stack:
    """Everything that runs for one sensor."""

    program: str
    services: tuple[Service, ...]
    broker: Broker
    secrets: tuple[str, ...] = ()
    """Names of the secrets in the configuration, never their values."""
    result_queues: tuple[str, ...] | None = None
    """Queues of results of tasks that do not record; None: unknown."""
    config: BaseModel | None = field(default=None, compare=False, repr=False)
    """Configuration of the program, for targets that must carry it elsewhere."""
    sensor: BaseModel | None = field(default=None, compare=False, repr=False)
    """The same for the sensor's own settings; None: all defaults."""

    @property
    def workers(self) -> tuple[Service, ...]:
        """The services that run tasks, in the order of the program."""
        return tuple(service for service in self.services if service.is_worker)

    @property
    def extras(self) -> tuple[Service, ...]:
        """The services that are neither workers nor ones that every sensor has."""
        return tuple(service for service in self.services if service.is_extra)

    @property
    def recorder(self) -> Service | None:
        """The one service that may touch the sound device; None: nothing records."""
        return next((service for service in self.services if service.role == "recorder"), None)

    @property
    def beat(self) -> Service:
        """The service that sends the periodic tasks."""
        return self.service(BEAT)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all services, in order."""
        return tuple(service.name for service in self.services)

    def service(self, name: str) -> Service:
        """Return the service of that name.

        Raises
        ------
        ConfigurationError
            If there is none; the error lists the services.
        """
        for service in self.services:
            if service.name == name:
                return service
        raise ConfigurationError(
            f'there is no service "{name}".',
            f"one of: {', '.join(self.names)}",
            why=f"the program {self.program} runs as {', '.join(self.names)}.",
        )


def is_extra_role(role: str) -> bool:
    """Return whether a role is that of a service which not every sensor has.

    Examples
    --------
    >>> is_extra_role("web"), is_extra_role("beat")
    (True, False)
    """
    return role not in _KNOWN_ROLES


def service_command(name: str) -> tuple[str, ...]:
    """Return the command line of an acoupi service, after the interpreter.

    Examples
    --------
    >>> service_command("recording")
    ('-m', 'acoupi.system.celery.worker', 'recording')
    >>> service_command("beat")
    ('-m', 'acoupi.system.celery.beat')
    """
    return ("-m", BEAT_MODULE) if name == BEAT else ("-m", WORKER_MODULE, name)


def stack_for(
    program_class: "type[AcoupiProgram[Any]]",
    config: BaseModel | None,
    settings: Settings,
    *,
    celery: CelerySettings | None = None,
    program_name: str | None = None,
    queues: Sequence[str] | None = None,
    recording_queue: str | None = RECORDING_QUEUE,
    sends: bool | None = None,
) -> Stack:
    """Describe the services of a program.

    Parameters
    ----------
    program_class
        Its workers become the services; its recorder is the worker that
        listens to `recording_queue`.
    config
        Its paths outside the home become mounts, its secrets are named, and the recorder gets
        the length of a recording as time to stop. May be None.
    settings
        Where the home is; nothing there is read.
    celery
        Where the broker is; None: the embedded one.
    program_name
        As the user gave it; None: the module of the class.
    queues
        Every queue of the program, for a worker that names none and so
        listens to all. None: those that its workers name.
    recording_queue
        The queue of the recording task; None: the program does not record.
    sends
        Whether the program sends messages to servers; None: it does if its
        configuration names one (`names_server`). Only then has a worker a network.

    Raises
    ------
    ConfigurationError
        If two workers, or one with a concurrency other than 1, would record;
        if none would; if a name cannot name a file.
    """
    celery = celery or CelerySettings()
    workers = _workers(program_class)
    every = tuple(queues if queues is not None else program_class.get_queue_names())
    listens = {worker.name: tuple(worker.queues) or every for worker in workers}
    recorder = _find_recorder(program_class, workers, listens, recording_queue)
    sends = names_server(config) if sends is None else sends
    can_withhold = can_withhold_secrets(config)
    around = Surroundings.of(
        listens, config, settings, recorder=recorder, recording_queue=recording_queue
    )
    others_send = any(worker.network for worker in workers)
    services = [
        _worker_service(
            worker,
            tuple(dict.fromkeys(listens[worker.name])),
            records=worker.name == recorder,
            config=config,
            settings=settings,
            around=around,
            sends=sends,
            can_withhold=can_withhold,
            others_send=others_send,
        )
        for worker in workers
    ]
    return Stack(
        program=program_name or program_class.__module__,
        services=(*services, _beat_service(settings)),
        broker=Broker("external", celery.broker_url)
        if celery.broker_url
        else Broker("embedded", None),
        secrets=tuple(secret_names(config)),
        config=config,
    )


def recording_queue_of(program: "AcoupiProgram[Any]") -> str | None:
    """Return the queue of a program's recording task; None if the program does not record.

    A task counts as that by its name, ``recording_task``, or by being sent
    to the queue ``recording``.
    """
    tasks = program.tasks.values()
    for task in tasks:
        if task.name == RECORDING_TASK:
            return task.home_queue or DEFAULT_QUEUE
    return RECORDING_QUEUE if any(task.home_queue == RECORDING_QUEUE for task in tasks) else None


def stack_of_program(
    program: "AcoupiProgram[Any]",
    settings: Settings,
    celery: CelerySettings,
    program_name: str,
    *,
    calls_server: bool = False,
) -> Stack:
    """Describe the services of a program that has been built; see `stack_for`.

    Parameters
    ----------
    calls_server
        Whether the sensor itself calls a server, whatever the program sends.
    """
    stack = stack_for(
        type(program),
        program.config,
        settings,
        celery=celery,
        program_name=program_name,
        queues=program.queues,
        recording_queue=recording_queue_of(program),
        sends=calls_server or sends_to_server(program),
    )
    stack = replace(stack, result_queues=_result_queues(program))
    return without_models(stack) if getattr(program, "leaves_models_out", False) else stack


def without_models(stack: Stack) -> Stack:
    """Return a stack without the workers that only run models, which then run elsewhere."""
    if not any(DEFAULT_QUEUE in one.queues for one in stack.services):
        return stack  # no other worker could note which recordings are left to the hub
    services = [
        one for one in stack.services if one.role != "worker" or one.queues != (DETECTION_QUEUE,)
    ]
    return replace(stack, services=tuple(services))


def _result_queues(program: "AcoupiProgram[Any]") -> tuple[str, ...] | None:
    """Return the queues of results other than recordings; None if the program has Celery tasks."""
    known = {name for name in program.app.tasks if not name.startswith("celery.")}
    if known - set(program.tasks):
        return None
    sent = [
        queue or receiver.home_queue or DEFAULT_QUEUE
        for task in program.tasks.values()
        if not task.records
        for receiver, queue in task.callbacks
    ]
    return tuple(dict.fromkeys(sent))


def is_sound_worker(service: Service) -> bool:
    """Return whether a service is granted the sound device."""
    return SOUND_DEVICE in service.devices


def _workers(program_class: "type[AcoupiProgram[Any]]") -> list[AcoupiWorker]:
    config: WorkerConfig = program_class.get_worker_config()
    workers = list(config.workers)
    if not workers:
        raise ConfigurationError(
            f"the program {program_class.__name__} has no worker.",
            f"give {program_class.__name__}.worker_config at least one AcoupiWorker",
            why="its worker_config is empty, so nothing would run its tasks.",
        )
    for worker in workers:
        check_name(worker.name)
        for queue in worker.queues:
            _check_queue(worker.name, queue)
    names = [worker.name for worker in workers]
    if len(set(names)) != len(names):
        raise ConfigurationError(
            f"two workers have one name: {', '.join(names)}.",
            "give each AcoupiWorker a name of its own",
            why="its name is the name of its lock, its log and its container.",
        )
    return workers


def check_name(name: str) -> None:
    """Raise unless a worker may have this name.

    Raises
    ------
    ConfigurationError
        With the allowed characters.
    """
    if not _NAME.match(name) or name in _RESERVED:
        raise ConfigurationError(
            f'a worker cannot be called "{name}".',
            'AcoupiWorker(name="detection", ...)',
            why="its name names files and containers: letters, digits, - and _, "
            f"at most 63, and not {' or '.join(_RESERVED)}.",
        )


def _check_queue(worker: str, queue: str) -> None:
    if not _QUEUE.match(queue):
        raise ConfigurationError(
            f'the worker {worker} cannot listen to the queue "{queue}".',
            'AcoupiWorker(queues=["detection"], ...)',
            why="the name of a queue is made of letters, digits, dots, - and _, at most 100.",
        )


def _find_recorder(
    program_class: "type[AcoupiProgram[Any]]",
    workers: list[AcoupiWorker],
    queues: dict[str, tuple[str, ...]],
    recording_queue: str | None,
) -> str | None:
    """Return the name of the worker that records."""
    if recording_queue is None:
        return None
    listening = [
        worker for worker in workers if not worker.queues or recording_queue in queues[worker.name]
    ]
    name = program_class.__name__
    if not listening:
        if recording_queue == RECORDING_QUEUE:
            return None  # a program that records nothing
        raise ConfigurationError(
            f'no worker of {name} listens to "{recording_queue}", the queue of its recording task.',
            f'add "{recording_queue}" to the queues of one AcoupiWorker',
            why=f"its workers listen to {', '.join(sorted(_union(queues)))}.",
        )
    if len(listening) > 1:
        raise ConfigurationError(
            f'{len(listening)} workers of {name} would record: "'
            + '" and "'.join(worker.name for worker in listening)
            + '".',
            f'leave "{recording_queue}" in the queues of one of them only',
            why="only one process can own the microphone, and each of them listens to "
            f'the queue of the recording task, "{recording_queue}".',
        )
    if listening[0].concurrency not in (None, 1):
        raise ConfigurationError(
            f'the worker "{listening[0].name}" of {name} would make '
            f"{listening[0].concurrency} recordings at once.",
            f'AcoupiWorker(name="{listening[0].name}", concurrency=1, ...)',
            why="there is one microphone, so the worker of the recording task "
            "must have a concurrency of 1.",
        )
    return listening[0].name


def _union(queues: dict[str, tuple[str, ...]]) -> set[str]:
    return {queue for some in queues.values() for queue in some}


def _worker_service(
    worker: AcoupiWorker,
    queues: tuple[str, ...],
    *,
    records: bool,
    config: BaseModel | None,
    settings: Settings,
    around: Surroundings,
    sends: bool,
    can_withhold: bool,
    others_send: bool,
) -> Service:
    runs_model = DETECTION_QUEUE in queues and not records
    pool = worker.pool or ("prefork" if runs_model else "threads")
    network = sends and DEFAULT_QUEUE in queues if worker.network is None else worker.network
    runs_hooks = DEFAULT_QUEUE in queues and not others_send
    needs_secrets = network or runs_hooks or not can_withhold
    score, memory, shares = WORKER_SCORE, WORKER_MEMORY, WORKER_SHARES
    if records:
        score, memory, shares = RECORDER_SCORE, RECORDER_MEMORY, RECORDER_SHARES
    elif runs_model:
        score, shares = MODEL_SCORE, MODEL_SHARES
    if DETECTION_QUEUE in queues:
        memory = MODEL_MEMORY
    return Service(
        name=worker.name,
        role="recorder" if records else "worker",
        command=service_command(worker.name),
        queues=queues,
        concurrency=1 if records else worker.concurrency,
        pool=pool,
        devices=(SOUND_DEVICE,) if records else (),
        groups=(SOUND_GROUP,) if records else (),
        network=network,
        secrets=needs_secrets if worker.secrets is None else worker.secrets,
        environment=own_environment(settings, worker.name),
        mounts=around.mounts(worker.name, queues, records=records, network=network),
        health=own_health(settings, worker.name, SAMPLES_ARRIVE if records else ""),
        stop_grace=_recorder_grace(config) if records else WORKER_STOP_GRACE,
        limits=Limits(worker.memory_bytes or memory, score, shares),
    )


def _beat_service(settings: Settings) -> Service:
    return Service(
        name=BEAT,
        role="beat",
        command=service_command(BEAT),
        environment=own_environment(settings, BEAT),
        mounts=own_mounts(settings, BEAT),
        health=own_health(settings, BEAT),
        stop_grace=STOP_MARGIN,
        limits=Limits(BEAT_MEMORY, BEAT_SCORE, BEAT_SHARES),
    )


def own_health(settings: Settings, name: str, words: str = "") -> HealthCheck:
    """Return where the pulse of a service is in its container."""
    return HealthCheck(settings.of_service(name).run_dir / f"{name}.json", words)


def _recorder_grace(config: BaseModel | None) -> float:
    """Return how long a recording in progress may take to finish, seconds."""
    duration = getattr(getattr(config, "recording", None), "duration", None)
    if not isinstance(duration, int | float) or duration <= 0:
        return RECORDER_STOP_GRACE
    return float(duration) + STOP_MARGIN
