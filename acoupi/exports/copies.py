"""Copies of recordings for others: the file, and its data beside it."""

import filecmp
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from acoupi.audio.disk import part_path, publish
from acoupi.exports.flat import flat_detection, flat_recording
from acoupi.heard import DetectionRow, RecordingRow
from acoupi.opening import open_binary
from acoupi.writing import disk_error, write_atomic

__all__ = ["copy_recording"]


def copy_recording(
    row: RecordingRow, found: Iterable[DetectionRow], path: Path, folder: Path
) -> Path:
    """Copy the file of a recording with its sidecar (``NAME.json``); return the copy.

    A file of that name that holds the same stays; nothing is overwritten.

    Parameters
    ----------
    row, found, path
        The recording (or a clip as one), what was found in it, and its file.
    folder
        Where to; it is made if it is not there.

    Raises
    ------
    AudioError
        If another file there has the name.
    DeviceError
        If the file cannot be read, or the disk is full: then there is no copy.
    """
    target = folder / (row.path or path).name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (target.is_file() and filecmp.cmp(path, target, shallow=False)):
            _copy(path, target)
    except OSError as error:
        raise disk_error("copy to", target, error) from error
    told = {"recording": flat_recording(row), "detections": list(map(flat_detection, found))}
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    write_atomic(target.with_name(f"{target.name}.json"), text)
    return target


def _copy(path: Path, target: Path) -> None:
    part = part_path(target)
    try:
        with open_binary(path) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        publish(part, target)
    finally:
        part.unlink(missing_ok=True)
