"""One run of a program's model, on sound as long as its recordings."""

import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from acoupi import data
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.audio.synthetic import synthesize_second
from acoupi.audio.wav import WavWriter
from acoupi.errors import AcoupiError, HealthCheckError
from acoupi.programs import AcoupiProgram

__all__ = ["try_model"]

USUAL = {"duration": 3.0, "samplerate": 48_000, "audio_channels": 1, "time_expansion": 1.0}
"""Sound for a model whose program has no recorder of the usual kind."""
LONGEST = 60.0
"""Longest sound, seconds; the time for longer recordings is extrapolated."""


def try_model(program: AcoupiProgram[Any]) -> str | None:
    """Run the model of a program on synthetic sound; return how long that took, in words.

    The sound has the length, rate and channels of the recorder's. If the model seems slower than
    recordings arrive, it is run again: the first run may have included loading its weights.

    Returns
    -------
    str
        None if the program has no model.

    Raises
    ------
    HealthCheckError
        If the model raises, returns something else than a `ModelOutput`, or is too slow.
    """
    model = getattr(program, "model", None)
    if getattr(program, "leaves_models_out", False):
        return None
    if model is None:
        return None
    recorder = getattr(program, "recorder", None)
    sound = {name: getattr(recorder, name, usual) for name, usual in USUAL.items()}
    duration = float(sound["duration"])
    section = getattr(program.config, "recording", None)
    pause = max(duration, float(getattr(section, "interval", None) or 0))
    with tempfile.TemporaryDirectory(prefix="acoupi-check-") as folder:
        recording = _make_sound(Path(folder), sound)
        share = duration / recording.duration
        took = _run(model, recording) * share
        if took > pause:
            took = min(took, _run(model, recording) * share)
    speed = f"{_shown(duration / max(took, 1e-3))} times real time"
    words = f"{_seconds(took)} for {_seconds(duration)} of sound ({speed})"
    if took > pause:
        raise HealthCheckError(
            f"the model is too slow: it takes {words}.",
            f"acoupi config set recording.interval {took * 1.2:.0f}   (or use a faster model)",
            why=f"a recording is made every {_seconds(pause)}, so more and more would be waiting.",
        )
    return words


def _make_sound(folder: Path, sound: dict[str, Any]) -> data.Recording:
    """Write a soundscape with calls into a WAV file."""
    rate, channels = int(sound["samplerate"]), int(sound["audio_channels"])
    frames = max(1, round(min(float(sound["duration"]), LONGEST) * rate))
    recording = data.Recording(
        path=folder / "check.wav",
        created_on=data.utc_now(),
        duration=frames / rate,
        samplerate=rate,
        audio_channels=channels,
        deployment=data.Deployment(name="check"),
    )
    writer = WavWriter(
        folder / "check.wav", rate, channels, time_expansion=float(sound["time_expansion"])
    )
    for second in range(-(-frames // rate)):
        samples = synthesize_second(1, second, rate, channels)[: frames - second * rate]
        writer.write(samples.data.cast("B"))
    writer.finish(build_guano(guano_of_recording(recording, serial="")))
    return recording


def _run(model: Any, recording: data.Recording) -> float:
    """Run a model, check what it returns, and return the seconds that it took."""
    began = data.monotonic()
    try:
        output = model.run(recording)
    except AcoupiError as error:
        raise HealthCheckError(
            f"the model does not work: {error.message}", error.help, why=error.why
        ) from error
    except Exception as error:
        raise HealthCheckError(
            f"the model does not work: it raised {type(error).__name__}.",
            "acoupi task run detection_task --recording FILE.wav   (shows where)",
            why=f"{' '.join(str(error).split()) or 'it gave no reason'}.",
        ) from error
    took = data.monotonic() - began
    if not isinstance(output, data.ModelOutput):
        raise _wrong(f"it returned {type(output).__name__}, not a ModelOutput")
    for number, one in enumerate(output.detections):
        if not isinstance(one, data.Detection):
            raise _wrong(f"detection {number} is a {type(one).__name__}, not a Detection")
        try:
            type(one).model_validate(one.model_dump())
        except ValidationError as error:
            reason = error.errors()[0]
            place = ".".join(str(part) for part in reason["loc"])
            raise _wrong(f"{place} of detection {number}: {reason['msg']}") from error
    return took


def _wrong(why: str) -> HealthCheckError:
    return HealthCheckError(
        "the model returned something unexpected.",
        "correct its method run: it must return an acoupi.data.ModelOutput",
        why=f"{why}.",
    )


def _seconds(seconds: float) -> str:
    return f"{_shown(seconds)} s"


def _shown(number: float) -> str:
    """Return a number with two digits, or as a whole one; never with an exponent."""
    return f"{number:.2g}" if 0.001 <= number < 10 else f"{number:.0f}"
