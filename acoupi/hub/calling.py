"""The HTTP client of a worker for its hub."""

import hashlib
import shutil
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from pydantic import BaseModel, SecretStr

from acoupi.components.messengers.exchange import DeadlineError, DeadlineSession
from acoupi.components.messengers.http import root_cause
from acoupi.errors import ConfigurationError, HubError, HubUnavailableError

__all__ = ["HubClient"]

PATIENCE = 60.0
"""Seconds for a request and its whole response."""
SLOWEST = 20_000
"""Bytes a second; a slower download of sound is repeated later."""
CHUNK = 2**16

M = TypeVar("M", bound=BaseModel)


class HubClient:
    """Calls a hub; safe to use from several threads.

    Parameters
    ----------
    url
        Of the hub.
    token
        Of the worker there.
    ca
        Certificates of the authority that signed the hub's; None: those of this machine.

    Raises
    ------
    HubUnavailableError
        From every method: it does not answer, or not now.
    HubError
        It refuses the request.
    ConfigurationError
        The token is not valid (any more).
    """

    def __init__(self, url: str, token: SecretStr, ca: Path | None = None) -> None:
        self._url, self._token, self._ca = url.rstrip("/"), token, ca

    def get(self, path: str, model: type[M]) -> M:
        """GET a path; return the response."""
        return model.model_validate(self._ask("GET", path).json())

    def post(self, path: str, body: BaseModel) -> Any:
        """POST to a path; return the response."""
        return self._ask("POST", path, body.model_dump_json().encode()).json()

    def fetch(self, path: str, file: Path, size: int, sha256: str) -> None:
        """Fetch a file; it is complete and correct, or does not exist."""
        _need_room(file.parent, size)
        part = file.with_name(f".{file.name}.part")
        try:
            self._fetch(path, part, size, sha256)
            part.rename(file)
        finally:
            part.unlink(missing_ok=True)

    def _fetch(self, path: str, part: Path, size: int, sha256: str) -> None:
        digest = hashlib.sha256()

        def exchange(session: DeadlineSession) -> int:
            fetched = 0
            with self._request(session, "GET", path, stream=True) as answer, part.open("wb") as to:
                _require(answer, self._url)
                for chunk in answer.iter_content(CHUNK):
                    fetched += to.write(chunk)
                    digest.update(chunk)
            return fetched

        fetched = self._within(exchange, PATIENCE + size / SLOWEST)
        if fetched != size:
            raise HubUnavailableError(
                "the hub did not send all of a recording.",
                "nothing: acoupi fetches it again",
                why=f"{fetched} of {size} bytes arrived.",
            )
        if digest.hexdigest() != sha256:
            raise HubError(
                "the hub sent other sound than it had stored.",
                "run acoupi hub analyse on its folder again, if it is from an archive",
                why="its file has changed since, or is damaged.",
            )

    def _ask(self, method: str, path: str, body: bytes | None = None) -> requests.Response:
        def exchange(session: DeadlineSession) -> requests.Response:
            answer = self._request(session, method, path, data=body)
            _require(answer, self._url)
            return answer

        answer: requests.Response = self._within(exchange, PATIENCE)
        return answer

    def _within(self, exchange: Any, seconds: float) -> Any:
        with DeadlineSession() as session:
            session.trust_env = self._ca is None  # else environment variables would take precedence
            session.verify = True if self._ca is None else str(self._ca)
            try:
                return session.within(seconds, lambda: exchange(session))
            except (requests.RequestException, DeadlineError) as error:
                raise HubUnavailableError(
                    f"the hub does not answer ({self._url}).",
                    "check that acoupi hub serve is running there",
                    why=f"{root_cause(error)}.",
                ) from error

    def _request(
        self, session: DeadlineSession, method: str, path: str, **options: Any
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        return session.request(
            method,
            f"{self._url}{quote(path)}",
            headers=headers,
            auth=lambda request: request,  # no credentials from a .netrc file
            timeout=PATIENCE,
            allow_redirects=False,
            **options,
        )


def _need_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise HubError(
            f"a recording of {size / 1e6:.0f} MB does not fit into the folder of this worker.",
            "TMPDIR=FOLDER acoupi hub work, with a folder on a disk that has more room",
            why=f"there are {free / 1e6:.0f} MB free in {folder}.",
        )


def _require(answer: requests.Response, url: str) -> None:
    """Raise unless the response is a success."""
    if answer.status_code == requests.codes.ok:
        return
    try:
        words = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        words = answer.reason or "no reason given"
    words = f"{words.rstrip('.')} (HTTP {answer.status_code})."
    if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
        raise ConfigurationError(
            f"the hub does not accept this worker's token ({url}).",
            "acoupi hub add-worker NAME --program P, at the hub, and use its token here",
            why=words,
        )
    if answer.status_code >= requests.codes.server_error:
        raise HubUnavailableError(
            f"the hub cannot answer now ({url}).", "nothing: acoupi asks again", why=words
        )
    raise HubError(
        f"the hub refuses a request of this worker ({url}).", "see the reason", why=words
    )
