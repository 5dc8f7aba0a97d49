"""What beat sends without Celery is what Celery would send."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from acoupi.services import publisher
from acoupi.services.broker import make_app
from acoupi.services.publisher import open_publisher
from acoupi.services.task_messages import task_message
from acoupi.system import Settings
from tests.services import free_port

CHANGING = {"id", "root_id", "correlation_id", "reply_to", "delivery_tag", "expires", "origin"}


def shape(message: Any) -> Any:
    """A message with the kinds of what differs from one to the next."""
    if isinstance(message, dict):
        return {
            key: type(value) if key in CHANGING else shape(value) for key, value in message.items()
        }
    return message


def only_message(settings: Settings) -> dict[str, Any]:
    (path,) = (settings.run_dir / "broker" / "queues" / "recording").glob("*.msg")
    message: dict[str, Any] = json.loads(path.read_text())
    path.unlink()
    return message


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, "x"), {"deep": True})])
def test_a_message_is_what_celery_sends(settings: Settings, args: Any, kwargs: Any) -> None:
    app = make_app(settings)
    options = {"queue": "recording", "expires": 10.0, "ignore_result": True, "retry": False}
    app.send_task("recording_task", args=args, kwargs=kwargs, **options)
    theirs = only_message(settings)

    ours = task_message("recording_task", args, kwargs, expires=10.0)
    open_publisher(settings, None).send("recording", ours)

    assert shape(only_message(settings)) == shape(theirs)


def test_a_redis_that_is_not_there_is_an_error(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"redis+socket://{tmp_path / 'nobody.sock'}"
    monkeypatch.setenv("ACOUPI_BROKER", url)
    sender = open_publisher(settings, url)

    with pytest.raises(OSError, match="No such file"):
        sender.send("recording", task_message("recording_task", expires=1))


def test_a_redis_that_hangs_is_an_error(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "ANSWER_TIMEOUT", 0.05)
    url = f"redis+socket://{tmp_path / 'redis.sock'}"
    monkeypatch.setenv("ACOUPI_BROKER", url)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "redis.sock"))
        server.listen(5)
        with pytest.raises(OSError, match="timed out"):
            open_publisher(settings, url).send("x", task_message("recording_task", expires=1))


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_elsewhere_that_is_not_there_is_an_error(settings: Settings, scheme: str) -> None:
    sender = open_publisher(settings, f"{scheme}://127.0.0.1:{free_port()}//")

    with pytest.raises(OSError, match="refused"):
        sender.send("recording", task_message("recording_task", expires=1))
    sender.close()


def test_a_broker_elsewhere_that_hangs_is_an_error(settings: Settings) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        sender = open_publisher(settings, f"amqp://127.0.0.1:{server.getsockname()[1]}//")

        with pytest.raises(OSError, match="timed out"):
            sender.send("recording", task_message("recording_task", expires=1))
