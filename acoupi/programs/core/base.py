"""The base of every program: a configuration, and tasks that Celery runs."""

import logging
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar, cast

from celery import Celery, Task
from celery.exceptions import TaskPredicate
from celery.utils.log import get_task_logger
from kombu.exceptions import ChannelError
from pydantic import BaseModel

from acoupi import data
from acoupi.errors import AcoupiError, InvalidProgramError
from acoupi.programs.core.messages import (
    classes_of,
    classes_returned,
    decode,
    encode,
    unknown_class,
    unsendable,
)
from acoupi.programs.core.periodic import ScheduleLike, as_schedule, seconds_between_slots
from acoupi.programs.core.workers import (
    DEFAULT_QUEUE,
    RECORDING_QUEUE,
    RECORDING_TASK,
    SINGLE_WORKER_CONFIG,
    WorkerConfig,
)

__all__ = ["AcoupiProgram", "ProgramConfig", "ProgramTask"]

ProgramConfig = TypeVar("ProgramConfig", bound=BaseModel)

CATCH_UP_SECONDS = 60.0
"""Longest time for which a late task is repeated, seconds."""

_logger = logging.getLogger(__name__)


class ProgramTask(Task):
    """A function of a program as a Celery task.

    Arguments are sent as JSON (see `acoupi.programs.core.messages`). A return
    value other than None is sent to the callbacks; it is not kept as a result.
    Calling the task runs it immediately and sends the callbacks;
    ``task.function`` is the bare function.
    """

    abstract = True
    ignore_result = True
    serializer = "json"

    function: Callable[..., Any]
    classes: Mapping[str, type]
    log: logging.Logger
    home_queue: str | None = None
    """Queue it is sent to by default; None means Celery's default queue."""
    callbacks: list[tuple["ProgramTask", str | None]]
    """The tasks that receive its return value, and the queues they are sent to."""
    outbox: Callable[[Callable[[], None]], None] | None = None
    """Sends return values later, where a worker must not wait for the broker; None: at once."""

    @property
    def records(self) -> bool:
        """Whether it records, as its name or its queue says."""
        return self.name == RECORDING_TASK or self.home_queue == RECORDING_QUEUE

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, send its return value to the callbacks, and return it.

        A function whose ``is_behind()`` is true is run again at once, for a
        minute at most: a recorder whose messages came late or were lost catches
        up with what it still has in memory.

        Raises
        ------
        Exception
            Any error of the function, or of the broker when sending: the task
            then counts as failed. It is logged with the task's name.
        """
        positional = [decode(arg, self.classes) for arg in args]
        named = {name: decode(arg, self.classes) for name, arg in kwargs.items()}
        is_behind = getattr(self.function, "is_behind", None)
        end = data.monotonic() + CATCH_UP_SECONDS
        try:
            while True:
                result = self.function(*positional, **named)
                if self.outbox is None:
                    self.send_to_callbacks(result)
                else:
                    self.outbox(partial(self.send_to_callbacks, result))
                if is_behind is None or not is_behind() or data.monotonic() >= end:
                    break
        except TaskPredicate:  # retry, ignore, reject: not failures
            raise
        except Exception as error:
            # Celery logs the traceback.
            self.log.error('task "%s" failed: %s', self.name, _in_one_line(error))  # noqa: TRY400
            raise
        return result

    def send_to_callbacks(self, result: Any) -> None:
        """Send a result to every callback; None is not sent.

        A callback that cannot be sent does not stop the others.

        Raises
        ------
        Exception
            The broker's error, if any could not be sent.
        """
        if result is None:
            return
        errors = []
        for task, queue in self.callbacks:
            try:
                self._send(task, queue, result)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]

    def _send(self, task: "ProgramTask", queue: str | None, result: Any) -> None:
        """Send a result to a callback, if that can restore it."""
        if why := unknown_class(encode(result), task.classes):
            raise TypeError(f'"{self.name}" cannot send its result to "{task.name}": {why}')
        task.apply_async((result,), queue=queue)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """Send the task to a worker; arguments may be anything that `encode` accepts."""
        if options.get("queue") is None:
            options.pop("queue", None)
            if self.home_queue and not options.keys() & {"exchange", "routing_key"}:
                options["queue"] = self.home_queue
        return super().apply_async(
            [encode(arg) for arg in args or ()],
            {name: encode(arg) for name, arg in (kwargs or {}).items()},
            *rest,
            **options,
        )


class AcoupiProgram(ABC, Generic[ProgramConfig]):
    """What a sensor does: its configuration, its workers and its tasks.

    A program overrides

    - ``config_schema``: the pydantic model of its configuration (required);
    - ``worker_config``: its workers; None means one for everything;
    - `setup`: build components, register tasks with `add_task`;
    - `check`, `on_start`, `on_end`: optional.

    Creating a program touches no disk, network or device, so that its
    schedule can be read on any machine.

    Parameters
    ----------
    program_config
        An instance of ``config_schema``.
    app
        The Celery app that the tasks are registered with. Time limits and
        similar settings belong to it.
    """

    config_schema: type[BaseModel]
    worker_config: ClassVar[WorkerConfig | None] = None
    notice: ClassVar[str] = ""
    """What users should know, such as what a detection means; setup shows it."""

    config: ProgramConfig
    app: Celery
    logger: logging.Logger
    tasks: dict[str, ProgramTask]
    """The tasks by name, callbacks included."""

    def __init__(self, program_config: ProgramConfig, app: Celery) -> None:
        self.config = program_config
        self.app = app
        self.logger = cast("logging.Logger", get_task_logger(type(self).__name__))
        self.tasks = {}
        self.setup(program_config)

    # For programs to override.

    def setup(self, config: ProgramConfig) -> None:
        """Build the components and register the tasks."""

    def check(self, config: ProgramConfig) -> None:
        """Raise `HealthCheckError` if the sensor would not work."""
        self.logger.debug("nothing to check")

    def on_start(self, deployment: data.Deployment) -> None:
        """Prepare for a deployment, before the workers start."""
        self.logger.info('deployment "%s" starts', deployment.name)

    def on_end(self, deployment: data.Deployment) -> None:
        """Finish a deployment, after the workers have stopped."""
        self.logger.info('deployment "%s" ends', deployment.name)

    # Parts of a program.

    @classmethod
    def get_config_schema(cls) -> type[BaseModel]:
        """Return the model of the configuration.

        Raises
        ------
        InvalidProgramError
            If the class declares none.
        """
        schema = getattr(cls, "config_schema", None)
        if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            raise InvalidProgramError(
                cls.__name__,
                f'the program "{cls.__name__}" has no configuration schema.',
                help="set config_schema to a pydantic model in the class body",
                why=f"its config_schema is {schema!r}",
            )
        return schema

    @classmethod
    def get_worker_config(cls) -> WorkerConfig:
        """Return the workers; without a ``worker_config``, one named acoupi for every queue."""
        return cls.worker_config or SINGLE_WORKER_CONFIG

    @classmethod
    def get_queue_names(cls) -> list[str]:
        """Return the queues that workers declare, each once, in their order.

        A worker without queues listens to all, so there Celery's default
        queue is among them; `queues` adds those that tasks were given.
        """
        workers = cls.get_worker_config().workers
        names = [queue for worker in workers for queue in worker.queues]
        if any(not worker.queues for worker in workers):
            names.append(DEFAULT_QUEUE)
        return list(dict.fromkeys(names))

    @property
    def queues(self) -> list[str]:
        """Every queue of this program: those of its workers and those of its tasks."""
        used = [task.home_queue or DEFAULT_QUEUE for task in self.tasks.values()]
        sent = [queue for task in self.tasks.values() for _, queue in task.callbacks if queue]
        return list(dict.fromkeys([*self.get_queue_names(), *used, *sent]))

    # For programs to call.

    def add_task(  # noqa: PLR0917 - published signature
        self,
        function: Callable[[], Any],
        callbacks: Sequence[Callable[[Any], Any]] | None = None,
        schedule: ScheduleLike | None = None,
        queue: str | None = None,
        callback_queue: str | None = None,
        name: str | None = None,
        *,
        acks_late: bool | None = None,
    ) -> None:
        """Register a function as a task.

        Parameters
        ----------
        function
            Takes no arguments. A return value other than None goes to the
            callbacks and must be something that
            `acoupi.programs.core.messages.encode` accepts.
        callbacks
            Functions of one argument, each a task of its own. One function
            may be the callback of several tasks.
        schedule
            How often: seconds, a timedelta, or any Celery schedule. A message
            not started by the next slot is dropped. None: only run on request.
        queue, callback_queue
            Queues of the task and its callbacks; None is the default queue.
        name
            By default the function's. If another function has that name
            already, "_2", "_3"… is added, in the order of registration: names
            are the same in every process.
        acks_late
            Whether a task interrupted by a crash is run again. None: yes, except
            on the recording queue, because missed sound cannot be recorded later.

        Raises
        ------
        ValueError
            If no worker listens to a queue, if `name` was given and is
            another task's, or if the schedule is not longer than 0 s.
        """
        self._require_queue(queue)
        self._require_queue(callback_queue)
        when = None if schedule is None else as_schedule(schedule)
        task = self._register(function, queue, name, acks_late)
        returned = classes_returned(function)
        if callbacks and (what := unsendable(function)):
            _logger.warning(
                "the callbacks of the task %s cannot receive its result, %s", task.name, what
            )
        for callback in callbacks or ():
            receiver = self._register(callback, callback_queue, None, None)
            receiver.classes = {**returned, **receiver.classes}
            entry = (receiver, callback_queue)
            if entry not in task.callbacks:
                task.callbacks.append(entry)
        if when is not None:
            self._add_to_schedule(task, when, queue)

    def add_task_to_queue(self, task_name: str, queue: str) -> None:
        """Send a task to another queue from now on.

        Raises
        ------
        ValueError
            If no worker listens to it.
        """
        self._require_queue(queue)
        routes = dict(self.app.conf.task_routes or {})
        self.app.conf.task_routes = {**routes, task_name: {"queue": queue}}
        if task_name in self.tasks:
            self.tasks[task_name].home_queue = queue

    def count_waiting(self, queue: str) -> int:
        """Return the number of messages waiting in a queue, without those being processed.

        Raises
        ------
        kombu.exceptions.OperationalError
            If the broker does not answer.
        """
        with self.app.connection_for_read() as connection:
            try:
                found = connection.default_channel.queue_declare(queue=queue, passive=True)
            except ChannelError:  # the queue does not exist yet
                return 0
        return int(found.message_count)

    def _require_queue(self, queue: str | None) -> None:
        config = self.get_worker_config()
        declared = self.get_queue_names()
        listens_to_all = any(not worker.queues for worker in config.workers)
        if queue is None or listens_to_all or queue in declared:
            return
        raise ValueError(
            f"no worker of {type(self).__name__} listens to the queue {queue!r}; "
            f"there are {', '.join(map(repr, declared)) or 'none'}"
        )

    def _register(
        self,
        function: Callable[..., Any],
        queue: str | None,
        name: str | None,
        acks_late: bool | None,
    ) -> ProgramTask:
        wanted = name or _name_of(function)
        for task in self.tasks.values():
            same_name = name is None or task.name == name
            if task.function == function and same_name:
                return task
        if name in self.tasks:
            raise ValueError(f"there is already a task named {name!r}")
        kind = type(
            "ProgramTask",
            (ProgramTask,),
            {
                "name": self._free_name(wanted),
                "function": staticmethod(function),
                "classes": classes_of(function),
                "log": self.logger,
                "callbacks": [],
                "acks_late": queue != RECORDING_QUEUE if acks_late is None else acks_late,
                "__doc__": function.__doc__,
                "__module__": getattr(function, "__module__", __name__),
            },
        )
        task = cast("ProgramTask", self.app.register_task(kind()))
        self.tasks[task.name] = task
        if queue is not None:
            self.add_task_to_queue(task.name, queue)
        return task

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.tasks:
            number += 1
            name = f"{wanted}_{number}"
        return name

    def _add_to_schedule(self, task: ProgramTask, when: Any, queue: str | None) -> None:
        entries = dict(self.app.conf.beat_schedule or {})
        key, number = task.name, 1
        while key in entries:
            number += 1
            key = f"{task.name}@{number}"
        options = {"expires": seconds_between_slots(when), "queue": queue or task.home_queue}
        options = {name: value for name, value in options.items() if value is not None}
        entries[key] = {"task": task.name, "schedule": when, "args": (), "options": options}
        self.app.conf.beat_schedule = entries


def _name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, of what a partial calls, or of a callable's class."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _in_one_line(error: Exception) -> str:
    if isinstance(error, AcoupiError):
        return " ".join(filter(None, [error.message, error.why, error.help]))
    return f"{type(error).__name__}: {error}"
