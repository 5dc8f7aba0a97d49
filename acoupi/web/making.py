"""Pictures and sound from a separate process, cached for a while."""

import asyncio
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from starlette.concurrency import run_in_threadpool

from acoupi.errors import AcoupiError, AudioError
from acoupi.web.child import ASKED, ASKS, BEGINNING, FAILED, HEAD, LENGTH
from acoupi.web.remote import Read

__all__ = ["BusyError", "Workshop"]

MOST_WAITING = 8
DEADLINE = 60.0
"""For one picture or one piece of sound, seconds."""
KEPT_BYTES = 64 * 1024 * 1024
LARGEST_BYTES = 512 * 1024 * 1024
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class BusyError(AcoupiError):
    """Too many requests are waiting already."""


class Workshop:
    """Makes one file at a time, and caches them.

    Parameters
    ----------
    folder
        Folder of the cache, up to `KEPT_BYTES`; the least recently used go first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    async def made(self, order: Mapping[str, Any], suffix: str, read: Read) -> Path:
        """Return the file for an order to `acoupi.web.child`.

        Parameters
        ----------
        order
            The order; the same order has the same result.
        suffix
            Of the file.
        read
            Returns a piece of the recording; it may block.

        Raises
        ------
        AudioError
            If the recording cannot be read, or it takes too long.
        BusyError
            If too many are waiting already.
        AcoupiError
            Whatever `read` raises.
        """
        text = json.dumps(order, sort_keys=True).encode()
        path = self._folder / f"{hashlib.sha256(text).hexdigest()}{suffix}"
        if self._waiting >= MOST_WAITING:
            raise BusyError(
                "this cannot be made now.",
                "try again in some seconds",
                why=f"{MOST_WAITING} other pictures are waiting.",
            )
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                if not await run_in_threadpool(_is_kept, path):
                    await self._make(text, path, read)
        finally:
            self._waiting -= 1
        return path

    async def _make(self, text: bytes, path: Path, read: Read) -> None:
        part = path.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                async with asyncio.timeout(DEADLINE):
                    await _carry_out(text, read, file)
            part.replace(path)
        except OSError as error:  # a TimeoutError is one, too
            late = isinstance(error, TimeoutError)
            raise AudioError(
                "this cannot be made.",
                "choose a shorter part" if late else f"df -h {self._folder}",
                why=f"it was not ready after {DEADLINE:g} s." if late else f"{error}.",
            ) from error
        finally:
            part.unlink(missing_ok=True)
        await run_in_threadpool(_make_room, self._folder, path)


async def _carry_out(text: bytes, read: Read, file: BinaryIO) -> None:
    """Have a separate process carry out an order, and write the result."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "acoupi.web.child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **_ONE_THREAD},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await _send(process.stdin, text)
        while await _answered(process.stdin, process.stdout, read, file):
            pass
        code = await process.wait()
        if code:
            raise _failure(f"the process that makes it ended with exit code {code}; see the log.")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answered(
    sink: asyncio.StreamWriter, source: asyncio.StreamReader, read: Read, file: BinaryIO
) -> bool:
    """Deal with what the child says next; return whether there was anything."""
    try:
        kind, length = HEAD.unpack(await source.readexactly(HEAD.size))
        content = await source.readexactly(length)
    except asyncio.IncompleteReadError:
        return False
    if kind == ASKS:
        await _send(sink, await run_in_threadpool(read, *ASKED.unpack(content)))
    elif kind == FAILED:
        told = json.loads(content)
        raise AudioError(told["message"], told["help"], why=told["why"])
    else:
        if kind == BEGINNING:
            file.seek(0)
        await run_in_threadpool(file.write, content)
        if file.tell() > LARGEST_BYTES:
            raise _failure("it would be too large: choose a shorter part.")
    return True


async def _send(sink: asyncio.StreamWriter, content: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # its end is noticed by who reads from it
        sink.write(LENGTH.pack(len(content)) + content)
        await sink.drain()


def _failure(why: str) -> AudioError:
    return AudioError("this cannot be made.", "download the file instead", why=why)


def _is_kept(path: Path) -> bool:
    """Return whether it is there, and remember that it was asked for."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True


def _make_room(folder: Path, newest: Path) -> None:
    """Remove the least recently used files, but not the newest one."""
    files = sorted(
        ((one.stat().st_mtime, one.stat().st_size, one) for one in folder.iterdir()), reverse=True
    )
    whole = 0
    for _, size, path in files:
        whole += size
        if whole > KEPT_BYTES and path != newest:
            path.unlink(missing_ok=True)
