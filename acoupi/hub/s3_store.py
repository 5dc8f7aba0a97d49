"""A bucket of an S3-compatible store, through obstore."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store as Bucket

from acoupi import clock
from acoupi.errors import HubError, HubFullError, HubUnavailableError
from acoupi.hub.pieces import PIECE, check_same

__all__ = ["S3Store"]

PATIENCE = timedelta(seconds=20)
"""Time limits for one request, and for it with all of its retries."""
REPETITIONS = 2
REST = 30.0
"""Seconds without requests after one got no answer: each would block a thread."""
_FULL = ("QuotaExceeded", "StorageFull", "InsufficientStorage")
"""Codes with which stores report a full bucket or disk."""
_STATUS = re.compile(r"status code: ([0-9]{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_ASKED_FOR_KEYS = "/latest/"
"""Without keys, the library asks Amazon's machines for them."""


class S3Store:
    """Keeps sound in a bucket; see `acoupi.hub.audio_store.AudioStore`.

    Parameters
    ----------
    bucket
        Its name. Endpoint and keys are the variables ``AWS_…``.
    prefix
        Prefix of every key; empty: none.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        self._name = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = Bucket(
            bucket,
            prefix=prefix or None,
            client_options={"allow_http": endpoint.startswith("http://"), "timeout": PATIENCE},
            retry_config={"max_retries": REPETITIONS, "retry_timeout": PATIENCE},
        )
        self._silent: tuple[str, float] | None = None
        """The last failure, and until when no request is made."""

    def put(self, key: str, content: bytes) -> None:
        """Put an object that does not exist yet; see `AudioStore`."""
        with self._told():
            try:
                obstore.put(self._bucket, key, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                check_same(key, obstore.get(self._bucket, key).bytes().to_bytes(), content)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the objects below a prefix; see `AudioStore`."""
        with self._told():
            found = obstore.list(self._bucket, prefix=prefix)
            return {one["path"]: one["size"] for some in found for one in some}

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an object; see `AudioStore`."""
        with self._told():
            if end is None:
                end = obstore.head(self._bucket, key)["size"]
            while start < end:
                until = min(start + PIECE, end)
                yield obstore.get_range(self._bucket, key, start=start, end=until).to_bytes()
                start = until

    def delete(self, key: str) -> None:
        """Delete an object; see `AudioStore`."""
        with self._told():
            try:
                obstore.delete(self._bucket, key)
            except FileNotFoundError:
                return

    @contextmanager
    def _told(self) -> Iterator[None]:
        if self._silent and clock.monotonic() < self._silent[1]:
            raise self._error(self._silent[0])
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            said = str(error)
            if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in said:
                raise HubError(
                    f"the store of the hub's sound has no such key ({self._name})."
                ) from error
            if not _STATUS.search(said):
                self._silent = said, clock.monotonic() + REST
            raise self._error(said) from error

    def _error(self, said: str) -> HubUnavailableError:
        status, code = _STATUS.search(said), _CODE.search(said)
        reason = code[1] if code else f"HTTP {status[1]}" if status else None
        if (status and status[1] == "507") or any(one in said for one in _FULL):
            return HubFullError(
                f"the hub has no room for more sound ({self._name}: {reason}).",
                "make room in the bucket, or raise its quota",
            )
        does = "does not answer" if status is None else "is failing"
        if status and status[1][0] == "4":
            does = "refuses"
        if _ASKED_FOR_KEYS in said:
            does, reason = "cannot be used", "there are no keys"
        return HubUnavailableError(
            f"the store of the hub's sound {does} ({self._name}{f': {reason}' if reason else ''}).",
            "check the store, and the variables AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_REGION",
            why=said.splitlines()[0][:300] if said else None,
        )
