"""The HTTP endpoint from which sensors get their settings.

``GET /v1/settings`` returns an `acoupi.offers.Envelope` with the settings of the sensor that asks.
"""

import threading

from starlette.responses import Response
from starlette.routing import Route

from acoupi import data
from acoupi.errors import ConfigurationError, HubError
from acoupi.hub.asking import Asked, page
from acoupi.hub.database import HubDatabase
from acoupi.hub.fleet_settings import hub_key
from acoupi.hub.fleet_trial import advance
from acoupi.hub.parts import Hub
from acoupi.offers import Envelope

__all__ = ["envelope_of", "fleet_routes"]

LOOK_EVERY = 2.0
"""Seconds between two looks at all that sensors reported."""

_CURRENT = """
    SELECT d.state, d.document, d.signature, d.undo_document, d.undo_signature
    FROM fleet_document d JOIN sensor s ON s.row = d.sensor_row
    WHERE s.id = :sensor AND d.state <> 'waiting' ORDER BY d.number DESC LIMIT 1
"""


def fleet_routes(hub: Hub) -> list[Route]:
    """Return the pages of settings."""
    look = _Look()

    def settings(asked: Asked) -> Response:
        look.advance(asked.hub.database)
        envelope = envelope_of(asked.hub.database, asked.caller.name)
        return Response(envelope.model_dump_json(), media_type="application/json")

    return [page(hub, "/v1/settings", settings, allowed=("sensor",))]


class _Look:
    """Lets one request now and then do the work for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due = 0.0

    def advance(self, database: HubDatabase) -> None:
        with self._lock:
            now = data.monotonic()
            if now < self._due:
                return
            self._due = now + LOOK_EVERY
        advance(database, data.utc_now())


def envelope_of(database: HubDatabase, sensor: str) -> Envelope:
    """Return the settings of a sensor.

    Raises
    ------
    HubError
        If the stored settings were not signed by the hub's key, or for another sensor.
    """
    with database.writing() as connection:  # which is open anyway
        key = hub_key(connection)
        found = connection.execute(_CURRENT, {"sensor": sensor}).fetchone()
    if found is None:
        return Envelope(document="", signature="", confirmed=True)
    state, document, signature, undo, undo_signature = found
    if state == "undone":
        document, signature = undo, undo_signature
    envelope = Envelope(document=document, signature=signature, confirmed=state != "offered")
    try:
        envelope.opened(key or "", sensor)
    except ConfigurationError as error:
        raise HubError(
            f"the settings for {sensor} are withheld: {error.why}", error.help, why=error.why
        ) from error
    return envelope
