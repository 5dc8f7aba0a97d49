"""What beat sends without Celery is what Celery would send."""

import json
from pathlib import Path
from typing import Any

import pytest

from acoupi.services.broker import make_app
from acoupi.services.publisher import Outbox, task_message
from acoupi.system import Settings


def shape(message: Any) -> Any:
    """A message with the kinds of what differs from one to the next."""
    changing = {"id", "root_id", "correlation_id", "reply_to", "delivery_tag", "expires", "origin"}
    if isinstance(message, dict):
        return {
            key: type(value) if key in changing else shape(value) for key, value in message.items()
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

    ours = task_message("recording_task", "recording", args, kwargs, expires=10.0)
    Outbox(settings, None).send("recording", ours)

    assert shape(only_message(settings)) == shape(theirs)


def test_a_broker_that_is_not_there_is_an_error(settings: Settings, tmp_path: Path) -> None:
    outbox = Outbox(settings, f"redis+socket://{tmp_path / 'nobody.sock'}")

    with pytest.raises(OSError, match="No such file"):
        outbox.send("recording", task_message("recording_task", "recording", expires=1))
