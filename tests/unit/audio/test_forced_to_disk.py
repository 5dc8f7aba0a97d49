"""How often a sound file is forced to disk while it is written."""

import os
from pathlib import Path

import pytest

from acoupi.audio import formats
from acoupi.audio.counter import count_frames
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.testing import make_recording

RATE = 8000


@pytest.mark.parametrize("kind", formats.FORMATS, ids=lambda kind: kind.NAME)
def test_a_short_recording_is_forced_to_disk_only_at_its_end(
    tmp_path: Path, kind: formats.SoundFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    monkeypatch.setattr(os, "fdatasync", forced.append)
    recording = make_recording(duration=1, samplerate=RATE)
    guano = build_guano(guano_of_recording(recording))

    writer = kind.open_writer(tmp_path / f"1.{kind.NAME}", RATE, 1, guano=guano)
    writer.write(count_frames(0, RATE).tobytes())
    assert forced == []

    writer.finish()
    assert forced
