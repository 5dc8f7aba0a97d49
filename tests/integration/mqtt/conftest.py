"""A broker, and messengers to it that leave nothing behind."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components.messengers import MQTTMessenger
from tests.services import Mosquitto, eventually

Make = Callable[..., MQTTMessenger]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture(autouse=True)
def _service(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACOUPI_SERVICE", "default")
    (home / "config").mkdir(parents=True)
    (home / "config" / "device.json").write_text('{"id": "sensor-7"}')


@pytest.fixture
def make() -> Iterator[Make]:
    """Make messengers that are closed after the test."""
    made: list[MQTTMessenger] = []

    def make(where: Any, **settings: Any) -> MQTTMessenger:
        port = where if isinstance(where, int) else where.port
        host = getattr(where, "host", "localhost")
        made.append(
            MQTTMessenger(**{"host": host, "topic": "acoupi/pond", "port": port, **settings})
        )
        return made[-1]

    yield make
    for messenger in made:
        messenger.close()
    names = ("acoupi-mqtt", "paho-mqtt")
    eventually(
        lambda: not any(thread.name.startswith(names) for thread in threading.enumerate()),
        "the end of all network threads",
    )


def message(content: str | bytes = '{"species": "Myotis"}', **fields: Any) -> data.Message:
    return data.Message(content=content, **fields)
