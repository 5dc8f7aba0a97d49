"""The messenger that reports to a hub (`acoupi.hub`)."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr

from acoupi import data
from acoupi.components.messengers.http import HTTPMessenger
from acoupi.reports import MessageReport, Report, SoundReport, digest_header

__all__ = ["HubMessenger", "hub_words", "packed"]

LONGEST = 30.0
"""Seconds for the connection, and again for the answer: the hub stores all of a report first."""


class HubMessenger(HTTPMessenger):
    """Posts reports to a hub; its answer 200 says that all of a report is stored.

    Parameters
    ----------
    url
        Of the hub.
    token
        Of this sensor there.
    timeout, ca_certificate
        As of `HTTPMessenger`.
    """

    key = "hub"

    def __init__(
        self,
        url: str,
        token: SecretStr,
        logger: logging.Logger | None = None,
        *,
        timeout: float = LONGEST,
        ca_certificate: Path | str | None = None,
    ) -> None:
        headers = {"Content-Encoding": "gzip"}
        self._url = url.rstrip("/")
        address = f"{self._url}/v1/reports"
        super().__init__(
            address,
            headers=headers,
            timeout=timeout,
            logger=logger,
            token=token,
            ca_certificate=ca_certificate,
        )
        parts = urlsplit(url)
        self._name = f"hub:{parts.netloc}{parts.path.rstrip('/')}"

    @property
    def name(self) -> str:
        """``hub:`` and host, port and path."""
        return self._name

    def send_message(self, message: data.Message) -> data.Response:
        """Report a message; see `HTTPMessenger.send_message`."""
        text = message.content
        report = MessageReport(
            id=message.id,
            message_type=message.message_type,
            created_on=message.created_on,
            content=text if isinstance(text, str) else text.decode(errors="replace"),
        )
        answer = self.send_packed(packed(Report(messages=[report])))
        return answer.model_copy(update={"message": message})

    def send_packed(self, report: bytes) -> data.Response:
        """Send a report that was `packed`; see `HTTPMessenger.send_message`."""
        return super().send_message(data.Message(content=report))

    def offer_sound(self, sound: UUID, offered: SoundReport) -> data.Response:
        """Offer a sound; 200 says that the hub has it, and 202 what it has of it (`received`)."""
        body = offered.model_dump_json().encode()
        return self._about_sound("POST", str(sound), body, {"Content-Type": "application/json"})

    def send_chunk(self, sound: UUID, sha256: str, start: int, chunk: bytes) -> data.Response:
        """Send a chunk of a sound; 200 says that it is stored. See `send_message`."""
        headers = {"Content-Type": "application/octet-stream"}
        headers["Content-Digest"] = digest_header(chunk)
        return self._about_sound("PUT", f"{sound}/{sha256}/{start}", chunk, headers)

    def _about_sound(
        self, method: str, path: str, body: bytes, headers: dict[str, Any]
    ) -> data.Response:
        address = f"{self._url}/v1/audio/{path}"
        headers["Content-Encoding"] = None  # that of reports
        about = data.Message(content="")
        return self._exchanged(about, method, address, data=body, headers=headers)

    def _body(self, message: data.Message) -> bytes:
        content = message.content
        return content.encode() if isinstance(content, str) else content


def packed(report: Report) -> bytes:
    """Return a report as it travels."""
    return gzip.compress(report.model_dump_json().encode(), mtime=0)


def hub_words(answer: data.Response) -> str:
    """Return what a hub said of a report, in its own words where it has any.

    Examples
    --------
    >>> said = 'HTTP 409: {"error": "it belongs to another sensor."}'
    >>> hub_words(data.Response(status=data.ResponseStatus.ERROR,
    ...     message=data.Message(content=""), content=said))
    'HTTP 409: it belongs to another sensor'
    """
    status, _, text = (answer.content or "no answer").partition(": ")
    try:
        text = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return answer.content or "no answer"
    return f"{status}: {str(text).rstrip('.')}"
