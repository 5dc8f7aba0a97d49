"""Which services may not write the stores, and which one keeps them."""

from acoupi.programs.core.workers import DEFAULT_QUEUE, DETECTION_QUEUE
from acoupi.stack.stack import Service, Stack

__all__ = ["MODEL", "WEB", "door_keeper", "door_roles", "healer_of", "only_runs_models"]

MODEL = "model"
"""Role at the door of a worker that runs a model."""
WEB = "web"
"""Role at the door of the page; also its name, and its role in the stack."""


def door_keeper(stack: Stack) -> Service | None:
    """Return the worker that keeps the stores and answers at every door; None: there is none.

    It is the first that serves the default queue.
    """
    return next((one for one in stack.workers if DEFAULT_QUEUE in one.queues), None)


def healer_of(stack: Stack) -> Service | None:
    """Return the worker that heals the stores: the one that keeps them, else the first."""
    return door_keeper(stack) or next(iter(stack.workers), None)


def door_roles(stack: Stack) -> dict[str, str]:
    """Return the services that reach the stores only through a door, with their roles.

    These are the workers that run models, and the page. Without a worker of the default queue
    nothing would answer them, and there are none.
    """
    if door_keeper(stack) is None:
        return {}
    models = {one.name: MODEL for one in stack.workers if only_runs_models(one)}
    return models | {one.name: WEB for one in stack.extras if one.role == WEB}


def only_runs_models(service: Service) -> bool:
    """Return whether a service is a worker that runs models, and neither records nor tidies up."""
    return (
        service.role == "worker"
        and DETECTION_QUEUE in service.queues
        and DEFAULT_QUEUE not in service.queues
    )
