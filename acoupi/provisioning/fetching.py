"""Fetching a configuration from a URL, and keeping the last one that was good."""

import base64
import hashlib
import http.client
import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import acoupi
from acoupi.commit import read_whole
from acoupi.components.messengers.config import split_url
from acoupi.errors import ConfigurationError
from acoupi.writing import PRIVATE, RenderedFile

__all__ = ["CACHE", "Fetched", "cache_file", "fetch", "load_cached", "shown_url"]

CACHE = "fetched.json"
"""In ``config/``; private, because a configuration may hold passwords."""
VARIABLE = "ACOUPI_CONFIG_URL"
MOST_BYTES = 1_000_000
FETCH_PATIENCE = 30.0
"""Seconds for the whole of it: name, connection and every byte."""
ANSWER_PATIENCE = 10.0
"""Seconds without a byte."""
SUFFIXES = (".json", ".yaml", ".yml", ".toml")


@dataclass(frozen=True)
class Fetched:
    """A configuration file as it came."""

    text: str
    suffix: str
    """Says what kind of file it is: .json, .yaml or .toml."""


def shown_url(url: str) -> str:
    """Return a URL without what may be secret: login and query.

    Examples
    --------
    >>> shown_url("https://me:secret@example.org/bats.yaml?token=1")
    'https://example.org/bats.yaml'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def fetch(url: str, patience: float = FETCH_PATIENCE) -> Fetched:
    """Return what a URL gives.

    Raises
    ------
    ConfigurationError
        If it is none, or does not answer in time, or with an error, or with too much.
    """
    try:
        plain, user, password = split_url(url)
    except ValueError as error:
        raise ConfigurationError(
            f"{VARIABLE} is not the address of a configuration.",
            f"{VARIABLE}=https://example.org/sensor.yaml",
            why="it must begin with http:// or https:// and name a host.",
        ) from error
    request = urllib.request.Request(  # noqa: S310 - http and https only, see above
        plain, headers={"User-Agent": f"acoupi/{acoupi.__version__}"}
    )
    if user is not None:
        login = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
        # Not sent on to where a redirection leads.
        request.add_unredirected_header("Authorization", f"Basic {login}")
    found: list[Fetched | BaseException] = []

    def attempt() -> None:
        try:
            found.append(_read(request, plain))
        except urllib.error.HTTPError as error:
            error.close()
            found.append(error)
        except BaseException as error:  # noqa: BLE001 - told below, in the thread that asked
            found.append(error)

    # A thread of its own: neither looking up a name nor a trickle of bytes knows a deadline.
    thread = threading.Thread(target=attempt, name="fetch", daemon=True)
    thread.start()
    thread.join(patience)
    if not found:
        raise _failed(url, f"no complete answer came within {patience:.0f} s")
    if isinstance(found[0], Fetched):
        return found[0]
    raise _failed(url, _reason(found[0])) from found[0]


def _read(request: urllib.request.Request, url: str) -> Fetched:
    with urllib.request.urlopen(request, timeout=ANSWER_PATIENCE) as answer:  # noqa: S310
        content = answer.read(MOST_BYTES + 1)
        kind = answer.headers.get_content_type()
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8") from None
    return Fetched(text, _suffix(url, kind, text))


def _suffix(url: str, kind: str, text: str) -> str:
    named = PurePosixPath(urlsplit(url).path).suffix.lower()
    if named in SUFFIXES:
        return named
    for suffix in SUFFIXES:
        if suffix[1:] in kind:
            return suffix
    return ".json" if text.lstrip().startswith("{") else ".yaml"


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, BaseException) else error
    if isinstance(error, http.client.InvalidURL | UnicodeError):
        # Not in its own words: they repeat the query.
        return "it has a character that no address has; a space is written %20"
    if isinstance(error, TimeoutError):
        return f"nothing came for {ANSWER_PATIENCE:.0f} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _failed(url: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"cannot fetch the configuration from {VARIABLE} ({shown_url(url)}).",
        f"curl -I {shown_url(url)}   (it is tried again)",
        why=f"{reason}.",
    )


def cache_file(url: str, fetched: Fetched) -> RenderedFile:
    """Return the file that keeps what is good, for when the URL does not answer."""
    content = {"url": _digest(url), "suffix": fetched.suffix, "text": fetched.text}
    return RenderedFile(json.dumps(content) + "\n", PRIVATE)


def load_cached(config: Path, url: str) -> Fetched | None:
    """Return what that URL gave last; None if it never gave anything good."""
    try:
        content = json.loads(read_whole(config / CACHE))
        if content["url"] != _digest(url):
            return None
        return Fetched(str(content["text"]), str(content["suffix"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
