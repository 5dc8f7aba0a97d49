"""Live sound of a recorder for the web page."""

from collections.abc import Iterator
from contextlib import contextmanager

from acoupi.config.web import Web
from acoupi.stack.doors import WEB
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service

__all__ = ["showing"]


@contextmanager
def showing(service: Service, settings: Settings, web: Web) -> Iterator[None]:
    """Let the page show a recorder's sound while it is running.

    Sound in which speech could be understood is sent only if the settings allow it; the recorder
    reads them itself, whatever the page requests.
    """
    if service.role != "recorder" or not web.enabled:
        yield
        return
    # Only recorders need it.
    from acoupi.audio.live import LiveThread  # noqa: PLC0415
    from acoupi.audio.live_ring import COLUMNS, SOUND, live_folder  # noqa: PLC0415

    names = (COLUMNS,) if web.live_audio == "nobody" else (COLUMNS, SOUND)
    rings, marks = (live_folder(settings.home, name) for name in (service.name, WEB))
    live = LiveThread({rings / name: marks / name for name in names})
    live.start()
    try:
        yield
    finally:
        live.stop()
