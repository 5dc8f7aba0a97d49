"""A picture of a recording with its detections boxed."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from acoupi import data
from acoupi.audio.formats import read_audio

FRAME, HOP = 512, 128
RANGE_DB = 75
"""From the darkest to the brightest colour."""


def draw_spectrogram(
    recording: data.Recording, detections: Sequence[data.Detection], picture: Path
) -> None:
    """Draw the spectrogram of a recording's file, time in s and frequency in kHz.

    Boxes are labelled with their scores; in a crowd the strongest twelve are.

    Raises
    ------
    AudioError
        If the file cannot be read.
    """
    if recording.path is None:
        raise ValueError("the recording has no file")
    samples, file_rate = read_audio(recording.path)
    samplerate = file_rate * recording.time_expansion
    levels = _levels(samples.mean(axis=1))
    # Noise in the lower part of the colours, the strongest sound at the top.
    floor = float(np.median(levels)) - 5
    top = max(float(np.quantile(levels, 0.9995)), floor + 30)

    figure = Figure(figsize=(12, 5), dpi=130, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        levels.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        interpolation="bilinear",
        vmin=max(floor, top - RANGE_DB),
        vmax=top,
        extent=(0, len(samples) / samplerate, 0, samplerate / 2000),
    )
    _draw_boxes(axes, detections)
    local = recording.created_on.astimezone()
    axes.set_title(
        f"{local:%d %B %Y, %H:%M:%S} ({local.tzname()})  ·  {recording.deployment.name}  ·  "
        f"{len(detections)} detection{'' if len(detections) == 1 else 's'}",
        fontsize=13,
        loc="left",
    )
    axes.set_xlabel("time (s)", fontsize=12)
    axes.set_ylabel("frequency (kHz)", fontsize=12)
    axes.tick_params(labelsize=11)
    colours = figure.colorbar(image, ax=axes, pad=0.01)
    colours.set_label("level (dB re full scale)", fontsize=11)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)


def _draw_boxes(axes: object, detections: Sequence[data.Detection]) -> None:
    strongest = sorted(detections, key=lambda one: -one.detection_score)[:12]
    for detection in detections:
        if detection.location is None:
            continue
        start, low, end, high = detection.location.coordinates
        axes.add_patch(
            Rectangle(
                (start, low / 1000),
                end - start,
                (high - low) / 1000,
                fill=False,
                edgecolor="#7df9ff",
                linewidth=1.6,
            )
        )
        if detection in strongest:
            axes.annotate(
                f"{detection.detection_score:.2f}",
                (start, high / 1000),
                xytext=(0, 3),
                textcoords="offset points",
                color="#7df9ff",
                fontsize=10,
                fontweight="bold",
                clip_on=True,
            )


def _levels(samples: np.ndarray) -> np.ndarray:
    """Return levels in dB re a full-scale sine, shape (frames, bins)."""
    samples = np.pad(samples, (FRAME // 2, FRAME // 2 + HOP))
    window = np.hanning(FRAME)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * window)) ** 2 / (window.sum() / 2) ** 2
    return 10 * np.log10(np.maximum(power, 1e-13))
