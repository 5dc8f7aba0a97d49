"""The page of the sensor as a service, and its effect on the worker behind its door."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from acoupi.audio.live_ring import live_folder
from acoupi.config.web import Web
from acoupi.door.folders import door_folder, waiting_folder
from acoupi.errors import ConfigurationError
from acoupi.stack.access import Mount
from acoupi.stack.doors import WEB, door_keeper
from acoupi.stack.extra_services import extra_service
from acoupi.stack.settings import Settings
from acoupi.stack.stack import MEBIBYTE, Port, Service, Stack

__all__ = ["check_libraries", "check_reach", "is_contained", "keys_file", "with_web"]

MODULE = "acoupi.web"
LIBRARIES = ("markdown_it", "starlette", "uvicorn")
"""What the page imports beside acoupi's own dependencies: the extra ``web``."""
MEMORY = 128 * MEBIBYTE


def with_web(stack: Stack, settings: Settings, web: Web) -> Stack:
    """Return a stack with the page, if it is on.

    Raises
    ------
    ConfigurationError
        If no worker could answer it.
    """
    if not web.enabled:
        return stack
    keeper = door_keeper(stack)
    if keeper is None:
        raise ConfigurationError(
            "the page cannot be served.",
            "--sensor.web.enabled false",
            why=f"no worker of {stack.program} serves the default queue, and one that does answers "
            "what the page asks.",
        )
    others = [one.name for one in stack.services if one is not keeper]
    behind = replace(keeper, mounts=tuple(_behind_the_door(settings, keeper, others)))
    services = [behind if one is keeper else one for one in stack.services]
    page = _service(settings, web)
    return _with_live(replace(stack, services=(*services, page)), settings)


def _with_live(stack: Stack, settings: Settings) -> Stack:
    """Let the page read the recorder's live data, and the recorder see that someone is watching.

    Each writes a folder of its own, and reads that of the other: see `acoupi.audio.live_ring`.
    """
    recorder = stack.recorder
    if recorder is None:
        return stack
    pair = (recorder.name, WEB)
    services = (
        replace(one, mounts=(*one.mounts, *_live_mounts(settings.home, one.name, pair)))
        if one.name in pair
        else one
        for one in stack.services
    )
    return replace(stack, services=tuple(services))


def _live_mounts(home: Path, name: str, pair: Iterable[str]) -> Iterator[Mount]:
    """Yield the folders of two services that show and watch, as one of them sees them."""
    for other in pair:
        yield Mount(live_folder(home, other), read_only=other != name)


def is_contained(settings: Settings) -> bool:
    """Return whether this service is in a container, where it has a part of ``run/`` of its own."""
    return settings.run_dir.name == os.environ.get("ACOUPI_SERVICE")


def keys_file(settings: Settings) -> Path:
    """Return the file with the digests of the page's token and password."""
    return settings.program_config_file.with_name("page.json")


def check_libraries(web: Web) -> None:
    """Raise if the page is on and cannot be served by this Python.

    Raises
    ------
    ConfigurationError
        With what to install.
    """
    missing = [name for name in LIBRARIES if web.enabled and find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            "the page cannot be served here.",
            'pip install "acoupi[web]"',
            why=f"it needs the library {missing[0]}, which is not installed.",
        )


def check_reach(web: Web, *, has_keys: bool) -> None:
    """Raise if the page would be open to the world and nobody could log in.

    Raises
    ------
    ConfigurationError
        With what to do.
    """
    if web.enabled and not web.is_local and not has_keys:
        raise ConfigurationError(
            f"the page is not served at {web.host} without a password.",
            "acoupi web token   (then log in, and choose a password)",
            why="everyone in the network could reach it, and nobody could log in.",
        )


def _service(settings: Settings, web: Web) -> Service:
    home = settings.home
    service = extra_service(
        settings,
        WEB,
        MODULE,
        port=Port(web.port, web.host),
        mounts=(
            Mount(door_folder(home / "run", WEB), read_only=True),
            Mount(waiting_folder(home, WEB)),
        ),
        memory_bytes=MEMORY,
    )
    return replace(service, command=("-m", MODULE))


def _behind_the_door(settings: Settings, keeper: Service, others: Iterable[str]) -> Iterable[Mount]:
    """Yield what the worker that answers sees: it writes settings, and reads how others are."""
    home, config = settings.home, settings.program_config_file.parent
    for one in keeper.mounts:
        yield replace(one, read_only=False) if one.source == config else one
    yield Mount(door_folder(home / "run", WEB))
    yield Mount(waiting_folder(home, WEB))
    for name in others:
        own = settings.of_service(name)
        yield Mount(own.log_dir, read_only=True)
        yield Mount(own.run_dir, read_only=True)
