"""What is left on a disk whose power is cut: only what was synced."""

from typing import Any

import pytest

from acoupi.audio import formats
from acoupi.audio.counter import count_frames
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.bundles.rendering import check_not_edited
from acoupi.system import (
    Sensor,
    Settings,
    end_deployment,
    get_current_deployment,
    setup_program,
    start_deployment,
)
from acoupi.testing import make_recording
from tests.clocks import Clock

RATE = 8000


@pytest.mark.parametrize("kind", formats.FORMATS, ids=lambda kind: kind.NAME)
def test_a_long_recording_loses_its_last_seconds_with_the_power_and_not_all(
    disk: Any, kind: formats.SoundFormat, clock: Clock
) -> None:
    recording = make_recording(duration=60, samplerate=RATE)
    path = disk.path / "spool" / f"{recording.id}.{kind.NAME}"
    guano = build_guano(guano_of_recording(recording))
    writer = kind.open_writer(path, RATE, 1, guano=guano)
    for second in range(34):
        clock.advance(1)
        writer.write(count_frames(second * RATE, RATE).tobytes())

    disk.cut()
    writer.leave()
    disk.unmount()
    disk.mount()

    repaired = formats.salvage(writer.part)
    assert repaired is not None, "nothing of it was on the disk"
    assert formats.read_info(repaired).frames >= 29 * RATE


def test_what_a_command_has_done_outlasts_the_power(
    disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=disk.path / "home")
    monkeypatch.setenv("ACOUPI_HOME", str(settings.home))
    setup_program(settings, "default", ["--recording.duration", "5"], environ={})
    start_deployment(settings, "Oak")
    end_deployment(settings)
    setup_program(settings, "default", ["--recording.duration", "4"], environ={})
    start_deployment(settings, "Elm")

    disk.cut()
    disk.unmount()
    disk.mount()

    sensor = Sensor.read(settings)
    assert sensor.config.recording.duration == 4  # type: ignore[attr-defined]
    check_not_edited(settings.home, {}, sensor.manifest)
    assert get_current_deployment(settings).name == "Elm"
