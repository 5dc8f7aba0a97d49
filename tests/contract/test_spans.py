"""Sound across the borders of files."""

import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.audio.simulated import SimulatedAudio
from acoupi.audio.spans import read_span
from acoupi.components.audio_recorder import PARecorder
from acoupi.errors import AudioError

RATE = 8000
FRAMES = 800
WOOD = data.Deployment(name="Wood")


@pytest.fixture(scope="module", params=["wav", "flac"])
def recordings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[data.Recording]:
    recorder = PARecorder(
        FRAMES / RATE, RATE, 1, "default", audio_dir=tmp_path_factory.mktemp("spool"),
        simulated=SimulatedAudio(signal="counter"), interval=FRAMES / RATE,
        file_format=request.param,
    )  # fmt: skip
    made = [recorder.record(WOOD) for _ in range(5)]
    recorder.close()
    return made


def time_of(recordings: list[data.Recording], frame: int) -> datetime.datetime:
    return recordings[0].created_on + datetime.timedelta(seconds=frame / RATE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 5 * FRAMES - 100), frames=st.integers(50, 2500), seed=st.randoms())
def test_a_span_is_the_stream_to_the_sample(
    recordings: list[data.Recording], start: int, frames: int, seed: object
) -> None:
    mixed = list(recordings)
    seed.shuffle(mixed)  # type: ignore[attr-defined]

    span = read_span(
        [recording if n % 2 else recording.path or Path() for n, recording in enumerate(mixed)],
        time_of(recordings, start),
        time_of(recordings, start + frames),
    )

    heard = np.rint(span.samples[:, 0] * 32768).astype(int)
    there = max(0, min(frames, 5 * FRAMES - span.first_frame))
    assert len(heard) == pytest.approx(frames, abs=1)
    assert abs(span.first_frame - start) <= 2  # Times are whole microseconds, and fitted.
    assert heard[:there].tolist() == list(range(span.first_frame + 1, span.first_frame + there + 1))
    assert not heard[there:].any()


def test_a_file_that_is_missing_in_between_is_told(recordings: list[data.Recording]) -> None:
    span = read_span(
        [recordings[0], recordings[2]], time_of(recordings, 700), time_of(recordings, 1700)
    )

    (missing,) = span.missing
    assert missing == data.Overrun(800, 800)
    assert not span.samples[100 + 2 : 900 - 2].any()
    assert span.samples[:90].all()


def test_where_nothing_was_recorded_is_an_error(recordings: list[data.Recording]) -> None:
    early = recordings[0].created_on - datetime.timedelta(hours=1)

    with pytest.raises(AudioError, match="nothing was recorded"):
        read_span(recordings, early, early + datetime.timedelta(seconds=1))


def test_files_of_two_streams_are_not_joined(recordings: list[data.Recording]) -> None:
    other = recordings[1].model_copy(
        update={"capture": recordings[1].capture.model_copy(update={"stream_id": WOOD.id})}  # type: ignore[union-attr]
    )

    with pytest.raises(AudioError, match="several streams"):
        read_span([recordings[0], other], time_of(recordings, 0), time_of(recordings, 1600))
