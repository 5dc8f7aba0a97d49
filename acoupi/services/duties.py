"""The tasks that a worker may run: those of its own queues, whoever orders them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from acoupi.programs import AcoupiProgram
from acoupi.programs.core.base import ProgramTask
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.stack.doors import door_keeper
from acoupi.stack.stack import Service, Stack

__all__ = ["Duties", "duties_of", "kept_tasks"]

LOOKING = frozenset({"alarms_task", "metrics_task", "home_assistant_task"})
"""Tasks by which a sensor looks after itself; see `acoupi.services.sensor_tasks`."""
TELLING = LOOKING | {"send_messages_task"}

CELERYS_OWN = "celery."
"""Prefix of Celery's own tasks, some of which run any other task that a message names."""


@dataclass(frozen=True)
class Duties:
    """The tasks of one worker.

    Parameters
    ----------
    served
        The tasks that it runs. An order for any other is put aside: in another worker's queue
        it would need rights that the sender does not have.
    periodic
        Tasks that beat orders and that could run twice at once.
    """

    served: frozenset[str]
    periodic: frozenset[str]


def duties_of(program: AcoupiProgram[Any], service: Service) -> Duties:
    """Return the tasks that a worker runs."""
    of_task = _queues_of_tasks(program)
    served = frozenset(name for name, own in of_task.items() if own & set(service.queues))
    if service.concurrency == 1:  # nothing runs twice; a waiting order is the next slot
        return Duties(served, frozenset())
    scheduled = (program.app.conf.beat_schedule or {}).values()
    return Duties(served, frozenset(entry["task"] for entry in scheduled))


def kept_tasks(
    program: AcoupiProgram[Any], service: Service, stack: Stack
) -> Sequence[ProgramTask]:
    """Return the tasks that a worker runs even if no order for them comes.

    The recorder records; the worker that looks for faults does so and reports them, because a
    broker or beat that is down is itself a fault.
    """
    if service.role == "recorder":
        return [task for task in program.tasks.values() if task.records]
    looks = not LOOKING.isdisjoint(program.tasks) and service == door_keeper(stack)
    return [task for task in program.tasks.values() if looks and task.name in TELLING]


def _queues_of_tasks(program: AcoupiProgram[Any]) -> dict[str, set[str]]:
    """Return the queues to which the program sends each task."""
    app = program.app
    found = {name: {task.home_queue or DEFAULT_QUEUE} for name, task in program.tasks.items()}
    for task in program.tasks.values():
        for receiver, queue in task.callbacks:
            found[receiver.name].add(queue or receiver.home_queue or DEFAULT_QUEUE)
    for name, task in app.tasks.items():  # a program may register some with Celery itself
        if not name.startswith(CELERYS_OWN) and name not in found:
            found[name] = {_route(app, name) or getattr(task, "queue", None) or DEFAULT_QUEUE}
    for entry in (app.conf.beat_schedule or {}).values():
        if entry["task"] in found and (queue := (entry.get("options") or {}).get("queue")):
            found[entry["task"]].add(queue)
    return found


def _route(app: Celery, name: str) -> str | None:
    routes = app.conf.task_routes
    route = routes.get(name) if isinstance(routes, dict) else None
    return route.get("queue") if isinstance(route, dict) else None
