"""A messenger for people: their phones, chats and mail, by the library Apprise."""

import hashlib
import json
import logging
import threading
from typing import Any

from acoupi import data
from acoupi.components import types
from acoupi.components.messengers.config import AppriseConfig
from acoupi.errors import HealthCheckError, MessageSendError

__all__ = ["AppriseMessenger"]

NO_CONNECTION = "the service refused it, or cannot be reached"
MOST_TEXT = 1000
"""Characters of a message that is no alarm."""


class AppriseMessenger(types.Messenger):
    """Sends what people should see to one service that Apprise knows.

    Messages of other types count as delivered, and are not sent.

    Parameters
    ----------
    url
        Address in the notation of Apprise, such as ``ntfys://topic``; it holds secrets.
    message_types
        Types of messages that are sent.
    timeout
        Seconds for one message.
    """

    key = "apprise"
    Config = AppriseConfig

    def __init__(
        self,
        url: str,
        message_types: list[data.MessageType] | None = None,
        timeout: float = 20,
        logger: logging.Logger | None = None,
    ) -> None:
        self.message_types = frozenset(message_types or [data.MessageType.ALARM])
        self.timeout = timeout
        self.logger = logger or logging.getLogger(__name__)
        self._url = url
        self._lock = threading.Lock()
        self._service: Any = None

    @classmethod
    def from_config(
        cls, config: AppriseConfig, logger: logging.Logger | None = None
    ) -> "AppriseMessenger":
        """Make the messenger that the configuration describes."""
        url = config.url.get_secret_value()
        return cls(url, config.message_types, config.timeout, logger)

    @property
    def name(self) -> str:
        """``apprise:``, the scheme of the address, and a digest of the whole."""
        digest = hashlib.sha256(self._url.encode()).hexdigest()[:8]
        return f"apprise:{self._url.partition(':')[0]}:{digest}"

    def send_message(self, message: data.Message) -> data.Response:
        """Send the message, if it is for people.

        Raises
        ------
        MessageSendError
            If the service did not take it (Apprise does not tell why), Apprise is not installed,
            or it does not know the address.
        """
        if message.message_type not in self.message_types:
            return _response(message, data.ResponseStatus.SUCCESS, "not for people: not sent")
        title, body = _words(message)
        service = self._open()
        results: list[bool] = []

        def notify() -> None:
            results.append(bool(service.notify(body=body, title=title)))

        # The time-outs of Apprise are for each read; a slow server could keep it for ever.
        thread = threading.Thread(target=notify, name="acoupi-apprise", daemon=True)
        thread.start()
        thread.join(self.timeout)
        if thread.is_alive():
            words = f"no answer within {self.timeout:g} s; it may have arrived"
            return _response(message, data.ResponseStatus.TIMEOUT, words)
        if not results or not results[0]:
            raise MessageSendError(
                f"cannot send to {self.name}.",
                "acoupi config get messaging.apprise   (correct the address, or try later)",
                why=f"{NO_CONNECTION}.",
            )
        return _response(message, data.ResponseStatus.SUCCESS, None)

    def check(self) -> None:
        """Raise `HealthCheckError` if Apprise is missing or does not know the address.

        Whether a message arrives, only a message that a person gets could tell.
        """
        try:
            self._open()
        except MessageSendError as error:
            raise HealthCheckError(error.message, error.help, why=error.why) from error

    def _open(self) -> Any:
        with self._lock:
            if self._service is None:
                self._service = _service(self._url)
            return self._service


def _service(url: str) -> Any:
    """Return what sends to an address; only used by the worker that sends."""
    try:
        import apprise  # noqa: PLC0415 - it takes 25 MB, and only the worker that sends needs it
    except ImportError as error:
        raise MessageSendError(
            "messages cannot be sent to people's phones.",
            'python -m pip install "acoupi[apprise]"',
            why="the library Apprise is not installed.",
        ) from error
    asset = apprise.AppriseAsset(secure_logging=True, storage_mode="memory")
    found = apprise.Apprise(asset=asset)
    if not found.add(url) or len(found) != 1:
        raise MessageSendError(
            "messaging.apprise.url is not an address that Apprise supports.",
            "acoupi config set messaging.apprise.url ntfys://YOUR-TOPIC",
            why="it must be one service, in the notation of Apprise.",
        )
    return found


def _words(message: data.Message) -> tuple[str, str]:
    """Return title and text of a message."""
    content = message.content
    text = content if isinstance(content, str) else content.decode(errors="replace")
    kind = message.message_type.value if message.message_type else "message"
    if message.message_type is data.MessageType.ALARM:
        try:
            alarm = json.loads(text)
            title = f"{alarm['state'].upper()}: {alarm['description']}"
            since = f"{alarm['since'][:16].replace('T', ' ')} UTC"
        except (ValueError, KeyError, TypeError, AttributeError):
            return "acoupi: alarm", text[:MOST_TEXT]
        return title, f"{alarm['detail']}\nSensor {alarm['device_id']}, since {since}."
    return f"acoupi: {kind}", text[:MOST_TEXT]


def _response(
    message: data.Message, status: data.ResponseStatus, content: str | None
) -> data.Response:
    return data.Response(status=status, message=message, content=content)
