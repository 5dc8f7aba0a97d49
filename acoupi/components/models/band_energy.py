"""A detector of sounds that stand above the noise: birds, insects and bats alike.

It knows nothing about species. It reports where in time and frequency something
rose above the background, and how far. It is fast, needs only numpy, and has no
parameter that must be fitted to a site.

Method
------
An energy detector in the time-frequency plane with a separate noise floor for
every frequency, as is common for animal sounds: a spectrogram, from which the
background of each frequency is removed, and a threshold.

- Estimating the background of each frequency from the recording itself, and
  subtracting it from the levels (dividing, for powers), is Towsey's modified
  "adaptive level equalisation" [1]_, after Lamel et al. [2]_. Mellinger et al.
  [3]_ normalise a spectrogram before they detect "whistles, moans, and other
  frequency contour sounds". Skowronski and Fenton [4]_ compare energy
  detectors for bats; see there for the limits of this one.
- Dividing each frame by its median over frequency, which leaves what is in few bins
  at a time and takes away what is in all of them, is how harmonic and percussive
  sounds are separated in music [5]_.
- Specific to this detector: the background is a low quantile of the powers seen at a frequency,
  turned into a mean by what that quantile is for Gaussian noise, whose powers
  are exponentially distributed (the quantile q of an exponential distribution
  of mean m is -m ln(1 - q)). A sound needs to be silent for only a quarter of
  the time to be told from the background. Also specific: what is done about knocks, wind,
  and what never pauses (`disturbances`), choruses,
  the two thresholds, the masking, the score, and that everything scales with the
  samplerate. The thresholds were chosen on made-up soundscapes with known calls and on three
  bat recordings, for the overlap of boxes with annotations: expect somewhat
  less on other recordings (`scripts/bench detector` prints both, for soundscapes that were
  not looked at when choosing).

1. Frames of 512 samples, half overlapping, Hann window: 10.7 ms and 94 Hz at
   48 kHz, 1.3 ms and 750 Hz at 384 kHz. Recordists choose a rate to suit their
   animals, and higher sounds tend to be faster.
2. The background of each frequency, and power over it for each cell.
3. Disturbances are divided away. A frame in which most bins rose at once (a drop
   of rain, a knock) is divided by how far they rose, and below 15 kHz what rings right after it
   makes no detection. Cells are divided by how far all those below them rose, down to
   the lowest frequency (wind). Then by the level of what is heard in nearly every moment of
   25 ms (the buzz of mains, a cricket) or of a crowd of animals that never pauses, which only
   louder calls exceed. In this order: rain that is part of the background in some bins only
   would be a sound in the others. Then the average over 3 frames and 3 bins.
4. Echoes are removed: a cell is dropped if it is 12 dB below the level of its
   frequency shortly before, which counts 0.5 dB less for each frame that has
   passed, or 12 dB below a cell at most 64 bins away in its own frame. The ear does the same
   (forward and simultaneous masking); without it the box of a loud
   call would include its echoes, and with them the next call.
5. Connected cells above 6.5 dB are a region; a region whose strongest cell is
   above `min_snr_db` is a detection. In white noise a cell exceeds 10 dB with a
   probability below 1e-15 (the mean of 9 correlated cells is close to a gamma
   distribution of shape 5).
6. Where so many sounds with pauses between them follow each other that nobody could tell
   them apart, for three seconds or more, they are one detection, and only louder ones have
   detections of their own.

What lasts for more than three quarters of a stretch (8192 frames: 44 s at
48 kHz, 5.5 s at 384 kHz; the recording, if it is shorter) is background: a
whine of the electronics is never reported, nor is a cricket or a pond of frogs that never
pauses.
Where there is hardly any noise, the rounding to 16 bits is the background.

Two things are neither background nor sound, and nothing is reported in them:
what was lost while recording (the file holds silence there), and one value
repeated for 512 samples or more, as no working microphone delivers it. Frames
that touch either are left out; if fewer than 16 frames of a stretch remain, the
background of the nearest stretch with more of them applies.

References
----------
.. [1] M. Towsey, "Noise removal from wave-forms and spectrograms derived from
   natural recordings of the environment", Queensland University of
   Technology, 2013.
.. [2] L. F. Lamel, L. R. Rabiner, A. E. Rosenberg and J. G. Wilpon, "An improved
   endpoint detector for isolated word recognition", IEEE Transactions on
   Acoustics, Speech and Signal Processing 29, 777-785, 1981.
.. [3] D. K. Mellinger, S. W. Martin, R. P. Morrissey, L. Thomas and J. J. Yosco,
   "A method for detecting whistles, moans, and other frequency contour
   sounds", J. Acoust. Soc. Am. 129, 4055-4061, 2011, doi:10.1121/1.3531926.
.. [4] M. D. Skowronski and M. B. Fenton, "Detecting bat calls: an analysis of
   automated methods", Acta Chiropterologica 11, 191-203, 2009,
   doi:10.3161/150811009x465811.
.. [5] D. Fitzgerald, "Harmonic/percussive separation using median filtering",
   13th International Conference on Digital Audio Effects (DAFx-10), Graz, 2010.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from acoupi import data
from acoupi.audio.formats import read_audio, read_info
from acoupi.components.models.choruses import (
    CROWDED,
    CROWDED_ULTRASONIC,
    ULTRASONIC,
    with_choruses_merged,
)
from acoupi.components.models.disturbances import CONTEXT, cleaned, never_pausing
from acoupi.components.models.regions import REGION, RegionFinder
from acoupi.errors import AudioError

__all__ = ["detect", "find", "open_sound"]

FRAME = 512
"""Samples in a frame of the spectrogram."""
HOP = FRAME // 2
BINS = FRAME // 2 + 1
BLOCK = 1024
"""Frames processed at once: about 2 MB for each array."""
STRETCH = 8192
"""Frames over which the background is assumed to be steady."""
FLOOR_FRAMES = 1024
"""Most frames of a stretch from which its background is estimated."""
QUANTILE = 0.25
MOMENT = 0.025
"""Seconds within which a sound comes back that is background: 40 times a second, or a little less
often if it lasts. The calls of one bat are at least twice as far apart, but for a feeding buzz."""
MOMENTS = 60
"""Moments of a stretch that are looked at."""
FEWEST_MOMENTS = 20
"""Fewest frames that show which sounds are present nearly all the time."""
MIN_FRAMES = 16
"""Fewer frames are not enough to estimate the background."""
GROW_SNR = 10 ** (6.5 / 10)
"""Power over background above which a cell belongs to a region."""
GAP = 1
"""Frames for which a sound may fade and still count as the same one."""
ECHO = 10 ** (-12 / 10)
"""Power of a cell relative to its mask, below which it counts as an echo."""
FADE = 10 ** (-0.5 / 10)
"""Factor by which the power of a mask decays with each frame."""
BESIDE = 64
"""Bins on either side that a loud sound masks at the same moment: a quarter of the spectrum."""
MASK = 6
"""A mask lasts 2 ** MASK - 1 frames: 0.34 s at 48 kHz, 42 ms at 384 kHz."""
HALF_AMPLITUDE = 10.0
"""Amplitude over background at which the score is one half (20 dB)."""

HIGH_PASS = 15_000
"""Lowest frequency searched at ultrasonic rates unless told otherwise, Hz: where bat detectors
have their high-pass, above most of wind, rain, steps and birds, below nearly all bats."""
RINGING = 15_000
"""Highest frequency at which what a knock hits rings, Hz: above, its resonances overlap."""
LOUDEST = 1e6
"""Larger values are not samples: their squares exceed single precision."""

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Read = Callable[[int, int], NDArray[np.floating]]
"""Returns the samples from the first index up to the second."""
Lost = Sequence[tuple[int, int]]
"""First samples that were lost, and the first ones after them."""


class Search(NamedTuple):
    """Where to search at a samplerate."""

    band: Flags
    """Which bins are searched, shape ``(BINS,)``."""
    ringing: int
    """Bins below `RINGING`."""
    moment: int
    """Frames of a moment (`MOMENT`)."""


WINDOW: Floats = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)
QUIETEST = float((WINDOW**2).sum()) * 2.0**-30 / 12
"""Power of the rounding to 16 bits in a cell: nothing below it is used."""

SOUND = data.Tag(key="event", value="sound")
"""Tag of every detection: it is a sound, of an unknown animal."""


def detect(
    samples: NDArray[np.floating],
    samplerate: float,
    min_snr_db: float = 10,
    *,
    low_freq: float | None = None,
    high_freq: float | None = None,
    lost: Lost = (),
) -> list[data.Detection]:
    """Find the sounds that rise above the background.

    Parameters
    ----------
    samples
        One channel, shape ``(frames,)``, float in [-1, 1].
    samplerate
        Frames per second of the *original* sound, Hz, greater than 0.
    min_snr_db
        How far the strongest cell of a sound must be above the background of
        its frequency, dB. Below 8, noise itself is detected.
    low_freq, high_freq
        Band to search, Hz. By default up to half the samplerate, from a hundredth of it
        (most of wind and handling noise lies below); from 15 kHz at rates of 96 kHz and more.
    lost
        Parts in which `samples` holds silence in place of what was lost
        (`data.Recording.lost_frames`): neither background nor sound.

    Returns
    -------
    list of Detection
        In order of start time, each with its box: seconds from the first
        sample, and Hz. Empty if nothing was found, or the input is shorter than about 0.1 s at
        48 kHz (4,352 samples). ``detection_score`` is a / (a + 10), where a is
        the amplitude over background of the strongest cell: 0.24 at 10 dB, 0.5
        at 20 dB, 0.76 at 30 dB, 0.91 at 40 dB. It depends only on the loudness of a
        sound; it is not the probability that an animal made it.

    Raises
    ------
    AudioError
        If `samples` has several channels, or values that are not numbers.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> sound = 0.01 * rng.standard_normal(48_000).astype(np.float32)
    >>> detect(sound, samplerate=48_000)
    []
    >>> time = np.arange(4_800) / 48_000
    >>> sound[24_000:28_800] += 0.1 * np.sin(2 * np.pi * 4_000 * time)
    >>> [found] = detect(sound, samplerate=48_000)
    >>> [round(side, 1) for side in found.location.coordinates[::2]]
    [0.5, 0.6]
    """
    if samples.ndim != 1:
        raise AudioError(
            f"cannot look for sounds in samples of shape {samples.shape}.",
            why="the detector takes one channel at a time.",
            help="mix the channels first, for instance with samples.mean(axis=1)",
        )
    return find(
        lambda begin, end: samples[begin:end], len(samples), samplerate, min_snr_db,
        low_freq=low_freq, high_freq=high_freq, lost=lost,
    )  # fmt: skip


def find(
    read: Read,
    count: int,
    samplerate: float,
    min_snr_db: float,
    *,
    low_freq: float | None,
    high_freq: float | None,
    lost: Lost = (),
) -> list[data.Detection]:
    """Do the work of `detect` with `count` samples that are read piece by piece.

    Raises
    ------
    AudioError
        If some of them are not numbers.
    """
    search = _search(samplerate, low_freq, high_freq)
    finder = RegionFinder(GROW_SNR, GAP)
    blocks = _without_echoes(_snr_blocks(read, count, search, lost))
    regions = np.concatenate(
        [np.empty(0, REGION), *(finder.add(block) for block in blocks), finder.finish()]
    )
    regions = regions[regions["peak"] >= 10 ** (min_snr_db / 10)]
    # A sound fills several cells; a single cell is a remainder of masking.
    cells = (regions["last"] > regions["first"]) | (regions["high"] > regions["low"])
    crowded = CROWDED_ULTRASONIC if samplerate >= ULTRASONIC else CROWDED
    regions = with_choruses_merged(regions[cells], count // HOP, count / samplerate, crowded)
    regions = regions[np.lexsort((regions["low"], regions["first"]))]
    return [_detection(region, samplerate) for region in regions]


def _search(samplerate: float, low_freq: float | None, high_freq: float | None) -> Search:
    """Return what to search, never the bins of 0 Hz and half the samplerate."""
    nyquist = samplerate / 2
    freqs = np.arange(BINS) * (samplerate / FRAME)
    usual = HIGH_PASS if samplerate >= ULTRASONIC else nyquist / 100
    low = usual if low_freq is None else low_freq
    high = nyquist if high_freq is None else high_freq
    band: Flags = (freqs >= low) & (freqs <= high)
    band[[0, -1]] = False
    moment = max(1, round(MOMENT * samplerate / HOP))
    return Search(band, int(np.count_nonzero(freqs < RINGING)), moment)


def _powers(read: Read, first: int, last: int, step: int = 1) -> Floats:
    """Return the power of every `step`-th frame of [first, last): shape (frames, BINS)."""
    samples = read(first * HOP, (last - 1) * HOP + FRAME)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[:: HOP * step]
    spectra = np.fft.rfft(frames * WINDOW, axis=1)
    return (spectra.real**2 + spectra.imag**2).astype(np.float32, copy=False)


def _snr_blocks(read: Read, count: int, search: Search, lost: Lost) -> Iterator[Floats]:
    """Yield power over background, averaged over 3 frames and 3 bins, in order of time."""
    frames = (count - FRAME) // HOP + 1
    if frames < MIN_FRAMES:
        return
    is_sound = _are_sound(read, frames, lost)
    centres, gains = _gains(read, is_sound, search)
    for first in range(0, frames - 2, BLOCK):
        last = min(first + BLOCK + 2, frames)
        begin, end = max(0, first - CONTEXT), min(last + CONTEXT, frames)
        noise, heard = _interpolated(centres, gains, (first + last) / 2)
        snr = _powers(read, begin, end) * noise
        snr[~is_sound[begin:end]] = 0
        snr = cleaned(snr, search.band, search.ringing)[first - begin : last - begin]
        yield _smoothed(snr * heard)


def _are_sound(read: Read, frames: int, lost: Lost) -> Flags:
    """Return which frames contain neither lost sound nor a stuck value."""
    edges = [*range(0, frames + 1, BLOCK), frames + 1]
    hops = np.concatenate([_stuck_hops(read, first, last) for first, last in pairwise(edges)])
    is_bad = np.zeros(frames + 1, np.bool_)
    for hop in np.flatnonzero(hops[:-1] & hops[1:]):
        # The value may have begun within the hop before, and ended within the one after.
        is_bad[max(0, hop - 1) : hop + 3] = True
    for begin, end in lost:
        is_bad[max(0, begin // HOP) : max(0, -(-end // HOP))] |= end > begin
    return ~(is_bad[:-1] | is_bad[1:])


def _stuck_hops(read: Read, first: int, last: int) -> Flags:
    """Return which of the hops [first, last) contain only one value.

    Raises
    ------
    AudioError
        If some samples are not numbers.
    """
    samples = read(first * HOP, last * HOP).reshape(-1, HOP)
    lowest, highest = samples.min(axis=1), samples.max(axis=1)
    if not max(highest.max(), -lowest.min()) < LOUDEST:  # true for NaN as well
        raise AudioError(
            "cannot look for sounds in these samples.",
            why="some of them are not numbers, or far out of range.",
            help="record again: samples are numbers from -1 to 1",
        )
    stuck: Flags = lowest == highest
    return stuck


def _gains(read: Read, is_sound: Flags, search: Search) -> tuple[NDArray[np.float64], Floats]:
    """Return one over the background power of each bin, in each stretch.

    Parameters
    ----------
    is_sound
        Which frames tell of the background, shape ``(frames,)``.

    Returns
    -------
    The frame in the middle of each stretch whose background is known, shape
    ``(stretches,)``, and the gains, shape ``(stretches, 2, BINS)``: one over the power of the
    noise, and one over how far what never pauses is above it, 0 outside the band. Where no
    background is known at all, one stretch whose gains are 0.
    """
    edges = np.linspace(0, len(is_sound), 1 + math.ceil(len(is_sound) / STRETCH)).astype(int)
    centres, gains = [], []
    for first, last in pairwise(edges.tolist()):
        step = math.ceil((last - first) / FLOOR_FRAMES)
        shown = is_sound[first:last:step]
        if np.count_nonzero(shown) >= MIN_FRAMES:
            power = _powers(read, first, last, step)[shown]
            noise = np.float32(1) / _background(power)
            heard = _never_pausing(read, first, is_sound[first:last], noise, search)
            centres.append((first + last) / 2)
            gains.append(np.stack([noise, search.band / heard]).astype(np.float32))
    if not gains:
        return np.zeros(1), np.zeros((1, 2, BINS), np.float32)
    return np.array(centres), np.stack(gains)


def _background(power: Floats) -> Floats:
    """Return the mean power of the noise alone in each bin: shape (BINS,)."""
    count = len(power)
    quantile = np.partition(power, int(QUANTILE * count), axis=0)[int(QUANTILE * count)]
    if (width := FLOOR_FRAMES // 4 // count) > 0:  # few frames: neighbours help
        kernel = np.ones(2 * width + 1)
        weight = np.convolve(np.ones(BINS), kernel, "same")
        quantile = np.convolve(quantile, kernel, "same") / weight
    mean: Floats = np.maximum(quantile / -math.log1p(-QUANTILE), QUIETEST)
    return mean


def _never_pausing(
    read: Read, first: int, is_sound: Flags, noise: Floats, search: Search
) -> Floats:
    """Return `never_pausing` of moments spread over a stretch that begins with the frame `first`.

    1 everywhere if the stretch has too few of them. `is_sound` is that of the stretch, `noise`
    the gains of its noise.
    """
    frames = search.moment + 2  # two are lost to smoothing
    places = np.linspace(0, max(0, len(is_sound) - frames), MOMENTS).astype(int)
    moments = [
        _smoothed(
            cleaned(
                _powers(read, first + place, first + place + frames) * noise,
                search.band,
                search.ringing,
            )
        )
        for place in np.unique(places).tolist()
        if place + frames <= len(is_sound) and is_sound[place : place + frames].all()
    ]
    if len(moments) < FEWEST_MOMENTS:
        return np.ones(BINS, np.float32)
    return never_pausing(np.stack(moments))


def _interpolated(centres: NDArray[np.float64], gains: Floats, frame: float) -> Floats:
    """Return the gains at a frame, interpolated geometrically between two stretches."""
    if len(centres) == 1:
        only: Floats = gains[0]
        return only
    right = int(np.clip(np.searchsorted(centres, frame), 1, len(centres) - 1))
    share = np.clip((frame - centres[right - 1]) / (centres[right] - centres[right - 1]), 0, 1)
    between: Floats = (gains[right - 1] ** (1 - share) * gains[right] ** share).astype(np.float32)
    return between


def _smoothed(snr: Floats) -> Floats:
    """Average over 3 frames and 3 bins; two frames fewer, first and last bin 0."""
    over_time = snr[:-2] + snr[1:-1]
    over_time += snr[2:]
    smoothed = np.zeros_like(over_time)
    inner = smoothed[:, 1:-1]
    np.add(over_time[:, :-2], over_time[:, 1:-1], out=inner)
    inner += over_time[:, 2:]
    inner *= 1 / 9
    return smoothed


def _without_echoes(blocks: Iterator[Floats]) -> Iterator[Floats]:
    """Yield the blocks with 0 in the cells that are masked by earlier ones."""
    before = np.empty((0, BINS), np.float32)
    for block in blocks:
        cells = np.concatenate([before, block])
        mask = cells
        for doubling in range(MASK):
            lag = 2**doubling
            longer = mask.copy()
            if len(mask) > lag:
                faded = mask[:-lag] * np.float32(FADE**lag)
                np.maximum(longer[lag:], faded, out=longer[lag:])
            mask = longer
        shown = len(before)
        before = cells[-(2**MASK - 1) :]
        mask = np.maximum(mask[shown:], _neighbours(block))
        yield np.where(block >= mask * np.float32(ECHO), block, np.float32(0))


def _neighbours(block: Floats) -> Floats:
    """Return the largest cell within BESIDE bins of each, in the same frame."""
    largest = block.copy()
    lag = 1
    while lag <= BESIDE // 2:
        for to, of in ((np.s_[:, lag:], np.s_[:, :-lag]), (np.s_[:, :-lag], np.s_[:, lag:])):
            np.maximum(largest[to], largest[of].copy(), out=largest[to])
        lag *= 2
    return largest


def _detection(region: np.void, samplerate: float) -> data.Detection:
    """Make a detection of a region of smoothed cells, whose frame 0 is the second frame."""
    amplitude = math.sqrt(float(region["peak"]))
    score = amplitude / (amplitude + HALF_AMPLITUDE)
    # A frame stands for the hop around its middle, a bin for the spacing around it. Averaging
    # spread the region by a frame and a bin: taken back where a call begins sharply, at its
    # start and its lower edge; its end fades.
    middle = HOP + FRAME / 2
    first = min(int(region["first"]) + 1, int(region["last"]))
    low = min(int(region["low"]) + 1, int(region["high"]))
    return data.Detection(
        location=data.BoundingBox.from_coordinates(
            start_time=(first * HOP + middle - HOP / 2) / samplerate,
            low_freq=(low - 0.5) * samplerate / FRAME,
            end_time=(int(region["last"]) * HOP + middle + HOP / 2) / samplerate,
            high_freq=(int(region["high"]) + 0.5) * samplerate / FRAME,
        ),
        detection_score=score,
        tags=[data.PredictedTag(tag=SOUND, confidence_score=score)],
    )


def open_sound(path: Path) -> tuple[Read, int, int]:
    """Return how to read a file mixed to one channel, its samples per channel, its samplerate.

    Raises
    ------
    AudioError
        If it cannot be read.
    """
    try:
        info = read_info(path)
    except AudioError:  # not a WAV file: it can only be read as a whole
        samples, samplerate = read_audio(path)
        mixed = _mixed(samples)
        return lambda begin, end: mixed[begin:end], len(mixed), samplerate
    return (
        lambda begin, end: _mixed(read_audio(path, start=begin, frames=end - begin)[0]),
        info.frames,
        info.samplerate,
    )


def _mixed(samples: Floats) -> Floats:
    """Average the channels; shape ``(frames,)``."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
