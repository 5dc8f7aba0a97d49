"""The walk of `scripts/board`: what it takes for the tone, and what for a fault."""

import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acoupi.effort import NO_REASON

BOARD = Path(__file__).parents[2] / "scripts" / "board.d"
sys.path.insert(0, str(BOARD))  # they import each other by their names
import ear  # noqa: E402
import sensor  # noqa: E402
import walk  # noqa: E402

sys.path.remove(str(BOARD))

RATE = 48_000
HERTZ, DBFS = 3000, -20


def tone() -> np.ndarray[Any, np.dtype[np.int16]]:
    """Three seconds of what the microphone of the board hears."""
    words = [sys.executable, str(BOARD / "tone.py"), str(HERTZ), str(DBFS)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as player:
        assert player.stdout
        played = player.stdout.read(3 * RATE * 2)
        player.kill()
    return np.frombuffer(played, "<i2").copy()


def is_heard(folder: Path, samples: np.ndarray[Any, np.dtype[np.int16]], channels: int = 1) -> bool:
    path = folder / "20260101_000000_id.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.repeat(samples, channels).tobytes())
    return bool(ear.is_tone(ear.heard(path), HERTZ, DBFS))


@pytest.mark.parametrize("channels", [1, 2])
def test_the_tone_is_heard(tmp_path: Path, channels: int) -> None:
    assert is_heard(tmp_path, tone(), channels)


def test_what_is_not_the_whole_tone_is_no_proof_of_a_recording(tmp_path: Path) -> None:
    samples = tone()
    gap, turned = samples.copy(), samples.copy()
    gap[RATE : RATE + RATE // 2] = 0
    turned[RATE:] *= -1  # a block was lost
    noise = np.random.default_rng(1).normal(0, 2000, len(samples)).astype("<i2")
    for name, other in {
        "silence": samples * 0,
        "quieter": samples // 2,
        "another tone": samples[::2],
        "a gap": gap,
        "a lost block": turned,
        "noise over it": samples + noise,
    }.items():
        assert not is_heard(tmp_path, other), name


class Told(sensor.UnderSystemd):  # type: ignore[misc]
    """A sensor that says what a test has it say."""

    def __init__(self, rows: set[str], files: dict[str, float], **effort: Any) -> None:
        super().__init__(board=None)
        self._rows, self._files, self._effort = rows, files, effort

    def recordings(self) -> list[dict[str, Any]]:
        return [{"recording_id": one, "recording_state": "captured"} for one in self._rows]

    def files(self) -> dict[str, float]:
        return self._files

    def damaged_databases(self) -> list[str]:
        return []

    def effort(self) -> dict[str, Any]:
        return {"holes": [], **self._effort}


@pytest.mark.parametrize(
    ("rows", "files", "before", "faults"),
    [
        ({"a", "b"}, {"a": 3.0, "b": 2.5}, {"a"}, 0),
        ({"a"}, {"a": 3.0, "b": 3.0}, set(), 1),  # a file without a row
        ({"a", "b"}, {"a": 3.0}, set(), 1),  # a row without a file
        ({"a"}, {"a": 0.0}, set(), 1),  # a file without sound
        ({"a"}, {"a": 3.0}, {"a", "b"}, 1),  # what was there is gone
    ],
)
def test_what_was_lost_is_a_fault(
    rows: set[str], files: dict[str, float], before: set[str], faults: int
) -> None:
    found = walk.Walk(Told(rows, files), patience=0)

    found.is_whole(before)

    assert found.faults == faults


@pytest.mark.parametrize(
    ("states", "detail", "faults"),
    [
        ({"recorded": 6.0, "not_running": 4.0}, "the recorder was starting", 0),
        ({"recorded": 6.0, "not_running": 3.0}, "the recorder was starting", 1),
        ({"recorded": 6.0, "not_running": 4.0}, NO_REASON, 1),
    ],
)
def test_time_without_a_reason_is_a_fault(
    states: dict[str, float], detail: str, faults: int
) -> None:
    told = Told(set(), {}, total_s=10.0, states_s=states, holes=[{"detail": detail}])
    found = walk.Walk(told, patience=0)

    found.explains()

    assert found.faults == faults


def test_a_walk_is_the_whole_or_the_parts_that_are_named_in_their_order() -> None:
    whole = list(walk.PARTS)

    assert walk.chosen([]) == (["systemd", "compose"], whole)
    assert walk.chosen(["compose"]) == (["compose"], whole)
    assert walk.chosen(["clock", "card", "systemd"]) == (["systemd"], ["card", "clock"])


def test_a_part_that_there_is_not_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert walk.main(tmp_path, "walk", ["systemd", "moon"]) == 2

    what, why, what_to_try = capsys.readouterr().err.splitlines()
    assert "moon" in what
    assert "systemd" not in what
    assert "clock" in why
    assert "Try: " in what_to_try
