"""The messenger that reports to a hub (`acoupi.hub`)."""

import gzip
import hashlib
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr

from acoupi import data
from acoupi.components.messengers.http import HTTPMessenger, labels
from acoupi.reports import MessageReport, Report, ReportSequence, SoundReport, digest_header

__all__ = ["HubMessenger", "hub_name", "hub_words", "is_asked_again", "packed"]

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
        self._url, self._token = url.rstrip("/"), token
        address = f"{self._url}/v1/reports"
        super().__init__(
            address,
            headers=headers,
            timeout=timeout,
            logger=logger,
            token=token,
            ca_certificate=ca_certificate,
        )
        self._name = hub_name(url)

    @property
    def name(self) -> str:
        """``hub:`` and host, port and path."""
        return self._name

    def send_message(self, message: data.Message) -> data.Response:
        """Report a message; see `HTTPMessenger.send_message`."""
        answer = self.send_packed(packed(Report(messages=[MessageReport.of(message)])))
        return answer.model_copy(update={"message": message})

    @property
    def token_sha256(self) -> str:
        """Which of the sensors of the hub this is."""
        return hashlib.sha256(self._token.get_secret_value().encode()).hexdigest()

    def send_packed(self, report: bytes, sequence: ReportSequence | None = None) -> data.Response:
        """Send a report that was `packed`; see `HTTPMessenger.send_message`."""
        about = data.Message(content=report)
        headers = labels(about) | ({} if sequence is None else sequence.headers())
        return self._exchanged(about, "POST", self.base_url, data=report, headers=headers)

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


def hub_name(url: str) -> str:
    """Return the name of the messenger of a hub, from its address.

    Examples
    --------
    >>> hub_name("https://hub.example.org:8090/")
    'hub:hub.example.org:8090'
    """
    parts = urlsplit(url)
    return f"hub:{parts.netloc}{parts.path.rstrip('/')}"


def packed(report: Report) -> bytes:
    """Return a report as it travels."""
    return gzip.compress(report.model_dump_json().encode(), mtime=0)


def is_asked_again(answer: data.Response) -> bool | None:
    """Return whether a hub that took a report has lost what it acknowledged before.

    None: it is an older one, which does not know.

    Examples
    --------
    >>> is_asked_again(data.Response(status=data.ResponseStatus.SUCCESS,
    ...     message=data.Message(content=""), content='{"stored":true,"again":true}'))
    True
    """
    try:
        return bool(json.loads(answer.content or "")["again"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


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
