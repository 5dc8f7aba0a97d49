"""Sound files of other recorders: their metadata, as far as it can be read."""

import datetime
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from acoupi import data
from acoupi.audio import formats, riff
from acoupi.audio.disk import open_sound
from acoupi.audio.guano import position, time_expansion, time_told, true_samplerate
from acoupi.audio.writer import SoundInfo
from acoupi.errors import AudioError

__all__ = ["Described", "describe_file", "in_zone", "read_described", "read_true_info"]

_HEAD = 4096
_ROUNDING = 0.01
_COMMENT = re.compile(
    rb"Recorded at (\d\d:\d\d:\d\d) (\d\d)/(\d\d)/(\d{4}) \(UTC(?:([+-])(\d\d?)(?::(\d\d))?)?\)"
)
"""What an AudioMoth writes before its samples."""
_NAME = re.compile(
    r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)[ _T$-]?(\d\d)[-_]?(\d\d)[-_]?(\d\d)(\.\d{1,6})?"
    r"(Z|(?<=T\d{6})[+-]\d{4})?(?!\d)"
)
"""Also as Bugg writes it, ``2023-05-02T11_05_03.000Z``, and Frontier Labs,
``20230502T110503+1000``."""
_WAMD_TIME, _WAMD_PLACE = 5, 6


class Described(NamedTuple):
    """The metadata of a sound file."""

    info: SoundInfo
    samplerate: int
    """Samplerate of the original sound, Hz."""
    time_expansion: float
    began: datetime.datetime | None
    """Start time from the file or its name: naive without a zone; None: unknown."""
    position: tuple[float, float] | None
    """Latitude and longitude, degrees."""

    @property
    def duration(self) -> float:
        """Length of the original sound, seconds."""
        return self.info.frames / self.samplerate


def read_described(path: Path, name: str | None = None) -> Described:
    """Read the metadata of a sound file of any recorder.

    Rate, time expansion, time and place are taken one by one from where they can
    be read: GUANO; the ``wamd`` chunk of Wildlife Acoustics; the comment of an
    AudioMoth; at last, a time in the file's name.

    Parameters
    ----------
    path
        The file.
    name
        As the recorder called it, if `path` is a copy of another name.

    Raises
    ------
    AudioError
        If it is not a sound file, is cut off, or holds no sound.
    """
    info, (guano, wamd) = formats.read_info(path), _fields_of(path)
    if not info.frames:
        raise formats.no_sound(path)
    samplerate = true_samplerate(guano, info.samplerate)
    expansion = time_expansion(guano)
    if expansion == 1 and abs(samplerate / info.samplerate - 1) > _ROUNDING:
        expansion = samplerate / info.samplerate  # the rate tells of it, too
    began = (
        time_told(guano)
        or time_told(wamd)
        or _time_in_comment(path)
        or _time_in_name(Path(name or path.name))
    )
    return Described(info, samplerate, expansion, began, position(guano) or position(wamd))


def in_zone(told: datetime.datetime, zone: datetime.tzinfo = datetime.UTC) -> datetime.datetime:
    """Return a time in UTC; a naive one is that of clocks in a zone.

    Examples
    --------
    >>> from zoneinfo import ZoneInfo
    >>> str(in_zone(datetime.datetime(2024, 7, 1, 23, 30), ZoneInfo("Europe/London")))
    '2024-07-01 22:30:00+00:00'
    """
    return (told if told.tzinfo else told.replace(tzinfo=zone)).astimezone(datetime.UTC)


def describe_file(path: Path) -> data.Recording:
    """Describe a sound file of any recorder, as `read_described` reads it.

    A time without a zone is taken as UTC; where none is told, it is that at which the file was
    last changed.

    Returns
    -------
    Recording
        Its id depends on the path alone, and its deployment is called "none".

    Raises
    ------
    AudioError
        If it is not a sound file, is cut off, or holds no sound.
    """
    found = read_described(path)
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    began = in_zone(found.began or changed)
    latitude, longitude = found.position or (None, None)
    return data.Recording(
        path=path,
        duration=found.duration,
        samplerate=found.samplerate,
        audio_channels=found.info.channels,
        time_expansion=found.time_expansion,
        created_on=began,
        deployment=data.Deployment(
            name="none", started_on=began, latitude=latitude, longitude=longitude
        ),
        id=data.derived_id("file", path),
    )


def read_true_info(path: Path) -> SoundInfo:
    """Read the header of a file, with the rate of the original sound in place of its own.

    Raises
    ------
    AudioError
        If it is not a sound file, or cut off.
    """
    info = formats.read_info(path)
    rate = true_samplerate(_fields_of(path)[0], info.samplerate)
    return SoundInfo(rate, info.channels, info.bits, info.frames)


def _fields_of(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the GUANO fields, and those of the wamd chunk under the same names."""
    guano: dict[str, str] = {}
    wamd: dict[str, str] = {}
    with suppress(AudioError):
        guano = formats.read_guano(path)
    with suppress(AudioError), open_sound(path) as file:
        chunk = riff.read_layout(file, path).wamd
        if chunk is not None:
            file.seek(chunk.offset)
            wamd = _parse_wamd(file.read(min(chunk.size, _HEAD)))
    return guano, wamd


def _parse_wamd(content: bytes) -> dict[str, str]:
    r"""Return time and place of a wamd chunk: entries of an id, a size and a text.

    Examples
    --------
    >>> _parse_wamd(struct.pack("<HI", 6, 24) + b"WGS84,51.5,N,0.25,W\0\0\0\0\0")
    {'Loc Position': '51.5 -0.25'}
    """
    fields = {}
    while len(content) >= 6:
        kind, size = struct.unpack("<HI", content[:6])
        text = content[6 : 6 + size].decode("utf-8", errors="replace").strip("\0 ")
        content = content[6 + size :]
        if kind == _WAMD_TIME:
            fields["Timestamp"] = text
        elif kind == _WAMD_PLACE and len(words := text.split(",")) >= 5:
            south, west = words[2].strip() == "S", words[4].strip() == "W"
            fields["Loc Position"] = f"{'-' * south}{words[1]} {'-' * west}{words[3]}"
    return fields


def _time_in_comment(path: Path) -> datetime.datetime | None:
    with open_sound(path) as file:
        found = _COMMENT.search(file.read(_HEAD))
    if found is None:
        return None
    time, day, month, year, sign, hours, minutes = (
        part and part.decode() for part in found.groups()
    )
    zone = f"{sign or '+'}{int(hours or 0):02}:{minutes or '00'}"
    return time_told({"Timestamp": f"{year}-{month}-{day}T{time}{zone}"})


def _time_in_name(name: Path) -> datetime.datetime | None:
    for year, month, day, hour, minute, second, rest, zone in _NAME.findall(name.stem):
        text = f"{year}-{month}-{day}T{hour}:{minute}:{second}{rest}{zone}"
        if (told := time_told({"Timestamp": text})) is not None:
            return told
    return None
