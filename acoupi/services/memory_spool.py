"""The spool: recordings that wait in memory while a recorder's worker is running."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acoupi.audio.memory import MemorySpool, make_memory_folder
from acoupi.components.audio_recorder.base import BaseAudioRecorder
from acoupi.components.types import Store
from acoupi.config.sensor import Spool
from acoupi.programs import AcoupiProgram
from acoupi.stack.settings import Settings
from acoupi.stack.web import is_contained

__all__ = ["keeping_in_memory", "spool_of"]

logger = logging.getLogger(__name__)

_MEBIBYTE = 1 << 20


def spool_of(program: AcoupiProgram[Any]) -> Path | None:
    """Return the folder in which the recordings of a program wait; None if it has none."""
    recorder = getattr(program, "recorder", None)
    folder = getattr(getattr(program.config, "paths", None), "tmp_audio", None)
    is_known = isinstance(recorder, BaseAudioRecorder) and isinstance(folder, Path)
    return folder if is_known else None


@contextmanager
def keeping_in_memory(
    program: AcoupiProgram[Any], settings: Settings, spool: Spool
) -> Iterator[None]:
    """Let the recorder use memory while the block runs; then move its recordings to the disk."""
    folder = spool_of(program)
    if not spool.memory_mb or folder is None:
        yield
        return
    if not is_contained(settings):
        make_memory_folder(folder)
    memory = MemorySpool(folder, spool.memory_mb * _MEBIBYTE)
    if not memory.is_there:
        logger.warning("Recordings wait on the disk: %s is not in memory.", memory.folder)
    program.recorder.memory = memory  # type: ignore[attr-defined]
    try:
        yield
    finally:
        moved = memory.empty(_Renaming(program.store))  # type: ignore[attr-defined]
        if moved:
            logger.info("%d recordings that waited in memory were moved to the disk.", moved)


class _Renaming:
    """Tells the store that a recording waits in another folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, old: Path, new: Path) -> None:
        for recording, _ in self._store.get_recordings_info_by_path([old]):
            self._store.store_recording(recording.model_copy(update={"path": new}))
