"""Fetching a configuration from a URL, and keeping the last one that was good."""

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
"""Seconds without a byte."""
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
    """Return what a URL gives.

    Parameters
    ----------
    url
        http:// or https://, perhaps with a login. A redirection may lead
        elsewhere on the same server only. ``#sha256=…`` at its end is the digest
        of what it must return.
    patience
        Seconds for all of it: looking up the name, the connection, every byte.
    called
        What the address is called where it is set.
    ca
        PEM file of the authority that signed the certificate of the server, or the certificate
        itself; None: those that this system trusts.

    Raises
    ------
    ConfigurationError
        If it is no such address, or does not answer in time, or with an error, or with
        nothing, or not with all that it announced, or with too much.
    """
    try:
        plain, user, password = split_url(url)
    except ValueError as error:
        raise ConfigurationError(
            f"{called} is not the address of a configuration.",
            f"{called}=https://example.org/sensor.yaml",
            why="it must begin with http:// or https:// and name a host.",
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
        raise _failed(url, f"no complete answer came within {patience:.0f} s", called) from error
    except Exception as error:
        raise _failed(url, _reason(error), called) from error


def _sound(plain: str) -> str:
    if not plain.isascii() or re.search(r"[\x00-\x20]", plain):
        raise ValueError("it has a character that no address has; a space is written %20")
    return plain


def _wanted_digest(plain: str) -> tuple[str, str | None]:
    """Return an address without the digest behind it, and the digest."""
    plain, _, fragment = plain.partition("#")
    if not fragment:
        return plain, None
    digest = fragment.removeprefix("sha256=").lower()
    if digest == fragment.lower() or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("what follows # must be sha256= and 64 hexadecimal digits")
    return plain, digest


Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]


def _login(user: str | None, password: str | None) -> Auth:
    if user is None:
        return lambda request: request  # and none from a .netrc file
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
            raise ValueError(f"it leads to another place, {shown_url(there)}")


def _read(answer: requests.Response, digest: str | None) -> Fetched:
    if answer.status_code != requests.codes.ok:
        raise ValueError(f"the server answered {answer.status_code} {answer.reason}{_said(answer)}")
    content = b""
    for chunk in answer.iter_content(CHUNK):
        content += chunk
        if len(content) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES} bytes")
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("what came has another sha256 than the address says")
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
    """Return what a hub says of an error, in its own words; nothing of others."""
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
    """Return why nothing was fetched; the text of requests' errors holds the query."""
    if not isinstance(error, requests.RequestException):
        return str(error) or type(error).__name__
    if isinstance(error, requests.TooManyRedirects):
        return "it leads from one address to another without end"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer broke off before its end"
    root = root_cause(error)
    if isinstance(root, TimeoutError):
        return f"nothing came for {ANSWER_PATIENCE:.0f} s"
    return getattr(root, "strerror", None) or str(root)


def _failed(url: str, reason: str, called: str) -> ConfigurationError:
    return ConfigurationError(
        f"cannot fetch the configuration from {called} ({shown_url(url)}).",
        f"curl -I {shown_url(url)}   (it is tried again)",
        why=f"{reason}.",
    )


def cache_file(url: str, fetched: Fetched) -> RenderedFile:
    """Return the file that keeps what is good, for when the URL does not answer."""
    content = {"url": _digest(url), "suffix": fetched.suffix, "text": fetched.text}
    return RenderedFile(json.dumps(content) + "\n", PRIVATE)


def load_cached(config: Path, url: str) -> Fetched | None:
    """Return what that URL gave last; None if it never gave anything good.

    Raises
    ------
    ConfigurationError
        If the file that keeps it is damaged.
    """
    kept = read_cache(config)
    return kept[1] if kept is not None and kept[0] == _digest(url) else None


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
