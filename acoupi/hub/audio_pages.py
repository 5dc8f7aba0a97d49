"""The pages through which sound comes to a hub, and from it."""

from starlette.routing import Route

from acoupi.hub.parts import Hub

__all__ = ["audio_routes"]


def audio_routes(hub: Hub) -> list[Route]:
    """Return the pages of sound."""
    del hub
    return []
