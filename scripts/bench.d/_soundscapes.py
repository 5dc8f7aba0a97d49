"""Made-up sound with known truth for the reference detector: disturbances, and calls among them.

Every disturbance goes on for the whole of its length and is no distinct call: the hum of
mains, a cricket that never pauses, rain, wind, and a chorus of many animals. Its level is
that of its mean power over a quiet noise floor; at ultrasonic rates the animals are
bush-crickets and bats instead of crickets, birds and frogs.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from acoupi import data

Samples = NDArray[np.float32]
Detect = Callable[[Samples, float], list[data.Detection]]

FLOOR = 10 ** (-70 / 20)
"""Standard deviation of the noise floor: -70 dBFS."""
LEVEL, WIND_LEVEL = 10 ** (-50 / 20), 10 ** (-30 / 20)
"""Root mean square of a disturbance in its recording; of wind, most is below 200 Hz."""
ABOVE_DB = 10
"""How far the calls of a trial are above its disturbance, dB."""
MOST_TIMES = 4
"""A box that is more times as long or as wide as a call is not about that call."""
FRAME = 512
"""Samples over which the power of a disturbance is measured."""
ULTRASONIC = 96_000
"""Samplerate, Hz, from which the soundscape is that of bats."""


class Call(NamedTuple):
    """One call that was mixed in."""

    start: float
    """Seconds."""
    end: float
    low: float
    """Hz."""
    high: float


class Trial(NamedTuple):
    """What a detector made of one disturbance."""

    false: int
    """Detections where there is no call."""
    recall: float
    """Share of the calls mixed in that some detection meets (`meets`)."""
    chance: float
    """The same share when all detections are shifted in time, mean over ten shifts."""


def trial(detect: Detect, kind: str, rate: int, seed: int, seconds: float) -> Trial:
    """Run a detector over a disturbance, without calls and with calls 10 dB above it."""
    sound = disturbance(kind, seconds, rate, seed)
    false = len(detect(sound, rate))
    mixed = calls(sound, rate, seed, ABOVE_DB)
    found = boxes(detect(sound, rate))
    shifts = np.random.default_rng(seed).uniform(1, seconds - 1, 10)
    chance = [
        _recall([_shifted(call, shift, seconds) for call in mixed], found) for shift in shifts
    ]
    return Trial(false, _recall(mixed, found), float(np.mean(chance)))


def boxes(detections: list[data.Detection]) -> list[tuple[float, float, float, float]]:
    """Return start, low, end and high of each detection, in seconds and hertz."""
    return [one.location.coordinates for one in detections if one.location is not None]


def overlap(box: tuple[float, float, float, float], call: Call) -> float:
    """Return the intersection of a box and a call over their union."""
    start, low, end, high = box
    shared = _shared(start, end, call.start, call.end) * _shared(low, high, call.low, call.high)
    both = (end - start) * (high - low) + (call.end - call.start) * (call.high - call.low)
    return shared / (both - shared)


def meets(box: tuple[float, float, float, float], call: Call) -> bool:
    """Return whether a box is about the call: both overlap, and it is not far longer or wider.

    One box around everything would meet all calls and tell of none.
    """
    start, low, end, high = box
    is_close = end - start <= MOST_TIMES * (call.end - call.start) and high - low <= MOST_TIMES * (
        call.high - call.low
    )
    return is_close and overlap(box, call) > 0


def _shared(first: float, last: float, other_first: float, other_last: float) -> float:
    return max(0.0, min(last, other_last) - max(first, other_first))


def _shifted(call: Call, shift: float, seconds: float) -> Call:
    start = (call.start + shift) % seconds
    return call._replace(start=start, end=start + call.end - call.start)


def _recall(truth: list[Call], found: list[tuple[float, float, float, float]]) -> float:
    return sum(any(meets(box, call) for box in found) for call in truth) / len(truth)


def disturbance(kind: str, seconds: float, rate: int, seed: int) -> Samples:
    """Return a disturbance over the noise floor, shape ``(seconds * rate,)``, in [-1, 1]."""
    random = np.random.default_rng((seed, rate, sorted(MAKERS).index(kind)))
    count = round(seconds * rate)
    sound = MAKERS[kind](random, count, rate)
    sound *= (WIND_LEVEL if kind == "wind" else LEVEL) / np.sqrt(np.mean(sound**2))
    return (sound + FLOOR * random.standard_normal(count)).astype(np.float32)


def calls(sound: Samples, rate: int, seed: int, above_db: float) -> list[Call]:
    """Mix calls into a sound, about one a second, and return where they are.

    Each is a sweep whose mean power is `above_db` above what the sound reaches in the call's
    own band for a twentieth of the time.
    """
    random = np.random.default_rng((seed, rate, 99))
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[:: FRAME // 2]
    powers = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)) ** 2
    powers *= 2 / (FRAME * np.sum(np.hanning(FRAME) ** 2))
    made = []
    for second in range(1, int(len(sound) / rate) - 1):
        call = _random_call(random, second, rate)
        first, last = (round(edge * FRAME / rate) for edge in (call.low, call.high))
        noise = np.quantile(powers[:, first : last + 1].sum(axis=1), 0.95)
        wave = _sweep(rate, call.end - call.start, call.high, call.low)
        wave *= np.sqrt(noise * 10 ** (above_db / 10) / np.mean(wave**2))
        begin = int(call.start * rate)
        sound[begin : begin + len(wave)] += wave
        made.append(call)
    return made


def _random_call(random: np.random.Generator, second: float, rate: int) -> Call:
    start = second + random.uniform(0, 0.7)
    if rate >= ULTRASONIC:
        low = random.uniform(22_000, 50_000)
        return Call(
            start, start + random.uniform(0.004, 0.012), low, low * random.uniform(1.1, 1.7)
        )
    low = random.uniform(1_800, 5_000)
    return Call(start, start + random.uniform(0.08, 0.25), low, low * random.uniform(1.1, 1.6))


def _sweep(rate: int, seconds: float, first: float, last: float) -> NDArray[np.float64]:
    time = np.arange(round(seconds * rate)) / rate
    phase = first * time + (last - first) * time**2 / (2 * seconds)
    wave: NDArray[np.float64] = np.hanning(len(time)) * np.sin(2 * np.pi * phase)
    return wave


def _placed(count: int, starts: NDArray[np.float64], wave: Callable[[int], NDArray[np.float64]]):
    sound = np.zeros(count)
    for number, start in enumerate(starts.astype(int)):
        part = wave(number)[: count - start]
        sound[start : start + len(part)] += part
    return sound


def _hum(random: np.random.Generator, count: int, rate: int) -> NDArray[np.float64]:
    """The buzz of mains: the same short crackle twice in each period of 50 Hz."""
    time = np.arange(int(0.002 * rate)) / rate
    crackle = np.exp(-time / 0.0004) * random.standard_normal(len(time))
    return _placed(count, np.arange(0, count, rate / 100), lambda _: crackle)


def _cricket(random: np.random.Generator, count: int, rate: int) -> NDArray[np.float64]:
    """Thirty pulses a second that never pause, as regular as a cricket's: within 1 %."""
    gaps = rate / 30 * (1 + 0.01 * random.standard_normal(31 * count // rate + 9))
    starts = np.cumsum(gaps)
    freq = 25_000 if rate >= ULTRASONIC else 4_500
    pulse = _sweep(rate, 0.016, 1.02 * freq, 0.98 * freq)
    levels = 1 + 0.1 * random.standard_normal(len(starts))
    return _placed(count, starts[starts < count], lambda number: levels[number] * pulse)


def _rain(random: np.random.Generator, count: int, rate: int) -> NDArray[np.float64]:
    """Drops at random, 60 a second, over the hiss of those farther away.

    Each is a knock with rings that hold as much energy as it. A leaf is damped heavily and rings
    at a frequency of its own; half of the drops fall on the housing, which rings longer, at the
    same five frequencies every time.
    """
    starts = np.sort(random.uniform(0, count, 60 * count // rate))
    levels = random.lognormal(0, 0.8, len(starts))
    time = np.arange(int(0.02 * rate)) / rate
    housing = [_ring(random, time, random.uniform(5, 12)) for _ in range(5)]

    def drop(number: int) -> NDArray[np.float64]:
        knock = _unit(np.exp(-time / 0.0007) * random.standard_normal(len(time)))
        if random.random() < 0.5:
            ring = random.normal(0, 5**-0.5, 5) @ housing
        else:
            ring = _ring(random, time, random.uniform(1, 4))
        return levels[number] * (knock + ring)

    return _placed(count, starts, drop) + random.normal(0, (3 / rate) ** 0.5, count)


def _ring(
    random: np.random.Generator, time: NDArray[np.float64], quality: float
) -> NDArray[np.float64]:
    """A damped resonance between 600 Hz and 12 kHz; higher ones overlap and are the knock."""
    freq = 600 * 20 ** random.uniform()
    return _unit(np.exp(-np.pi * freq / quality * time) * np.sin(2 * np.pi * freq * time))


def _unit(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return it with an energy of 1."""
    unit: NDArray[np.float64] = wave / np.sqrt(np.sum(wave**2))
    return unit


def _wind(random: np.random.Generator, count: int, rate: int) -> NDArray[np.float64]:
    """Noise that falls by 6 to 12 dB an octave above 100 Hz, in gusts; the strongest overload."""
    slope = random.uniform(1, 2)
    freqs = np.fft.rfftfreq(count, 1 / rate)
    noise = np.fft.irfft(
        np.fft.rfft(random.standard_normal(count)) / (1 + (freqs / 100) ** slope), count
    )
    points = np.arange(0, count + rate, rate)
    gusts = np.interp(np.arange(count), points, random.normal(0, 8, len(points)))
    wind = noise * 10 ** (gusts / 20)
    most = 3 * wind.std()
    return np.clip(wind, -most, most)


def _chorus(random: np.random.Generator, count: int, rate: int) -> NDArray[np.float64]:
    """Sixty animals, none much louder than the others, each calling four times a second."""
    sound = np.zeros(count)
    for _ in range(60):
        if rate >= ULTRASONIC:
            freq, length = random.uniform(18_000, 40_000), random.uniform(0.01, 0.03)
        else:
            freq, length = random.uniform(2_000, 6_000), random.uniform(0.05, 0.15)
        gaps = rate / 4 * random.uniform(0.7, 1.3, 4 * count // rate + 9)
        starts = np.cumsum(gaps)
        wave = _sweep(rate, length, 1.05 * freq, 0.95 * freq) * random.uniform(0.5, 1)
        sound += _placed(count, starts[starts < count], lambda _, wave=wave: wave)
    return sound


MAKERS = {"hum": _hum, "cricket": _cricket, "rain": _rain, "wind": _wind, "chorus": _chorus}
