"""The sound that a hub has: taken in from sensors in chunks, and read from wherever it is.

A chunk is an object of the audio store that is put only once; its key names the sound, the
digest of the whole, and where the chunk begins. So a sensor continues with the missing chunks
after any break, and the hub keeps no state of uploads. The row of `audio` is written when all
bytes are there and their digest is right.
"""

import datetime
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.data import to_microseconds
from acoupi.errors import HubError, HubUnavailableError, RecordingFileError
from acoupi.hub.archive_opening import open_archive
from acoupi.hub.archive_places import Archive
from acoupi.hub.audio_store import AudioStore
from acoupi.hub.database import Connection
from acoupi.hub.parts import Hub
from acoupi.reports import SoundReport

__all__ = [
    "GIVEN_UP_AFTER",
    "Sound",
    "find_sound",
    "has_job",
    "put_chunk",
    "read_audio",
    "remove_given_up",
    "take_sound",
]

GIVEN_UP_AFTER = datetime.timedelta(days=30)
"""Time without contact after which the chunks of an incomplete sound are removed."""

_OWNER = """
    SELECT r.row, w.sensor_row FROM recording r JOIN deployment w ON w.row = r.deployment_row
    WHERE r.id = :id
    UNION ALL
    SELECT r.row, w.sensor_row FROM clip c JOIN clip_part x ON x.clip_row = c.row
        JOIN recording r ON r.row = x.recording_row JOIN deployment w ON w.row = r.deployment_row
    WHERE c.id = :id
    ORDER BY 1 LIMIT 1
"""
_SOUND = """
    SELECT place, key, format, bytes, sha256, is_clip, head, first_byte FROM audio WHERE id = :id
"""
_JOB = """
    SELECT j.row FROM job j JOIN recording r ON r.row = j.recording_row
    WHERE r.id = :id AND j.program = :program
"""
_PUT_SOUND = """
    INSERT INTO audio (
        id, recording_row, is_clip, place, key, format, bytes, sha256, stored_on_us
    )
    VALUES (:id, :recording, :is_clip, '', :key, :format, :bytes, :sha256, :now)
    ON CONFLICT (id) DO NOTHING
"""
_TOUCH = """
    INSERT INTO upload (id, sha256, touched_on_us) VALUES (:id, :sha256, :now)
    ON CONFLICT (id, sha256) DO UPDATE SET touched_on_us = :now WHERE NOT upload.is_going
    RETURNING id
"""
_END_UPLOAD = "DELETE FROM upload WHERE id = :id AND sha256 = :sha256"
_GIVE_UP = """
    UPDATE upload SET is_going = true WHERE (id, sha256) IN (
        SELECT u.id, u.sha256 FROM upload u WHERE u.touched_on_us < :before
        ORDER BY u.touched_on_us LIMIT :most
    ) AND touched_on_us < :before
    RETURNING id, sha256, EXISTS (
        SELECT 1 FROM audio a WHERE a.id = upload.id AND a.sha256 = upload.sha256
    )
"""


@dataclass(frozen=True, slots=True)
class Sound:
    """A complete sound that a hub has."""

    place: str
    """Address of the store that has it; empty: the hub's own, in chunks."""
    key: str
    """Key in that store: of the file, or of the folder of its chunks."""
    format: str
    """wav or flac."""
    size: int
    """Bytes."""
    sha256: bytes
    is_clip: bool
    head: bytes = b""
    """For a part of a file in an archive: the header that makes it a complete file."""
    first_byte: int = 0
    """Where its bytes begin in that file."""


def find_sound(hub: Hub, sound: UUID) -> Sound:
    """Return the sound of a recording, or of a clip.

    Raises
    ------
    RecordingFileError
        404, if the hub has none.
    """
    with hub.database.writing() as connection:
        found = _known(connection, sound)
    if found is None:
        raise RecordingFileError(
            f"the hub has no sound of {sound}.",
            "acoupi config set --apply sensor.hub.audio all   (on the sensor)",
            why="its sensor did not send it (yet), or only clips of it, which have their own ids.",
        )
    return found


def has_job(hub: Hub, program: str, recording: UUID) -> bool:
    """Return whether a program has, or had, a job for a recording here."""
    with hub.database.writing() as connection:
        found = connection.execute(_JOB, {"program": program, "id": recording.bytes}).fetchone()
    return found is not None


def read_audio(hub: Hub, sound: UUID, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a sound from one position up to another, wherever it is stored.

    Raises
    ------
    RecordingFileError
        404, if the hub has none; 503, if its store lacks some of it.
    HubError
        If the store of the sound cannot be read.
    """
    found = find_sound(hub, sound)
    end = found.size if end is None else min(end, found.size)
    if found.place:
        yield from _read_in_place(found, start, end)
        return
    store = _store(hub)
    chunks = _chunks(store, found.key)
    if (received := _received(chunks)) < found.size:
        raise RecordingFileError(
            f"the store of the hub has {received} of the {found.size} bytes of {sound}.",
            "copy the contents of the earlier store into it, under the same names",
            why="the sound is in an earlier store, or was removed from this one.",
            status=503,
        )
    for first, size in sorted(chunks.items()):
        if first < end and start < first + size:
            wanted = max(start - first, 0), min(end - first, size)
            yield from store.stream(_chunk_key(found.key, first), *wanted)


def take_sound(hub: Hub, sensor_row: int, sound: UUID, offered: SoundReport) -> int | None:
    """Take in a sound that a sensor offers, if all of its chunks have arrived.

    Returns
    -------
    int or None
        Bytes received from the start without a gap; None: the hub has the complete sound.

    Raises
    ------
    HubError
        If the hub does not know the recording or clip, it belongs to another sensor, or there
        is other sound of it; or if the digest is wrong, and then its chunks are removed.
    """
    digest = bytes.fromhex(offered.sha256)
    with hub.database.writing() as connection:
        recording_row = _owned_row(connection, sensor_row, sound)
        known = _known(connection, sound)
    if known is not None:
        if known.sha256 != digest:
            raise HubError(f"the hub has other sound of {sound}: with the SHA-256 "
                           f"{known.sha256.hex()}, not {offered.sha256}.")  # fmt: skip
        return None
    _touch(hub, sound, digest)
    store, key = _store(hub), _key(sound, offered.sha256)
    received = _received(_chunks(store, key))
    if received < offered.bytes:
        return received
    _check_whole(store, key, digest, offered.bytes)
    values: dict[str, Any] = {"id": sound.bytes, "recording": recording_row, "key": key}
    values |= {"is_clip": offered.is_clip, "format": offered.format, "bytes": offered.bytes}
    values |= {"sha256": digest, "now": to_microseconds(data.utc_now())}
    with hub.database.writing() as connection:
        if connection.execute(f"{_END_UPLOAD} AND NOT is_going RETURNING id", values).fetchone():
            connection.execute(_PUT_SOUND, values)
        elif (known := _known(connection, sound)) is None or known.sha256 != digest:
            raise _going(sound)  # else it came twice at once
    _forget_others(store, sound, key)
    return None


def put_chunk(  # noqa: PLR0917 - what a chunk is
    hub: Hub, sensor_row: int, sound: UUID, sha256: str, start: int, chunk: bytes
) -> None:
    """Store a chunk of a sound; sending it again, or after the sound is complete, changes nothing.

    Raises
    ------
    HubError
        As `take_sound`; or if another chunk begins there.
    """
    with hub.database.writing() as connection:
        _owned_row(connection, sensor_row, sound)
        is_whole = _known(connection, sound) is not None
    if not is_whole:
        _touch(hub, sound, bytes.fromhex(sha256))
        _store(hub).put(_chunk_key(_key(sound, sha256), start), chunk)


def remove_given_up(hub: Hub, most: int = 20) -> int:
    """Remove the chunks of sounds whose upload was abandoned; return how many sounds.

    Parameters
    ----------
    most
        Most sounds to remove at a time.

    Raises
    ------
    HubError
        If the database or the store does not answer; what is left is removed the next time.
    """
    before = to_microseconds(data.utc_now() - GIVEN_UP_AFTER)
    with hub.database.writing() as connection:
        found = connection.execute(_GIVE_UP, {"before": before, "most": most}).fetchall()
    store = _store(hub)
    for sound, digest, is_there in found:
        if not is_there:
            for key in store.sizes(_key(UUID(bytes=sound), digest.hex())):
                store.delete(key)
        with hub.database.writing() as connection:
            connection.execute(_END_UPLOAD, {"id": sound, "sha256": digest})
    return len(found)


def _touch(hub: Hub, sound: UUID, digest: bytes) -> None:
    """Note that a sensor is sending a sound.

    Raises
    ------
    HubUnavailableError
        If its earlier chunks are being removed.
    """
    values = {"id": sound.bytes, "sha256": digest, "now": to_microseconds(data.utc_now())}
    with hub.database.writing() as connection:
        if connection.execute(_TOUCH, values).fetchone() is None:
            raise _going(sound)


def _going(sound: UUID) -> HubUnavailableError:
    return HubUnavailableError(
        f"the hub is removing the chunks of {sound}, because none came for "
        f"{GIVEN_UP_AFTER.days} days.",
        "send it again later, from its beginning",
    )


def _known(connection: Connection, sound: UUID) -> Sound | None:
    found = connection.execute(_SOUND, {"id": sound.bytes}).fetchone()
    return None if found is None else Sound(*found)


def _owned_row(connection: Connection, sensor_row: int, sound: UUID) -> int:
    """Return the row of the recording of a sound, which belongs to a sensor."""
    found = connection.execute(_OWNER, {"id": sound.bytes}).fetchone()
    if found is None:
        raise HubError(
            f"the hub has no recording or clip {sound}.",
            "report it first",
            why="sound is only accepted for reported recordings and clips.",
        )
    row, owner = found
    if owner != sensor_row:
        raise HubError(f"{sound} belongs to another sensor.")
    return int(row)


def _store(hub: Hub) -> AudioStore:
    if hub.audio is None:
        raise HubError(
            "this hub keeps no sound.",
            "acoupi hub serve --audio FOLDER",
            why="it was started without --audio.",
        )
    return hub.audio


def _read_in_place(sound: Sound, start: int, end: int) -> Iterator[bytes]:
    """Yield bytes of a sound of an archive: its head, and then a part of a file there."""
    archive = _archive(sound.place)
    file, skipped = archive.look(sound.key), sound.first_byte - len(sound.head)
    if file is None or file.refused or file.bytes < skipped + sound.size:
        raise RecordingFileError(
            f'the file "{sound.key}" is not in its archive any more ({sound.place}).',
            "mount the disk it is on, or run acoupi hub analyse on the folder again",
            why="it was moved or changed since it was taken in." if file is None or not file.refused
            else f"{file.refused}.",
        )  # fmt: skip
    if head := sound.head[start:end]:
        yield head
    begin = max(start, len(sound.head))
    yield from archive.content(file, skipped + begin, skipped + end)


@cache
def _archive(place: str) -> Archive:
    return open_archive(place)


def _key(sound: UUID, sha256: str) -> str:
    return f"{_folder(sound)}/{sha256}"


def _folder(sound: UUID) -> str:
    return f"{sound.hex[-2:]}/{sound.hex}"


def _chunk_key(key: str, start: int) -> str:
    return f"{key}/{start:015d}"


def _chunks(store: AudioStore, key: str) -> dict[int, int]:
    """Return the start of each chunk, and its size in bytes."""
    return {int(name.rpartition("/")[2]): size for name, size in store.sizes(key).items()}


def _received(chunks: dict[int, int]) -> int:
    end = 0
    while end in chunks:
        end += chunks[end]
    return end


def _check_whole(store: AudioStore, key: str, digest: bytes, size: int) -> None:
    """Remove the chunks of a sound whose digest is wrong."""
    whole, length, chunks = hashlib.sha256(), 0, _chunks(store, key)
    while length in chunks:
        for piece in store.stream(_chunk_key(key, length)):
            whole.update(piece)
        length += chunks[length]
    if (length, whole.digest()) == (size, digest):
        return
    for first in chunks:
        store.delete(_chunk_key(key, first))
    raise HubError(
        f"the sound does not match its digest: {length} bytes with the SHA-256 "
        f"{whole.hexdigest()} arrived, not {size} bytes with {digest.hex()}.",
        "send it again, from its beginning",
    )


def _forget_others(store: AudioStore, sound: UUID, key: str) -> None:
    """Delete the chunks of an earlier state of a file."""
    for name in store.sizes(_folder(sound)):
        if not name.startswith(f"{key}/"):
            store.delete(name)
