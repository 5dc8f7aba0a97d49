"""A messenger that posts to an HTTP server."""

import json
import logging
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self, TypeGuard
from urllib.parse import urlencode, urlsplit
from weakref import WeakSet

import requests
from pydantic import SecretStr
from requests.auth import AuthBase, HTTPBasicAuth

from acoupi import data, devices
from acoupi.components import types
from acoupi.components.messengers.config import HTTPConfig, split_url
from acoupi.components.messengers.exchange import DeadlineError, DeadlineSession
from acoupi.components.messengers.tls import Certificates, explain_tls
from acoupi.errors import (
    ConfigurationError,
    HealthCheckError,
    MessageError,
    MessageSendError,
)

__all__ = ["HTTPMessenger", "root_cause"]

ANSWER_LIMIT = 4096
"""Bytes of an answer that are read and kept."""

TRANSIENT = frozenset({408, 425, 429})
"""Status codes that mean "not now" (RFC 9110, 8470, 6585); the message may be fine."""

ACCESS_REFUSED = frozenset({401, 403, 404, 405, 407, 410})
"""Status codes that refuse the sensor or the address; the message may be fine."""

NOT_NOW = TRANSIENT | {500, 502, 503, 504}
"""Answers whose ``Retry-After`` is about every message."""

BROKEN = frozenset({500, 502, 503, 504})
"""Status codes of a server, or of a gateway in front of it, that is down."""

FORM = "application/x-www-form-urlencoded"

_HEADER_VALUE = re.compile(r"[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")


class HTTPMessenger(types.Messenger):
    """Post each message to a server; only the server's answer counts as delivery.

    With a JSON content type (the default) the content must be UTF-8 JSON and
    is sent as it is. With ``application/x-www-form-urlencoded`` it must be a
    JSON object, which is sent as a form. With any other type its bytes are
    sent as they are.

    Answers below 300 are ``SUCCESS``. 408, 425, 429, those from 500 and
    redirections are ``FAILED`` and worth another try (a redirection is not
    followed: it would turn the message into a question; the login page of a
    network sends one too). Everything else from 400 is ``ERROR``; 401, 403,
    404, 405, 407 and 410 say ``is_access_refused``.

    Threads may share a messenger; each has its own connection, which is kept
    open between messages and not used across a fork.

    Parameters
    ----------
    base_url
        Where to post. Credentials in it are used, and shown nowhere.
    base_params
        Query parameters of every request.
    headers
        Sent with every request, and kept out of messages and logs.
    timeout
        Longest wait for the connection, and again for the answer, seconds. After twice
        that an exchange is over, however slowly the server goes on.
    token
        Sent as ``Authorization: Bearer …``.
    username, password
        For basic authentication.
    ca_certificate, client_certificate, client_key, verify
        See `HTTPConfig`.

    Raises
    ------
    ValueError
        If `base_url` is no HTTP address or `timeout` is not above 0.
    ConfigurationError
        If a header or the token has characters that no header can carry.
    """

    key = "http"
    Config = HTTPConfig

    def __init__(  # noqa: PLR0917 - published
        self,
        base_url: str,
        base_params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 5,
        content_type: str = "application/json",
        logger: logging.Logger | None = None,
        *,
        token: SecretStr | str | None = None,
        username: str | None = None,
        password: SecretStr | str | None = None,
        ca_certificate: Path | str | None = None,
        client_certificate: Path | None = None,
        client_key: Path | None = None,
        verify: bool = True,
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
        self.base_url, url_user, url_password = split_url(base_url)
        self.base_params = base_params or {}
        self.headers = _headers(headers or {}, content_type)
        self.content_type = self.headers["Content-Type"]
        self.timeout = timeout
        self.logger = logger or logging.getLogger(__name__)
        self._auth = _auth(token, username or url_user, password or url_password)
        self._certificates = Certificates.in_home(
            ca_certificate, client_certificate, client_key, verify
        )
        self._local = threading.local()
        self._sessions: WeakSet[DeadlineSession] = WeakSet()

    @classmethod
    def from_config(cls, config: HTTPConfig, logger: logging.Logger | None = None) -> Self:
        """Make the messenger that the configuration describes."""
        headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        return super().from_config(config.model_copy(update={"headers": headers}), logger)

    @property
    def name(self) -> str:
        """``http:`` and host, port and path; two that differ only in parameters are one."""
        return f"http:{self._place}"

    @property
    def _place(self) -> str:
        parts = urlsplit(self.base_url)
        return parts.netloc + parts.path.rstrip("/")

    def send_message(self, message: data.Message) -> data.Response:
        """Post the message and return what came of it.

        Raises
        ------
        MessageSendError
            If nothing reached the server: no name, no route, no TLS, refused.
        """
        try:
            body = self._body(message)
        except MessageError as err:
            return _response(data.ResponseStatus.ERROR, message, f"{err}: {err.why}")
        return self._exchanged(message, "POST", self.base_url, data=body, headers=labels(message))

    def _exchanged(
        self, message: data.Message, method: str, address: str, **arguments: Any
    ) -> data.Response:
        """Return what came of a request; see `send_message`."""
        try:
            status, content, headers = self._request(method, address, **arguments)
        except _UncertainError as err:
            self.logger.warning("message %s: %s", message.id, err)
            return _response(err.status, message, str(err))
        if status < 300:
            return _response(data.ResponseStatus.SUCCESS, message, content)
        is_transient = status < 400 or status >= 500 or status in TRANSIENT
        return data.Response(
            status=data.ResponseStatus.FAILED if is_transient else data.ResponseStatus.ERROR,
            message=message,
            content=f"HTTP {status}: {content}",
            is_access_refused=status in ACCESS_REFUSED,
            retry_after=_retry_after(headers) if status in NOT_NOW else None,
        )

    def check(self) -> None:
        """Check that the server answers, without sending it a message.

        It need not know the method: "405 method not allowed" is an answer.

        Raises
        ------
        HealthCheckError
            If it does not answer in time, refuses access, has nothing at
            this address, redirects, does not accept POST, or is broken.
        """
        try:
            status, content, headers = self._request("OPTIONS", self.base_url)
        except _UncertainError as err:
            raise HealthCheckError(
                f'the server "{self._place}" accepted the request but did not answer.',
                "correct messaging.http.base_url, or raise messaging.http.timeout",
                why=str(err),
            ) from err
        except MessageSendError as err:
            raise HealthCheckError(err.message, err.help, why=err.why) from err
        fault = _fault(status, headers)
        if fault:
            why, help_ = fault
            raise HealthCheckError(
                f'the server "{self._place}" would not accept messages: it answered {status}.',
                help_,
                why=f"{why} {content}".strip(),
            )

    def close(self) -> None:
        """Close the connections of all threads; the next message opens new ones."""
        for session in list(self._sessions):
            session.close()

    def _request(
        self, method: str, address: str, **arguments: Any
    ) -> tuple[int, str, Mapping[str, str]]:
        """Return status, text and headers of the answer."""

        def exchange() -> tuple[int, str, Mapping[str, str]]:
            with closing(
                session.request(
                    method,
                    address,
                    params=self.base_params,
                    timeout=self.timeout,
                    allow_redirects=False,
                    stream=True,
                    auth=self._auth,
                    **self._tls(),
                    **arguments,
                )
            ) as answer:
                deadline = data.monotonic() + self.timeout
                return answer.status_code, _text(answer, deadline), answer.headers

        try:
            session = self._session()
            return session.within(2 * self.timeout, exchange)
        except ConfigurationError as err:
            raise MessageSendError(err.message, err.help, why=err.why) from err
        except DeadlineError as err:
            session.close()
            raise self._late(err) from err
        except OSError as err:  # requests.RequestException among them
            raise self._failure(err) from root_cause(err)

    def _late(self, err: DeadlineError) -> "MessageSendError | _UncertainError":
        if err.was_connected:
            return _UncertainError(data.ResponseStatus.TIMEOUT, f"{err}; it may have arrived")
        why, help_ = _explain(err, 2 * self.timeout)
        return MessageSendError(f'cannot reach the server "{self._place}".', help_, why=why)

    def _session(self) -> DeadlineSession:
        """Return the session of this thread in this process."""
        session: DeadlineSession | None = getattr(self._local, "session", None)
        if session is None or session.is_cut or self._local.pid != os.getpid():
            context = None
            if self.base_url.startswith("https:"):  # says better than requests what is wrong
                context = self._certificates.context()
            own = isinstance(self._certificates.ca_certificate, str)
            self._local.session = session = DeadlineSession(context if own else None)
            self._local.pid = os.getpid()
            session.headers.update(self.headers)
            self._sessions.add(session)
        return session

    def _tls(self) -> dict[str, Any]:
        """Return the TLS arguments of a request.

        Set on the session, an environment variable would override them.
        """
        ca_certificate, certificate, key, verify = self._certificates
        return {
            "verify": str(ca_certificate)
            if verify and isinstance(ca_certificate, Path)
            else verify,
            "cert": (str(certificate), str(key)) if certificate and key else _path(certificate),
        }

    def _failure(self, err: OSError) -> "MessageSendError | _UncertainError":
        """Return the error for a message that did not arrive, or for one that may have.

        The text of `err` is not used: it holds the address with its parameters.
        """
        if isinstance(err, requests.ReadTimeout):
            return _UncertainError(
                data.ResponseStatus.TIMEOUT,
                f"no answer within {self.timeout} s; it may have arrived",
            )
        root = root_cause(err)
        if isinstance(root, TimeoutError) and not _is_unconnected(err):
            return _UncertainError(
                data.ResponseStatus.TIMEOUT, f"stalled for {self.timeout} s; it may have arrived"
            )
        why, help_ = _explain(root, self.timeout)
        if not _is_unconnected(err):
            return _UncertainError(
                data.ResponseStatus.FAILED, f"the connection broke: {why}; it may have arrived"
            )
        return MessageSendError(f'cannot reach the server "{self._place}".', help_, why=why)

    def _body(self, message: data.Message) -> bytes:
        """Return the bytes to send, or raise MessageError if there can be none."""
        content = message.content
        body = content.encode() if isinstance(content, str) else content
        kind = self.content_type.partition(";")[0].strip().lower()
        is_json = kind == "application/json" or kind.endswith("+json")
        if not is_json and kind != FORM:
            return body
        try:
            value = json.loads(body.decode())
        except (ValueError, RecursionError) as err:  # UnicodeDecodeError among them
            raise MessageError("the message can never be sent", why=f"not JSON: {err}") from err
        if is_json:
            return body
        if not isinstance(value, dict):
            raise MessageError("the message can never be sent", why="a form needs a JSON object")
        return urlencode(
            {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in value.items()}
        ).encode()


class _UncertainError(MessageError):
    """The request went out and no answer came: it may have arrived."""

    def __init__(self, status: data.ResponseStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _BearerAuth(AuthBase):
    """Adds the token; unlike a header, requests does not replace it from a netrc file."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        return request


class _BasicAuth(AuthBase):
    def __init__(self, username: str, password: SecretStr) -> None:
        self._username = username
        self._password = password

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        secret = self._password.get_secret_value()
        basic: AuthBase = HTTPBasicAuth(self._username.encode(), secret.encode())
        basic(request)
        return request


class _NoAuth(AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _auth(
    token: SecretStr | str | None, username: str | None, password: SecretStr | str | None
) -> AuthBase:
    if token:
        secret = token if isinstance(token, SecretStr) else SecretStr(token)
        _check_header("token", secret.get_secret_value())
        return _BearerAuth(secret)
    if username:
        secret = password if isinstance(password, SecretStr) else SecretStr(password or "")
        return _BasicAuth(username, secret)
    return _NoAuth()


def _headers(headers: dict[str, str], content_type: str) -> dict[str, str]:
    """Add what is missing, whatever the case of what is there."""
    known = {name.title(): name for name in headers}
    complete = dict(headers)
    complete["Content-Type"] = complete.pop(known.get("Content-Type", ""), content_type)
    complete["Accept"] = complete.pop(known.get("Accept", ""), complete["Content-Type"])
    for name, value in complete.items():
        _check_header(f'header "{name}"', value)
    return complete


def _check_header(what: str, value: str) -> None:
    """Refuse what no header can carry, without showing it."""
    if not _HEADER_VALUE.fullmatch(value):
        raise ConfigurationError(
            f"the {what} of messaging.http cannot be sent.",
            "copy it again, without spaces and line ends around it",
            why="it is empty, or has a line end or another character that no header can carry",
        )


def _path(path: Path | None) -> str | None:
    return str(path) if path else None


def labels(message: data.Message) -> dict[str, str]:
    return {"Idempotency-Key": str(message.id), "Acoupi-Device-Id": devices.get_device_id()}


def _response(
    status: data.ResponseStatus, message: data.Message, content: str | None
) -> data.Response:
    return data.Response(status=status, message=message, content=content)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that a server asks for; None if it does not, or not legibly.

    A date (RFC 9110, 10.2.3) is compared with the server's own ``Date`` if it has one,
    because the clock of the board may be wrong.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        end = parsedate_to_datetime(text)
        now = parsedate_to_datetime(headers["Date"]) if "Date" in headers else data.utc_now()
        return max(0.0, (end - now).total_seconds())
    except (ValueError, TypeError):  # TypeError: one of them has no zone
        return None


def _text(answer: requests.Response, deadline: float) -> str:
    """Return the beginning of an answer; what it says matters less than its status."""
    content = bytearray()
    with suppress(OSError):
        for chunk in answer.iter_content(1):
            content += chunk
            if len(content) >= ANSWER_LIMIT or data.monotonic() > deadline:
                break
    try:
        return content.decode(answer.encoding or "utf-8", errors="replace")
    except LookupError:
        return content.decode(errors="replace")


def _chain(err: BaseException) -> Iterator[BaseException]:
    """Give an error and what it came from: requests, urllib3 and Python nest them differently."""
    seen: list[BaseException] = []
    waiting: list[object] = [err]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, BaseException) and item not in seen:
            seen.append(item)
            yield item
            waiting += [getattr(item, "reason", None), *item.args, item.__cause__, item.__context__]


def root_cause(err: BaseException) -> BaseException:
    """Return the system's own error; it knows nothing of the address."""
    for kind in (ssl.SSLError, socket.gaierror, ConnectionError, TimeoutError, OSError):
        for item in _chain(err):
            if isinstance(item, kind) and not isinstance(item, requests.RequestException):
                return item
    return RuntimeError(type(err).__name__)


def _is_unconnected(err: OSError) -> bool:
    """Whether it failed before anything of the request was sent."""
    if isinstance(root_cause(err), ssl.SSLEOFError):
        return False
    if isinstance(err, _UNCONNECTED) or not isinstance(err, requests.ConnectionError):
        return True
    # What fails later reaches requests bare, not as the reason of exhausted retries.
    return bool(err.args) and getattr(err.args[0], "reason", None) is not None


_UNCONNECTED = (
    requests.ConnectTimeout,
    requests.exceptions.SSLError,
    requests.exceptions.ProxyError,
)


def _explain(root: BaseException, timeout: float) -> tuple[str, str]:
    """Return why no connection came about, and what to try."""
    if isinstance(root, ssl.SSLError):
        return explain_tls(root)
    if isinstance(root, socket.gaierror):
        return f"its name is unknown: {root.strerror}", "check the network, and base_url"
    if isinstance(root, TimeoutError):
        return f"no connection within {timeout} s", "check the network, and base_url"
    if isinstance(root, OSError):
        return root.strerror or str(root) or type(root).__name__, "check the network, and base_url"
    return str(root), "check the network, and base_url"


def _fault(status: int, headers: Mapping[str, str]) -> tuple[str, str] | None:
    """Return why a server that answers would still not take messages, and what to try."""
    if status in _FAULTS:
        return _FAULTS[status]
    if 300 <= status < 400:
        location = headers.get("Location")
        where = split_url(location)[0].partition("?")[0] if _is_url(location) else "another address"
        return f"it redirects to {where}:", "set messaging.http.base_url to the new address"
    if status in BROKEN:
        return "the server cannot serve requests now:", "try later, or ask its operator"
    methods = {method.strip().upper() for method in headers.get("Allow", "").split(",")} - {""}
    if methods and not methods & {"POST", "*"}:
        return f"it accepts only {', '.join(sorted(methods))}:", "correct messaging.http.base_url"
    return None


_NOTHING_HERE = ("there is nothing at this address:", "correct messaging.http.base_url")

_FAULTS = {
    401: ("it rejects the credentials:", "set messaging.http.token, or username and password"),
    403: ("it forbids this sensor to post:", "ask its operator for permission to post"),
    404: _NOTHING_HERE,
    407: ("a proxy wants credentials:", "put them into the variable HTTPS_PROXY"),
    410: _NOTHING_HERE,
}


def _is_url(location: str | None) -> TypeGuard[str]:
    return location is not None and location.startswith(("http://", "https://"))
