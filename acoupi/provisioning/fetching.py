"""Fetching a configuration from a URL, and keeping the last good one."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import HTTPBasicAuth

import acoupi
from acoupi.components.messengers.config import split_url
from acoupi.components.messengers.exchange import DeadlineError, DeadlineSession
from acoupi.components.messengers.http import root_cause
from acoupi.components.messengers.tls import Certificates
from acoupi.config.bounds import MOST_BYTES
from acoupi.errors import ConfigurationError
from acoupi.provisioned import Fetched, read_cache
from acoupi.writing import PRIVATE, RenderedFile

__all__ = ["cache_file", "fetch", "load_cached", "shown_url"]

VARIABLE = "ACOUPI_CONFIG_URL"
CHUNK = 65_536
FETCH_PATIENCE = 30.0
ANSWER_PATIENCE = 10.0
"""Longest time without a byte, seconds."""
LONGEST_WORDS = 300
SUFFIXES = (".json", ".yaml", ".yml", ".toml")


def shown_url(url: str) -> str:
    """Return a URL without what may be secret: login and query.

    Examples
    --------
    >>> shown_url("https://me:secret@example.org/bats.yaml?token=1")
    'https://example.org/bats.yaml'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def fetch(
    url: str,
    patience: float = FETCH_PATIENCE,
    *,
    called: str = VARIABLE,
    ca: Path | str | None = None,
) -> Fetched:
    """Return the document at a URL.

    Parameters
    ----------
    url
        http:// or https://, perhaps with a login. A redirection may lead
        elsewhere on the same server only. ``#sha256=…`` at its end is the digest
        of what it must return.
    patience
        Time limit in seconds for everything: name lookup, connection, every byte.
    called
        The variable that holds the address.
    ca
        PEM file of the authority that signed the server's certificate, or the certificate itself;
        None: those that this system trusts.

    Raises
    ------
    ConfigurationError
        If the address is not valid, or the server does not answer in time, answers with an error,
        nothing, or too much, or breaks off.
    """
    try:
        plain, user, password = split_url(url)
    except ValueError as error:
        raise ConfigurationError(
            f"{called} is not the address of a configuration.",
            f"{called}=https://example.org/sensor.yaml",
            why="it must start with http:// or https:// and name a host.",
        ) from error
    try:
        plain, digest = _wanted_digest(_sound(plain))
        own = Certificates(ca).context() if isinstance(ca, str) else None
        with DeadlineSession(own) as session:
            session.verify = str(ca) if isinstance(ca, Path) else True
            return session.within(
                patience, lambda: _get(session, plain, _login(user, password), digest)
            )
    except DeadlineError as error:
        raise _failed(
            url, f"there was no complete answer within {patience:.0f} s", called
        ) from error
    except Exception as error:
        raise _failed(url, _reason(error), called) from error


def _sound(plain: str) -> str:
    if not plain.isascii() or re.search(r"[\x00-\x20]", plain):
        raise ValueError(
            "it has a character that is not allowed in addresses; a space is written %20"
        )
    return plain


def _wanted_digest(plain: str) -> tuple[str, str | None]:
    """Return an address without the digest behind it, and the digest."""
    plain, _, fragment = plain.partition("#")
    if not fragment:
        return plain, None
    digest = fragment.removeprefix("sha256=").lower()
    if digest == fragment.lower() or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("the part after # must be sha256= and 64 hexadecimal digits")
    return plain, digest


Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]


def _login(user: str | None, password: str | None) -> Auth:
    if user is None:
        return lambda request: request  # no credentials from a .netrc file
    return HTTPBasicAuth(user.encode(), (password or "").encode())


def _get(session: DeadlineSession, url: str, auth: Auth, digest: str | None) -> Fetched:
    """Fetch a URL; raises a ValueError that says why its answer cannot be used."""
    with session.get(
        url,
        headers={"User-Agent": f"acoupi/{acoupi.__version__}"},
        auth=auth,
        timeout=ANSWER_PATIENCE,
        stream=True,
        hooks={"response": _require_same_server},
    ) as answer:
        found = _read(answer, digest)
    if session.is_cut:  # an answer without a length ends with its connection
        raise ConnectionAbortedError("the deadline cut it off")
    return found


def _require_same_server(answer: requests.Response, **_: object) -> None:
    if answer.is_redirect:
        there = urljoin(answer.url, answer.headers["Location"])
        if urlsplit(there)[:2] != urlsplit(answer.url)[:2]:
            answer.close()
            raise ValueError(f"it redirects to another server, {shown_url(there)}")


def _read(answer: requests.Response, digest: str | None) -> Fetched:
    if answer.status_code != requests.codes.ok:
        raise ValueError(f"the server answered {answer.status_code} {answer.reason}{_said(answer)}")
    content = b""
    for chunk in answer.iter_content(CHUNK):
        content += chunk
        if len(content) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES} bytes")
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("the SHA-256 of the document differs from the one in the address")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8") from None
    if not text.strip():
        raise ValueError("the answer is empty")
    kind = answer.headers.get("Content-Type", "").lower()
    if "html" in kind or text.lstrip().startswith("<"):
        raise ValueError("it is a web page, such as the login page of a network")
    return Fetched(text, _suffix(answer.url, kind, text))


def _said(answer: requests.Response) -> str:
    """Return a hub's own message about an error; nothing for other servers."""
    try:
        said = json.loads(next(answer.iter_content(CHUNK), b""))["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f": {str(said)[:LONGEST_WORDS].rstrip('.')}"


def _suffix(url: str, kind: str, text: str) -> str:
    named = PurePosixPath(urlsplit(url).path).suffix.lower()
    if named in SUFFIXES:
        return named
    for suffix in SUFFIXES:
        if suffix[1:] in kind:
            return suffix
    return ".json" if text.lstrip().startswith("{") else ".yaml"


def _reason(error: BaseException) -> str:
    """Return why nothing was fetched; the text of requests' errors contains the query."""
    if not isinstance(error, requests.RequestException):
        return str(error) or type(error).__name__
    if isinstance(error, requests.TooManyRedirects):
        return "it redirects without end"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer broke off before its end"
    root = root_cause(error)
    if isinstance(root, TimeoutError):
        return f"no data for {ANSWER_PATIENCE:.0f} s"
    return getattr(root, "strerror", None) or str(root)


def _failed(url: str, reason: str, called: str) -> ConfigurationError:
    return ConfigurationError(
        f"cannot fetch the configuration from {called} ({shown_url(url)}).",
        f"curl -I {shown_url(url)}   (acoupi tries again)",
        why=f"{reason}.",
    )


def cache_file(url: str, fetched: Fetched) -> RenderedFile:
    """Return the file that keeps the last good document, for when the URL does not answer."""
    content = {"url": _digest(url), "suffix": fetched.suffix, "text": fetched.text}
    return RenderedFile(json.dumps(content) + "\n", PRIVATE)


def load_cached(config: Path, url: str) -> Fetched | None:
    """Return the last good document of that URL, or None.

    Raises
    ------
    ConfigurationError
        If the file that keeps it is damaged.
    """
    kept = read_cache(config)
    return kept[1] if kept is not None and kept[0] == _digest(url) else None


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
