"""Databases of tests, and other processes that use them."""

import os
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acoupi import data

__all__ = ["SITE", "count", "in_child", "recording"]


SITE = data.Deployment(name="Pond")


def recording(path: str | None = None) -> data.Recording:
    return data.Recording(
        path=None if path is None else Path(path), duration=1, samplerate=48_000, deployment=SITE
    )


def in_child(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a forked process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer: Any
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001 - the parent shows it
            answer = repr(error)
        os.write(writer, pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = pickle.loads(stream.read())
    os.waitpid(pid, 0)
    return answer


def count(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    connection.close()
    return int(found)
