"""Reading what the sensors of a hub heard, over HTTP, with the token of a person."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, TypeVar, cast
from urllib.parse import urlsplit
from uuid import UUID

import requests
from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError

import acoupi
from acoupi.components.stores.reader import StatementReader
from acoupi.deferred import DeferredModel
from acoupi.door.wire import Answer, Trouble, pack, parse, result_of, rows_of
from acoupi.errors import HubError, HubUnavailableError, RecordingFileError
from acoupi.exports.calling import CalledReader, called
from acoupi.fleet.room import SensorRoom
from acoupi.heard import RecordingRow, Verdict, VerdictRow

__all__ = ["MOST_ANSWER", "READING", "READING_VERSION", "Call", "NewVerdict", "RemoteReader"]

READING, READING_VERSION = "Acoupi-Reading", "1"
"""The header with the version of a hub's answers."""
MOST_ANSWER = 64 * 2**20
"""Bytes of one answer, or of some rows of one."""
CONNECTING = 10.0
"""Seconds to wait for a connection."""
PATIENCE = 90.0
"""Seconds to wait for the next bytes; the hub gives its database 60 s for an answer."""
CHUNK = 2**16

_SECONDS = re.compile("[0-9]{1,6}")

T = TypeVar("T")


class _Strict(DeferredModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Call(_Strict):
    """A call of a method of a reader, which the address names."""

    arguments: dict[str, Any] = Field(default_factory=dict)


class NewVerdict(_Strict):
    """A verdict of a person, whom the hub knows by the token; see `VerdictRow`."""

    recording_id: UUID
    detection_id: UUID | None
    verdict: Verdict
    species: str | None = Field(max_length=200)
    note: str = Field(max_length=10_000)
    given_on: AwareDatetime


class RemoteReader(CalledReader):
    """Reads what sensors reported to a hub, over HTTP; see `acoupi.exports.Reader`.

    Parameters
    ----------
    url
        Of the hub: ``https://HOST``.
    token
        Of a person (``acoupi hub add-person``).

    Raises
    ------
    HubError
        From every method: the token is not valid, or not for this; the hub is of another version;
        or it refuses.
    HubUnavailableError
        From every method: the hub cannot be reached, does not answer in time, or ends before all
        was read.
    """

    def __init__(self, url: str, token: str) -> None:
        self._hub = _Hub(url, token)
        self._sounds: Path | None = None
        super().__init__(self._hub)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and remove what was fetched."""
        self._hub.close()
        if self._sounds is not None:
            shutil.rmtree(self._sounds, ignore_errors=True)

    get_grouped_effort = called(StatementReader.get_grouped_effort)
    get_given_up = called(StatementReader.get_given_up)
    count_given_up = called(StatementReader.count_given_up)

    # What no reader of one sensor does

    def rooms(self) -> list[SensorRoom]:
        """Return how much room every sensor has."""
        with self._hub.asked("GET", "room") as answer:
            (found,) = self._hub.answers(answer)
            return self._hub.understood(_ROOMS.validate_python, found.result)

    def add_verdict(self, verdict: VerdictRow) -> str:
        """Store a verdict on a detection or a recording; return the name it was stored under."""
        said = {name: one for name, one in asdict(verdict).items() if name != "reviewer"}
        body = NewVerdict(**said).model_dump_json().encode()
        with self._hub.asked("POST", "verdicts", body) as answer:
            return str(self._hub.understood(lambda: answer.json()["reviewer"]))

    def with_sound(self, row: RecordingRow) -> RecordingRow:
        """Return a recording, or a clip of one, with its file, fetched from the hub.

        Raises
        ------
        RecordingFileError
            If the hub does not have its sound.
        """
        if self._sounds is None:
            self._sounds = Path(tempfile.mkdtemp(prefix="acoupi-hub-"))
        file = self._sounds / f"{row.id}{row.path.suffix if row.path else ''}"
        if not file.exists():
            for one in self._sounds.iterdir():  # one at a time is looked at
                one.unlink()
            self._hub.fetch(f"audio/{row.id}", file)
        return replace(row, path=file)


_ROOMS = TypeAdapter(list[SensorRoom])


class _Hub:
    """Makes calls at a hub."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._place = urlsplit(url).netloc.rpartition("@")[2]
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"acoupi/{acoupi.__version__}"
        self._session.auth = _Bearer(token)

    def close(self) -> None:
        self._session.close()

    def call(self, function: Callable[..., T], **given: Any) -> T:
        """Return what a method of the reader returns."""
        plain, read = self.plain(function, **given), cast("Callable[..., T]", result_of)
        return self.understood(read, function, plain)

    def plain(self, function: Callable[..., Any], **given: Any) -> Any:
        """Return what a method of the reader returns, as JSON holds it."""
        with self._called(function, given) as answer:
            (found,) = self.answers(answer)
            return found.result

    def rows(self, function: Callable[..., Iterator[T]], **given: Any) -> Iterator[T]:
        """Yield what a method of the reader yields."""
        with self._called(function, given) as answer:
            for some in self.answers(answer):
                yield from self.understood(rows_of, function, some.result)

    def fetch(self, path: str, file: Path) -> None:
        """Download a path of the hub into a file, completely or not at all."""
        part = file.with_suffix(".part")
        with self.asked("GET", path) as answer, part.open("wb") as stream:
            for chunk in answer.iter_content(CHUNK):
                stream.write(chunk)
        part.rename(file)

    def _called(self, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        body = pack(Call(arguments=dict(given)))
        return self.asked("POST", f"read/{function.__name__}", body)

    @contextmanager
    def asked(
        self, method: str, path: str, body: bytes | None = None
    ) -> Iterator[requests.Response]:
        """Send a request to the hub, and yield its answer while it is read."""
        try:
            with self._session.request(
                method,
                f"{self._url}/v1/{path}",
                data=body,
                timeout=(CONNECTING, PATIENCE),
                stream=True,
                allow_redirects=False,
            ) as answer:
                self._require_good(answer, is_read=not path.startswith("audio"))
                yield answer
        except requests.Timeout as error:
            raise HubUnavailableError(
                f"the hub at {self._place} did not answer in time.",
                "ask for less (--from, --to), or try again later",
                why=f"no data for {_seconds_of(error):g} s.",
            ) from error
        except requests.RequestException as error:
            is_distrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
            raise HubUnavailableError(
                f"the hub at {self._place} cannot be reached, or closed the connection too early.",
                "export REQUESTS_CA_BUNDLE=FILE   (of its authority: ca/ca.pem of the hub)"
                if is_distrusted
                else "check the address and the network",
                why=f"{_root(error)}.",
            ) from error

    def answers(self, answer: requests.Response) -> Iterator[Answer]:
        """Yield the answers of an exchange; the last one is marked as such."""
        rest, more = b"", True
        for chunk in answer.iter_content(CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                found: Answer = self.understood(parse, line, Answer, MOST_ANSWER)
                if found.error is not None:
                    raise self._told(found.error)
                more = found.more
                yield found
        if more or rest:
            raise HubUnavailableError(
                f"the hub at {self._place} closed the connection before all was read.",
                "try again; ask for less (--from, --to) if it happens again",
                why="the last rows are missing: its time limit was reached, or it was stopped.",
            )

    def understood(self, read: Callable[..., T], *of: Any) -> T:
        """Return what was read of an answer."""
        try:
            return read(*of)
        except (ValueError, KeyError, TypeError) as error:
            raise self._other_version(f"its answer cannot be read: {_short(error)}") from error

    def _told(self, trouble: Trouble) -> HubError:
        return HubError(
            f"the hub at {self._place} could not answer: {trouble.message}",
            "try again later",
            why=trouble.why,
        )

    def _require_good(self, answer: requests.Response, *, is_read: bool) -> None:
        status, version = answer.status_code, answer.headers.get(READING)
        if status < requests.codes.multiple_choices:
            if is_read and version != READING_VERSION:
                raise self._other_version(
                    f"its answers have version {version}, not {READING_VERSION}"
                )
            return
        said = _said(answer)
        why = said or f"it answered HTTP {status}."
        if status == requests.codes.unauthorized:
            raise HubError(
                f"the hub at {self._place} does not know this token.",
                "export ACOUPI_HUB_TOKEN=…   (acoupi hub add-person, at the hub, makes one)",
                why=why,
            )
        if status == requests.codes.forbidden:
            raise HubError(
                f"the hub at {self._place} does not let you do this.",
                "ask its operator for another role",
                why=why,
            )
        if status < requests.codes.bad_request or (status == requests.codes.not_found and not said):
            raise self._other_version(f"there is nothing to read there (HTTP {status})")
        if status == requests.codes.not_found and not is_read:
            raise RecordingFileError(
                "the hub does not have this sound.",
                "listen on the sensor, or let it send its sound",
                why=why,
                status=status,
            )
        is_later = status >= requests.codes.server_error
        kind = HubUnavailableError if is_later else HubError
        refusal = kind(
            f"the hub at {self._place} refused: HTTP {status}.",
            "try again later" if is_later else "acoupi --version   (the hub's may differ)",
            why=why,
        )
        seconds = answer.headers.get("Retry-After", "")
        if isinstance(refusal, HubUnavailableError) and _SECONDS.fullmatch(seconds):
            refusal.retry_after = float(seconds)
        raise refusal

    def _other_version(self, why: str) -> HubError:
        return HubError(
            f"this is not a hub, or one of another version ({self._place}).",
            "check the address, and use the same acoupi as the hub",
            why=f"{why}.",
        )


class _Bearer(requests.auth.AuthBase):
    """Shows a token; without this, requests would look for a login in a file of its own."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _said(answer: requests.Response) -> str:
    """Return what a hub says of a refusal; empty: nothing, or it is no hub."""
    try:
        found = json.loads(next(answer.iter_content(CHUNK), b""))
        return str(found["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _seconds_of(error: requests.Timeout) -> float:
    return CONNECTING if isinstance(error, requests.ConnectTimeout) else PATIENCE


def _root(error: BaseException) -> str:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return _short(error)


def _short(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())[:200] or type(error).__name__
