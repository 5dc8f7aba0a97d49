"""The servers that the sensor sends to, and the link to them: those of the fleet simulation."""

import asyncio
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "fleet.d"))

from accounting import Arrival, Created, Tally, account
from links import Link
from sensors import Sensor, SensorError, end_processes
from servers import TOPIC, digest, http_server, mqtt_broker

__all__ = [
    "TOPIC", "Arrival", "Created", "Sensor", "SensorError", "Servers", "Tally", "account",
    "digest", "end_processes", "serving",
]  # fmt: skip


class Servers:
    """What they got, and the link."""

    def __init__(self, ports: dict[str, int], arrivals: list[Arrival]) -> None:
        self.arrivals = arrivals
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.link = Link(ports)
        self._do(self.link.up())

    @property
    def ports(self) -> dict[str, int]:
        """Of the link, by transport."""
        return self.link.ports

    def down(self, kind: str) -> None:
        """Let the link drop."""
        self._do(self.link.down(kind))

    def up(self) -> None:
        """Let all pass again."""
        self._do(self.link.up())

    def close(self) -> None:
        """Close the link."""
        self._do(self.link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)


@contextmanager
def serving(folder: Path) -> Iterator[Servers]:
    """Run an HTTP server and an MQTT broker with a consumer."""
    arrivals: list[Arrival] = []
    with ExitStack() as stack:
        ports = {
            "http": stack.enter_context(http_server(arrivals.append)),
            "mqtt": stack.enter_context(mqtt_broker(folder / "mosquitto", arrivals.append)),
        }
        servers = Servers(ports, arrivals)
        stack.callback(servers.close)
        yield servers
