"""Recordings on which a task is run by hand."""

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from acoupi.cli import home
from acoupi.errors import AudioError, ParameterError
from acoupi.home import expanded

if TYPE_CHECKING:
    from acoupi import data
    from acoupi.programs import AcoupiProgram
    from acoupi.stack.settings import Settings
    from acoupi.system.sensor import Sensor

__all__ = ["program_with_folder", "program_with_recording"]

SCRATCH_FIELDS = (
    "paths.tmp_audio",
    "paths.recordings",
    "paths.db_metadata",
    "messaging.messages_db",
)


@contextmanager
def program_with_recording(
    found: "Sensor", text: str | None
) -> Iterator[tuple["AcoupiProgram[Any]", "data.Recording | None"]]:
    """Return the program of the home, and the recording that a text means.

    A recording of the sensor is processed in the sensor's databases. For any other file
    the program gets temporary databases, so that its detections are not mixed with those
    of the sensor.

    Parameters
    ----------
    text
        A WAV file, or the id of a recording; None: no recording.

    Raises
    ------
    ParameterError
        If there is no such recording.
    AudioError
        If the file is not WAV.
    """
    program = home.load(found)
    if text is None:
        yield program, None
        return
    recording, stored = _find(program, text)
    if stored:
        yield program, recording
        return
    with tempfile.TemporaryDirectory(prefix="acoupi-") as folder:
        scratch = _scratch_program(found.settings, program, Path(folder))
        getattr(scratch, "store").store_recording(recording)  # noqa: B009 - not every program has one
        yield scratch, recording


@contextmanager
def program_with_folder(
    found: "Sensor", folder: Path
) -> Iterator[tuple["AcoupiProgram[Any]", Iterator["data.Recording | AudioError"]]]:
    """Return the program of the home with temporary databases, and the recordings in a folder.

    Subfolders are included. One program processes all recordings, so that a model loads its
    weights once. For a file that holds no sound, its error is returned.

    Raises
    ------
    ParameterError
        If there is no sound file.
    """
    from acoupi.audio import formats

    found_files = (one for one in folder.rglob("*") if one.is_file())
    files = sorted(one for one in found_files if formats.is_sound_file(one.name))
    if not files:
        raise ParameterError(
            str(folder),
            f'there is no recording in "{folder}".',
            f"ls {shlex.quote(str(folder))}",
            why=f"no file there ends in {formats.endings()}.",
        )
    with tempfile.TemporaryDirectory(prefix="acoupi-") as scratch_folder:
        scratch = _scratch_program(found.settings, home.load(found), Path(scratch_folder))

        def recordings() -> Iterator["data.Recording | AudioError"]:
            for path in files:
                try:
                    recording, _ = _read(path.absolute())
                except AudioError as error:
                    yield error
                    continue
                getattr(scratch, "store").store_recording(recording)  # noqa: B009 - as above
                yield recording

        yield scratch, recordings()


def _find(program: "AcoupiProgram[Any]", text: str) -> tuple["data.Recording", bool]:
    """Return a recording, and whether the sensor knows it."""
    path = expanded(text).absolute()
    if not path.exists():
        return _stored(program, text), True
    recording, ours = _read(path)
    known = _in_store(program, recording.id) if ours else None
    return (known, True) if known is not None and known.path == path else (recording, False)


def _in_store(program: "AcoupiProgram[Any]", recording_id: UUID) -> "data.Recording | None":
    store = getattr(program, "store", None)
    found = store.get_recordings([recording_id]) if store is not None else []
    return found[0][0] if found else None


def _stored(program: "AcoupiProgram[Any]", text: str) -> "data.Recording":
    try:
        recording = _in_store(program, UUID(text))
    except ValueError:
        recording = None
    if recording is None:
        raise ParameterError(
            text,
            f'there is no recording "{text}".',
            "ls *.wav",
            why="it is neither a file nor the id of a recording of this sensor.",
        )
    if recording.path is None or not recording.path.exists():
        raise ParameterError(
            text,
            f'the recording "{text}" no longer has a file.',
            "choose a recording that was kept",
            why="the saving filters deleted it, or it was lost.",
        )
    return recording


def _read(path: Path) -> tuple["data.Recording", bool]:
    """Return the metadata of a file, and whether a sensor recorded it."""
    from acoupi.audio import foreign, formats

    try:
        return formats.read_recording(path), True
    except AudioError:
        return foreign.describe_file(path), False


def _scratch_program(
    found: "Settings", program: "AcoupiProgram[Any]", folder: Path
) -> "AcoupiProgram[Any]":
    """Return the program with its databases in another folder."""
    from acoupi.config import get_config_field, set_config_field
    from acoupi.services.broker import make_app
    from acoupi.services.construction import construct

    config = program.config
    for name in SCRATCH_FIELDS:
        try:
            get_config_field(config, name)
        except ParameterError:
            continue
        config = set_config_field(config, name, folder / name)
    return construct(type(program), config, make_app(found), type(program).__name__)
