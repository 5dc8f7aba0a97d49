"""A recorder records the same whether somebody watches or listens, or not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from acoupi import data
from acoupi.audio.counter import TURN
from acoupi.audio.formats import read_audio
from acoupi.audio.live import LiveThread
from acoupi.audio.live_ring import COLUMNS, SOUND, Entry, RingReader, live_folder, touch_mark
from acoupi.audio.simulated import SimulatedAudio
from acoupi.components.audio_recorder import PARecorder
from tests.services import DEADLINE

RATE = 384_000
WOOD = data.Deployment(name="Wood")


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[PARecorder]:
    recorder = PARecorder(
        duration=0.2,
        samplerate=RATE,
        audio_channels=1,
        device_name="default",
        audio_dir=tmp_path / "spool",
        simulated=SimulatedAudio.parse("counter"),
        interval=0.2,
    )
    yield recorder
    recorder.close()


def test_no_sample_is_lost_while_somebody_watches_and_listens(
    tmp_path: Path, recorder: PARecorder
) -> None:
    rings = {name: live_folder(tmp_path, "recording") / name for name in (COLUMNS, SOUND)}
    marks = {name: live_folder(tmp_path, "web") / name for name in rings}
    readers = {name: RingReader(lambda name=name: rings[name]) for name in rings}  # type: ignore[misc]
    live = LiveThread({rings[name]: marks[name] for name in rings})
    recordings: list[data.Recording] = []
    shown: dict[str, list[Entry]] = {name: [] for name in rings}
    live.start()
    try:
        while len(recordings) < 8 or not all(shown.values()):
            assert len(recordings) < 100
            recordings.append(recorder.record(WOOD))
            for name in rings:
                touch_mark(marks[name])
                shown[name] += readers[name].read()
    finally:
        live.stop()
        live.join(DEADLINE)

    reports = [one.capture for one in recordings if one.capture is not None]
    assert len(reports) == len(recordings)
    assert [one.overruns for one in reports] == [[]] * len(recordings)
    assert [one.gap_before_frames for one in reports] == [0] * len(recordings)
    parts = [read_audio(one.path)[0][:, 0] for one in recordings if one.path]
    heard = np.rint(np.concatenate(parts) * 32768).astype(int)
    assert np.count_nonzero(np.diff(heard) % TURN != 1) == 0
    assert not any(ring.exists() for ring in rings.values())
