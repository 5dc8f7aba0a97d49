"""Exports as folders: whole, or not there."""

import contextlib
import dataclasses
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from acoupi.effort import CapturePlan
from acoupi.errors import AcoupiError, ConfigurationError, ParameterError
from acoupi.exports.audio_files import WithFile, copy_audio
from acoupi.exports.calibration import write_calibration
from acoupi.exports.effort_files import write_effort
from acoupi.exports.effort_report import Times
from acoupi.exports.format import Format
from acoupi.exports.reader import Reader
from acoupi.exports.source import Site, Source
from acoupi.heard import Filters
from acoupi.writing import disk_error, new_mark, part_of, sync_folder

__all__ = ["export"]


def export(
    format_: Format,
    reader: Reader,
    filters: Filters,
    folder: Path,
    *,
    precision: float | None = None,
    place: tuple[float, float] | None = None,
    plan: CapturePlan | None = None,
    audio: WithFile | None = None,
    suspect: Times = (),
) -> list[Site]:
    """Export what was heard into a new folder; return its deployments.

    Parameters
    ----------
    folder
        It must not be there; it appears when everything in it is on the disk.
    precision
        Degrees to round all coordinates to; None: as they are.
    place
        Latitude and longitude of deployments that have none.
    plan
        Plan of the program, for deployments of which the store knows none.
    audio
        Finds the sound files, which are copied, too, into ``audio/``; None: they are not.
    suspect
        When the microphone heard nothing by its own trend; in order, without overlap.

    Raises
    ------
    AudioError
        If a sound file cannot be copied.
    ParameterError
        If the folder is there, or coordinates are missing that the format requires.
    ConfigurationError
        If no deployment reaches into the time that was chosen.
    DeviceError
        If the disk is full or fails; nothing is left behind.
    """
    if os.path.lexists(folder):
        raise _taken(format_, folder)
    with _whole(folder) as part:
        sites = write_effort(reader, filters, part, plan, suspect)
        if not sites:
            raise ConfigurationError(
                "there is nothing to export.",
                "acoupi recordings list",
                why="no deployment of this sensor overlaps the chosen time.",
            )
        known = _accounted(reader, filters, sites)
        write_calibration(reader, known, part / "calibration.csv")
        source = Source(reader, known, sites, precision, place)
        if format_.needs_coordinates:
            _check_coordinates(format_, source)
        format_.write(source, part)
        if audio is not None:
            copy_audio(source, part, audio)
    return sites


def _accounted(reader: Reader, filters: Filters, sites: list[Site]) -> Filters:
    """Return filters that pass only what the effort accounts for.

    That is nothing of a deployment that does not reach into the time that was chosen, and nothing
    newer than the effort of one that has not ended.
    """
    ids = frozenset(one.deployment.id for one in sites)
    if ids != {one.id for one in reader.get_deployments()}:
        filters = dataclasses.replace(filters, deployments=ids)
    known = [one.ended_on for one in sites if one.is_open]
    if not known or (filters.until is not None and filters.until <= max(known)):
        return filters
    return dataclasses.replace(filters, until=max(known))


def _check_coordinates(format_: Format, source: Source) -> None:
    for site in source.sites:
        if site.deployment.latitude is None or site.deployment.longitude is None:
            raise ParameterError(
                site.deployment.name,
                f'cannot export {format_.name}: "{site.deployment.name}" has no location.',
                f"acoupi export {format_.name} --latitude 51.5 --longitude -0.1   (its own)",
                why="the format requires coordinates, and none were given at its start "
                "(acoupi start NAME --at LAT,LON).",
            )


def _taken(format_: Format, folder: Path) -> AcoupiError:
    return ParameterError(
        str(folder),
        f'"{folder}" already exists.',
        f"acoupi export {format_.name} -o {shlex.quote(f'{folder}-2')}",
        why="files are not overwritten; each export needs a new folder.",
    )


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder that gets its final name if the block succeeds."""
    folder = folder.absolute()
    part = part_of(folder, new_mark())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        yield part
        for path in sorted(part.rglob("*")):
            _sync(path)
        sync_folder(part)
        part.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise disk_error("write", folder, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
