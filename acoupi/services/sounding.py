"""Sending sound to a hub: after messages and reports, in chunks, resuming after a break.

A file is offered with the SHA-256 of the whole; the hub answers which bytes it has, so the sensor
keeps no state of an upload. Once the hub has acknowledged a file, this is noted, and only then may
the file be deleted like others.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.audio.formats import FORMATS, format_named
from acoupi.components.message_stores.outbox import LEAST_CHUNK
from acoupi.components.messengers.hub import HubMessenger, hub_words
from acoupi.components.stores.unsent import SoundStanding, Unsent, UnsentSound
from acoupi.errors import MessageSendError
from acoupi.opening import open_binary
from acoupi.reports import SoundReport
from acoupi.services.resting import MOST_REFUSED, Rest, pause
from acoupi.tasks.failures import FAILED

__all__ = ["SoundSender"]

CHUNK = 256 * 1024
"""Bytes of a chunk."""
PIECE = 64 * 1024
LONGEST_PASS = 20.0
"""Seconds after which a run stops sending: the worker has other tasks."""
OFFER_BYTES = 256
_STRANGE = "its answer is not that of a hub"


class SoundSender:
    """Sends sound that the hub lacks, within the time of a run and the budget of the day.

    Parameters
    ----------
    message_store
        Its daily budget applies; None: there is none.
    logger
        Receives the log lines of the run.
    """

    def __init__(
        self,
        unsent: UnsentSound,
        messenger: HubMessenger,
        message_store: Any,
        logger: logging.Logger,
    ) -> None:
        self.unsent, self.messenger = unsent, messenger
        self.message_store, self.logger = message_store, logger
        self._known: tuple[object, SoundReport] | None = None
        self._rest = Rest()

    def send(self, standing: SoundStanding) -> None:
        """Send sound, unless it is pausing; `standing` is the result of `unsent` at the start."""
        if not self._rest.lasts(standing.rests_until, data.utc_now()):
            _Pass(self).run(standing)

    def described(self, sound: Unsent) -> SoundReport:
        """Return the digest of a file; that of a long file is computed once, not in each run."""
        found = sound.path.stat()
        key = sound, found.st_ino, found.st_size, found.st_mtime_ns
        if self._known is None or self._known[0] != key:
            self._known = key, _described(sound)
        return self._known[1]


class _StopError(Exception):
    """Nothing more is sent in this run."""


class _RefusedError(Exception):
    """A sound cannot be sent; the message says why."""


class _Pass:
    def __init__(self, sender: SoundSender) -> None:
        self.unsent, self.messenger = sender.unsent, sender.messenger
        self.message_store, self.logger = sender.message_store, sender.logger
        self.described = sender.described
        self.end = data.monotonic() + LONGEST_PASS
        self.chunks = 0
        self.trouble: str | None = None
        self.rest = 0.0
        """Seconds that the hub asks for."""
        self.sent = self.refused = 0

    def run(self, standing: SoundStanding) -> None:
        try:
            while not self._is_over() and (sound := self.unsent.next()) is not None:
                self._send(sound)
        except _StopError:
            pass
        self._settle(standing)

    def _is_over(self) -> bool:
        """Return whether to start nothing more; at least one chunk is sent, however slowly."""
        has_begun = self.chunks or self.sent or self.refused
        return bool(has_begun) and data.monotonic() >= self.end

    def _settle(self, standing: SoundStanding) -> None:
        if self.trouble is None:
            if standing.trouble is not None and self.sent:
                self.unsent.settle(None)
                self.logger.info("%s accepts sound again", self.messenger.name)
            return
        self.unsent.settle(self.trouble, pause(standing.failures, self.rest))
        level = logging.WARNING if self.trouble != standing.trouble else logging.DEBUG
        words = "%s does not accept sound: %s. Nothing is lost: acoupi sends it again"
        self.logger.log(level, words, self.messenger.name, self.trouble, extra=FAILED)

    def _send(self, sound: Unsent) -> None:
        """Send the missing chunks of a sound, until the hub has it or it cannot be sent now."""
        try:
            offered = self.described(sound)
            received = self._offer(sound, offered)
            while received < offered.bytes:
                received = self._send_chunk(sound, offered, received)
                if received == offered.bytes:
                    received = self._offer(sound, offered)
                    if received < offered.bytes:
                        raise self._stopped(_STRANGE)
        except _RefusedError as error:
            self._refuse(sound, str(error))
        except OSError as error:  # moved since, or its disk was removed
            self._refuse(sound, f"cannot read {sound.path.name}: {error.strerror or error}")
        else:
            self.unsent.acknowledge(sound)
            self.sent += 1

    def _offer(self, sound: Unsent, offered: SoundReport) -> int:
        """Return how many bytes of a sound the hub has; all of them if it is complete."""
        self._spend(OFFER_BYTES, OFFER_BYTES)
        said = self._taken(lambda: self.messenger.offer_sound(sound.id, offered))
        received = offered.bytes if said.get("stored") else said.get("received")
        if not isinstance(received, int) or not 0 <= received <= offered.bytes:
            raise self._stopped(_STRANGE)
        return received

    def _send_chunk(self, sound: Unsent, offered: SoundReport, start: int) -> int:
        """Send a chunk; return where the next one starts."""
        if self._is_over():
            raise _StopError
        most = min(CHUNK, offered.bytes - start)
        chunk = _read(sound.path, start, self._spend(most, min(most, LEAST_CHUNK)))
        if not chunk:
            raise _RefusedError(f"{sound.path.name} became shorter while it was sent")
        self._taken(lambda: self.messenger.send_chunk(sound.id, offered.sha256, start, chunk))
        self.chunks += 1
        return start + len(chunk)

    def _spend(self, most: int, least: int) -> int:
        """Return how many bytes may be sent now; stop the run if that is not worth it."""
        store = self.message_store
        size = most if store is None else int(store.spend_on_sound(self.messenger.name, most))
        if size < least:
            raise _StopError  # not today
        return size

    def _taken(self, send: Callable[[], data.Response]) -> dict[str, Any]:
        """Return the hub's answer if it accepts a request."""
        try:
            answer = send()
        except MessageSendError as error:
            raise self._stopped(f"{error.message.rstrip('.')} ({error.why})") from error
        if answer.status is data.ResponseStatus.ERROR and not answer.is_access_refused:
            raise _RefusedError(hub_words(answer))
        if answer.status is not data.ResponseStatus.SUCCESS:
            raise self._stopped(hub_words(answer), answer.retry_after or 0)
        try:
            said = json.loads(answer.content or "")
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise self._stopped(_STRANGE)
        return said

    def _stopped(self, words: str, rest: float = 0.0) -> _StopError:
        self.trouble, self.rest = words, rest
        return _StopError()

    def _refuse(self, sound: Unsent, words: str) -> None:
        self.unsent.postpone(sound)
        self.trouble, self.refused = words, self.refused + 1
        if self.refused == MOST_REFUSED:
            raise _StopError


def _described(sound: Unsent) -> SoundReport:
    digest, size = hashlib.sha256(), 0
    with open_binary(sound.path) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    if not size:
        raise _RefusedError(f"{sound.path.name} is empty")
    kind = format_named(sound.path.suffix[1:].lower()) or FORMATS[0]
    return SoundReport.model_validate(
        {
            "is_clip": sound.is_clip,
            "format": kind.NAME,
            "bytes": size,
            "sha256": digest.hexdigest(),
        }
    )


def _read(path: Path, start: int, size: int) -> bytes:
    with open_binary(path) as file:
        file.seek(start)
        return file.read(size)
