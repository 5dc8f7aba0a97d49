"""Cutting clips: they are in the store before their recording's file is given up.

A clip may begin in one recording and end in another, and what is found in the next recording may
make it longer. So a file waits until its neighbours are analysed, or will never come. What clips
hold already is known from the store: a pass that was interrupted is taken up again, and nothing
is cut twice.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from math import ceil, floor
from pathlib import Path
from uuid import UUID

from acoupi import data
from acoupi.audio import files, formats
from acoupi.audio.cutting import cut_clip, describe_clip
from acoupi.audio.disk import holding
from acoupi.audio.guano import place_in_stream
from acoupi.audio.spans import capture_of
from acoupi.clips import LONGEST_S, Piece, Stretch, pieces
from acoupi.components import types
from acoupi.errors import AudioError
from acoupi.home import spool_folders
from acoupi.opening import at, opened_folder

__all__ = ["PATIENCE_S", "Cutter", "work_folder"]

PATIENCE_S = 180.0
"""How long the recording after the last one is waited for, seconds: a recorder that is late has
the sound in memory for less."""


_ROUNDING = 1e-4
"""Of a frame: what seconds times a rate may be off, as numbers go."""

Infos = list[data.ModelOutputInfo]


class Cutter:
    """Cuts clips in one pass of the task that manages files.

    Parameters
    ----------
    store
        Holds the recordings and the clips.
    folder
        That of the waiting files.
    is_ready
        Whether all models are done with a recording.
    wanted
        Returns the outputs of a recording with the detections that are to be in clips.
    find_place
        Returns where a clip goes; None: no manager names a place.
    logger
        Gets the reports.
    """

    def __init__(
        self,
        *,
        store: types.Store,
        folder: Path,
        is_ready: Callable[[data.Recording, Infos], bool],
        wanted: Callable[[data.Recording], list[data.ModelOutput]],
        find_place: Callable[[data.Recording, list[data.ModelOutput]], Path | None],
        logger: logging.Logger,
    ) -> None:
        self._store = store
        self._spool = folder
        self._is_ready = is_ready
        self._wanted = wanted
        self._find_place = find_place
        self._logger = logger
        # In this order: anything that arrives between two of these queries is seen by the later
        # one.
        self._now = data.utc_now()
        self._latest = store.get_last_recording()
        self._arriving = set(_arriving(store, folder, self._now))

    def release(self, recording: data.Recording) -> bool:
        """Cut the clips of a recording; return whether its file is no longer needed.

        It is needed while a neighbour may still ask for some of its sound, and while another
        process cuts clips.

        Raises
        ------
        AudioError
            If it cannot be read.
        """
        with self._working() as work:
            if work is None:
                return False
            found = self._find_pieces(_in_stream(self._store, recording))
            if found is None:
                return False
            for piece, parts in found:
                self._keep(piece, parts, work)
        return True

    @contextmanager
    def _working(self) -> Iterator[Path | None]:
        """Provide the empty folder where clips are written; None: another process has it.

        By its descriptor: the recorder may write to the spool, and might put a link there.
        """
        folder = work_folder(self._spool)
        with opened_folder(self._spool) as spool:
            at(spool, folder.name).mkdir(mode=0o700, exist_ok=True)
        with opened_folder(folder, beneath=self._spool) as handle, holding(self._spool) as is_ours:
            work = at(handle, "")
            for leftover in work.iterdir() if is_ours else ():
                leftover.unlink()
            yield work if is_ours else None

    def _find_pieces(
        self, recording: data.Recording
    ) -> list[tuple[Piece, list[data.Recording]]] | None:
        """Return the clips to cut, each with its recordings; None: unknown yet."""
        own, before, after = _stretch(recording), *self._margins(recording)
        reach = Stretch(own.first - before - after, own.last + before + after)
        while True:
            run = self._unbroken(recording, reach)
            if not self._is_settled(run, recording, reach):
                return None
            found = [one for one in self._pieces(run) if _touch(one, own)]
            first = min((one.first for one in found), default=own.first) - after
            last = max((one.last for one in found), default=own.last) + before
            wider = Stretch(min(reach.first, first), max(reach.last, last))
            if wider == reach:
                return [(one, [r for r in run if _touch(one, _stretch(r))]) for one in found]
            reach = wider

    def _margins(self, recording: data.Recording) -> tuple[int, int]:
        settings, rate = self._store.clips, recording.samplerate
        return _up(settings.before * rate), _up(settings.after * rate)

    def _unbroken(self, recording: data.Recording, reach: Stretch) -> list[data.Recording]:
        """Return the recordings within reach that follow each other without a gap."""
        rows = self._store.get_stream(capture_of(recording).stream_id, reach)
        others = [
            one
            for one in rows
            if one.id != recording.id
            and one.deployment.id == recording.deployment.id
            and self._has_sound(one)
        ]
        run = [recording]
        for one in reversed(others):
            if _stretch(one).last == _stretch(run[0]).first:
                run.insert(0, one)
        for one in others:
            if _stretch(one).first == _stretch(run[-1]).last:
                run.append(one)
        return run

    def _has_sound(self, recording: data.Recording) -> bool:
        """Return whether the file of a neighbour can be read, or is being moved or deleted."""
        if recording.path is None:
            return False
        try:
            return formats.read_info(recording.path).frames >= capture_of(recording).frames
        except AudioError:
            return (
                recording.path.parent in spool_folders(self._spool) and not recording.path.exists()
            )

    def _is_settled(
        self, run: Sequence[data.Recording], recording: data.Recording, reach: Stretch
    ) -> bool:
        """Return whether nothing within reach can change any more."""
        stream = capture_of(recording).stream_id
        if any(one == stream and reach.first <= at < reach.last for one, at in self._arriving):
            return False
        others = [one.path for one in run if one.id != recording.id]
        if not all(path is not None and path.exists() for path in others):
            return False
        known = self._store.get_recordings_info_by_path(others)
        if len(known) < len(others) or not all(self._is_ready(*one) for one in known):
            return False
        return _stretch(run[-1]).last >= reach.last or not self._may_continue(run[-1])

    def _may_continue(self, last: data.Recording) -> bool:
        """Return whether the recording that follows this one may still come."""
        patience = timedelta(seconds=PATIENCE_S)
        if last.deployment.ended_on is not None:
            return False
        latest = self._latest
        # Dated in the future: the clock was set back since.
        if latest is not None and last.created_on < latest.created_on < self._now + patience:
            return False
        end = last.created_on + timedelta(seconds=last.duration)
        return abs(self._now - end) < patience

    def _pieces(self, run: Sequence[data.Recording]) -> Iterator[Piece]:
        there = Stretch(_stretch(run[0]).first, _stretch(run[-1]).last)
        return pieces(
            [window for one in run for window in self._windows(one)],
            there,
            [_stretch(one).last for one in run],
            self._store.get_clipped(capture_of(run[0]).stream_id, there),
            round(LONGEST_S * run[0].samplerate),
        )

    def _windows(self, recording: data.Recording) -> Iterator[Stretch]:
        before, after = self._margins(recording)
        for output in self._wanted(recording):
            for detection in output.detections:
                first, last = _frames(recording, detection)
                yield Stretch(first - before, last + after)

    def _keep(self, piece: Piece, recordings: list[data.Recording], work: Path) -> None:
        """Write a clip, bring it to its place, and note it."""
        clip, described = describe_clip(recordings, piece, work)
        cut_clip(recordings, clip, described)
        outputs = [one for r in recordings for one in _within(self._wanted(r), r, piece)]
        place = self._find_place(described, outputs)
        if place is None:
            why = "no saving manager chooses a folder for it"
            self._logger.warning("Giving up a clip of %s: %s", recordings[0].path, why)
            clip.path.unlink()
            return
        final = files.move_file(
            clip.path,
            place,
            commit=lambda final: self._store.put_clip(replace(clip, path=final)),
            is_taken=self._is_taken,
        )
        self._logger.info("Cut %s (%.3f s)", final, described.duration)

    def _is_taken(self, path: Path) -> bool:
        return self._store.is_clip(path) or bool(self._store.get_recordings_info_by_path([path]))


def work_folder(spool: Path) -> Path:
    """Return the folder where this user writes clips: the owner, too, runs this task at the end."""
    return spool / f"clips-{os.geteuid()}"


def _arriving(
    store: types.Store, folder: Path, now: data.AwareDatetime
) -> Iterator[tuple[UUID, int]]:
    """Yield where recordings begin, stream and frame, that are not in the store yet.

    A file that has not changed for long is none that recovery will still adopt.
    """
    complete = files.list_recordings(folder)
    known = {one.path for one, _ in store.get_recordings_info_by_path(complete)}
    for path in (*formats.find_parts(folder), *complete):
        with suppress(AudioError, OSError):
            if path in known or abs(now.timestamp() - path.stat().st_mtime) > PATIENCE_S:
                continue
            place = place_in_stream(formats.read_guano(path))
            if place is not None:
                yield place


def _in_stream(store: types.Store, recording: data.Recording) -> data.Recording:
    """Return a recording with its place in a stream; one without counts as its own stream."""
    stored = next((row for row, _ in store.get_recordings([recording.id])), recording)
    if stored.capture is not None or stored.path is None:
        return stored
    report = data.CaptureReport(
        stream_id=stored.id,
        first_frame=0,
        frames=formats.read_info(stored.path).frames,
        samplerate_measured=None,
        clock_synchronised=None,
        clock_error_s=None,
    )
    return stored.model_copy(update={"capture": report})


def _stretch(recording: data.Recording) -> Stretch:
    report = capture_of(recording)
    return Stretch(report.first_frame, report.first_frame + report.frames)


def _touch(one: Piece | Stretch, other: Stretch) -> bool:
    return one.first < other.last and other.first < one.last


def _frames(recording: data.Recording, detection: data.Detection) -> Stretch:
    """Return the frames of a detection: all of its recording, where it has no box."""
    own, box = _stretch(recording), detection.location
    if box is None:
        return own
    start, _, end, _ = box.coordinates
    rate = recording.samplerate
    first = min(max(own.first + floor(start * rate + _ROUNDING), own.first), own.last)
    return Stretch(first, max(first, min(own.first + _up(end * rate), own.last)))


def _up(frames: float) -> int:
    return ceil(frames - _ROUNDING)


def _within(
    outputs: Sequence[data.ModelOutput], recording: data.Recording, piece: Piece
) -> Iterator[data.ModelOutput]:
    """Yield outputs with those of their detections that are in a piece, if there are any."""
    for output in outputs:
        found = [
            one
            for one in output.detections
            if piece.first <= _frames(recording, one).first
            and _frames(recording, one).last <= piece.last
        ]
        if found:
            yield output.model_copy(update={"detections": found})
