"""Services that are not workers, declared by entry points of the group ``acoupi.services``.

Each names a function of the settings of a home that returns a `Service`, or
None if the sensor should have none. `extra_service` fills in what all have
in common; what the module of such a service must have is described in
`acoupi.services.serving`.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points

from acoupi.errors import ConfigurationError
from acoupi.stack.mounting import own_environment, own_mounts
from acoupi.stack.settings import Settings
from acoupi.stack.stack import (
    STOP_MARGIN,
    WORKER_MEMORY,
    WORKER_SCORE,
    Limits,
    Mount,
    Port,
    Service,
    Stack,
    check_name,
    own_health,
)

__all__ = ["extra_service", "extra_service_names", "extra_services", "with_extra_services"]

GROUP = "acoupi.services"
SERVING_MODULE = "acoupi.services.serving"


def extra_service(
    settings: Settings,
    name: str,
    module: str,
    *,
    port: Port | None = None,
    network: bool = False,
    mounts: Sequence[Mount] = (),
    memory_bytes: int = WORKER_MEMORY,
) -> Service:
    """Describe a service that is run from a Python module.

    Parameters
    ----------
    settings
        Of the home.
    name
        Its name; also its role, and the name of its container, lock, log and pulse.
    module
        The module, with the functions that `acoupi.services.serving` calls.
    port
        The port on which it listens, or None.
    network
        Whether it connects to other machines.
    mounts
        Mounts in addition to the configuration, its log and its part of ``run/``: ``data/``
        of the home, for instance.
    memory_bytes
        Its limits.

    Raises
    ------
    ConfigurationError
        If the name is not valid.
    """
    check_name(name)
    return Service(
        name=name,
        role=name,
        command=("-m", SERVING_MODULE, name, module),
        concurrency=None,
        network=network,
        port=port,
        environment=own_environment(settings, name),
        mounts=(*own_mounts(settings, name), *mounts),
        health=own_health(settings, name),
        stop_grace=STOP_MARGIN,
        limits=Limits(memory_bytes=memory_bytes, out_of_memory_score=WORKER_SCORE),
    )


def extra_services(settings: Settings) -> tuple[Service, ...]:
    """Return the services that installed packages declare for a home, by name.

    Raises
    ------
    ConfigurationError
        If a declaration cannot be loaded or fails; names it.
    """
    found = [_ask(point, settings) for point in sorted(entry_points(group=GROUP))]
    return tuple(one for one in found if one is not None)


def extra_service_names(settings: Settings) -> list[str]:
    """Return what these services are called; one that cannot be asked is known by its declaration.

    So it is missed where somebody looks for it, and nobody else suffers.
    """
    return [name for point in sorted(entry_points(group=GROUP)) for name in _names(point, settings)]


def _names(point: EntryPoint, settings: Settings) -> list[str]:
    try:
        service = _ask(point, settings)
    except ConfigurationError:
        return [point.name]
    return [] if service is None else [service.name]


def _ask(point: EntryPoint, settings: Settings) -> Service | None:
    try:
        service = point.load()(settings)
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        package = point.dist.name if point.dist else "PACKAGE"
        words = " ".join(str(error).split()).rstrip(".")
        raise ConfigurationError(
            f'the service "{point.name}" cannot be set up.',
            f"python -m pip uninstall {package}   (or a version of it that works)",
            why=f"{point.value} failed: {type(error).__name__}: {words}.",
        ) from error
    if service is None or isinstance(service, Service):
        return service
    raise ConfigurationError(
        f'the service "{point.name}" cannot be set up.',
        "return acoupi.stack.stack.Service or None from it",
        why=f"{point.value} returned {type(service).__name__}.",
    )


def with_extra_services(stack: Stack, settings: Settings) -> Stack:
    """Return a stack with the services that installed packages declare.

    Raises
    ------
    ConfigurationError
        If one cannot be loaded, or two services share a name or a port.
    """
    extras = extra_services(settings)
    services = (*stack.services, *extras)
    for kind, values in (
        ("name", [one.name for one in services]),
        ("port", [str(one.port.number) for one in services if one.port]),
    ):
        double = next((one for one in values if values.count(one) > 1), None)
        if double is not None:
            raise ConfigurationError(
                f'two services have the {kind} "{double}".',
                f"give one of them another {kind}",
                why=f"the entry points {GROUP} declare {', '.join(one.name for one in extras)}.",
            )
    return replace(stack, services=services)
