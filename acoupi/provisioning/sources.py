"""The sources of a home: variables, a file or a URL, and the installed packages."""

import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import acoupi
from acoupi.config.documents import Document
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.provisioned import CACHE, Fetched, Followed
from acoupi.provisioning.fetching import (
    cache_file,
    load_cached,
    shown_url,
)
from acoupi.provisioning.following import KEY, Following, whom_variables_say
from acoupi.services.provisioned_home import wrong_variables
from acoupi.stack.settings import Settings
from acoupi.stack.variables import check_known, is_source
from acoupi.writing import RenderedFile

__all__ = ["Sources", "read_sources"]

PROGRAM = "ACOUPI_PROGRAM"
FILE = "ACOUPI_CONFIG_FILE"
URL = "ACOUPI_CONFIG_URL"
DEVICE = "ACOUPI_DEVICE_ID"
BALENA_DEVICE = "BALENA_DEVICE_UUID"
NAME, LATITUDE, LONGITUDE = (
    f"ACOUPI_DEPLOYMENT__{name}" for name in ("NAME", "LATITUDE", "LONGITUDE")
)
SERVICES = "ACOUPI_SERVICES"
OTHERS = ("ACOUPI_HOME", SERVICES, BALENA_DEVICE, "TZ")
"""Other variables that affect the result."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True)
class Sources:
    """All sources of a home's setup, read once."""

    program: str
    variables: Mapping[str, str]
    """The variables with settings."""
    document: Document | None
    url: str | None
    """Where it was fetched from; None if it was not fetched."""
    device_id: str | None
    """The name, from a variable."""
    name: str | None
    """Name of the deployment; None: that of the device."""
    latitude: float | None
    longitude: float | None
    services: tuple[str, ...]
    """The existing workers; empty: those of the program."""
    digest: str
    taken: tuple[str, ...]
    """The source of each setting, in words, without secrets."""
    fault: AcoupiError | None
    """A fault despite which the last good document can be used."""
    following: Following | None = None
    """The hub's offer; None: the document is not signed."""

    @property
    def followed(self) -> Followed | None:
        """The state of following a hub, once all of this is in force."""
        return None if self.following is None else self.following.followed

    def to_keep(self, config: Path) -> dict[Path, RenderedFile]:
        """Return the files that store the fetched document; none if it is not the newest."""
        if self.following is not None:
            return self.following.to_keep(config)
        if self.url is None or self.document is None or self.fault is not None:
            return {}
        fetched = Fetched(self.document.text, self.document.suffix)
        return {config / CACHE: cache_file(self.url, fetched)}


def read_sources(
    environ: Mapping[str, str],
    config: Path,
    fetch: Callable[[str], Fetched],
    followed: Followed | None = None,
) -> Sources:
    """Read all sources; if a URL fails, its last good document is used.

    Parameters
    ----------
    environ
        The variables.
    config
        The folder of the last good document.
    fetch
        Fetches a URL.
    followed
        The state of following a hub so far.

    Raises
    ------
    ConfigurationError
        Naming the variable that is unknown, not valid or contradicts another.
    """
    given = {name: value for name, value in environ.items() if value}
    check_known(given)
    for name, words in wrong_variables(given).items():
        raise ConfigurationError(
            f'{name} cannot be "{given[name]}".',
            f"remove {name} for its default",
            why=f"it must be {words}.",
        )
    program = given.get(PROGRAM, "").strip()
    if not program:
        raise ConfigurationError(
            f"{PROGRAM} is not set.",
            f"{PROGRAM}=default",
            why="it names the program that the sensor runs.",
        )
    if FILE in given and URL in given:
        raise ConfigurationError(
            f"{FILE} and {URL} contradict each other.",
            f"remove one of the two variables, {FILE} or {URL}",
            why="both name a configuration, and only one can be used.",
        )
    following = None
    if KEY in given:
        following = Following.read(whom_variables_say(given), config, fetch, followed)
    if following is None:
        document, fault = _document(given, config, fetch)
    else:
        document, fault = following.document, following.fault
    latitude, longitude = _degrees(given, LATITUDE, 90), _degrees(given, LONGITUDE, 180)
    if (latitude is None) != (longitude is None):
        missing, there = (LATITUDE, LONGITUDE) if latitude is None else (LONGITUDE, LATITUDE)
        raise ConfigurationError(
            f"{missing} is missing.",
            f"{missing}=0.0",
            why=f"{there} is set, and a location needs both.",
        )
    return Sources(
        program=program,
        variables={name: value for name, value in given.items() if is_source(name)},
        document=document,
        url=given.get(URL),
        device_id=_device_id(given),
        name=given.get(NAME, "").strip() or None,
        latitude=latitude,
        longitude=longitude,
        services=tuple(filter(None, re.split(r"[,\s]+", given.get(SERVICES, "")))),
        digest=_digest(given, document),
        taken=_taken(given, document),
        fault=fault,
        following=following,
    )


def _document(
    given: Mapping[str, str], config: Path, fetch: Callable[[str], Fetched]
) -> tuple[Document | None, ConfigurationError | None]:
    """Return the document, and why it is not the newest."""
    if FILE in given:
        return _read_file(Path(given[FILE])), None
    if URL not in given:
        return None, None
    url = given[URL]
    origin = f"{URL} ({shown_url(url)})"
    try:
        found = fetch(url)
        document = Document(found.text, found.suffix, origin)
        _require_document(document)
    except ConfigurationError as error:
        try:
            cached = load_cached(config, url)
        except ConfigurationError as damaged:
            why = f"{error.why or ''} Also, {damaged.message}".strip()
            raise ConfigurationError(error.message, error.help, why=why) from error
        if cached is None:
            raise
        return Document(cached.text, cached.suffix, origin), error
    return document, None


def _read_file(path: Path) -> Document:
    try:
        path.stat()
    except OSError as error:
        raise ConfigurationError(
            f'cannot read {FILE} "{path}".',
            f"mount it into the service that sets the home up, at {path}",
            why=f"{error.strerror or error}.",
        ) from error
    found = Document.read(path)
    document = Document(found.text, found.suffix, f"{FILE} ({path})")
    document.parsed()
    return document


def _require_document(document: Document) -> None:
    """Raise unless a text is a configuration file, with any settings."""
    try:
        document.parsed()
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{document.origin} does not return a configuration.",
            "open it in a browser: it may be a login page",
            why=error.why or error.message,
        ) from error


def _degrees(given: Mapping[str, str], name: str, most: float) -> float | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if abs(value) <= most:
        return value
    raise ConfigurationError(
        f'{name} cannot be "{text}".',
        f"{name}=0.0",
        why=f"it must be a number from -{most:g} to {most:g}, in degrees.",
    )


def _device_id(given: Mapping[str, str]) -> str | None:
    text = given.get(DEVICE)
    if text is not None and not _ID.match(text):
        raise ConfigurationError(
            f'{DEVICE} cannot be "{text}".',
            f"{DEVICE}=bats-07",
            why="it is part of topics and client ids: letters, digits, dot, - and _, at most 64.",
        )
    return text or given.get(BALENA_DEVICE)


def _digest(given: Mapping[str, str], document: Document | None) -> str:
    paths = {f"ACOUPI_{name.upper()}" for name in Settings.model_fields} - {"ACOUPI_LOG_LEVEL"}
    content = {
        "variables": {
            name: value
            for name, value in sorted(given.items())
            if is_source(name) or name in OTHERS or name in paths
        },
        "document": document and [document.text, document.suffix],
        "acoupi": acoupi.__version__,
        "installed": _installed(),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _installed() -> list[str]:
    """Return what is installed, with versions, without importing any of it."""
    return sorted(
        {
            path.name
            for folder in map(Path, filter(None, sys.path))
            if folder.is_dir()
            for path in folder.glob("*.dist-info")
        }
    )


def _taken(given: Mapping[str, str], document: Document | None) -> tuple[str, ...]:
    shown = (PROGRAM, NAME, LATITUDE, LONGITUDE, DEVICE)
    lines = [f"{name}={given[name]}" for name in shown if name in given]
    if DEVICE not in given and BALENA_DEVICE in given:
        lines.append(f"{BALENA_DEVICE}={given[BALENA_DEVICE]}")
    settings = sorted(
        name for name in given if is_source(name) and name not in shown and name not in (FILE, URL)
    )
    return (*lines, *settings, *([document.origin] if document else []))
