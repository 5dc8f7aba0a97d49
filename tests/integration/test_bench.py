"""The measurements run: a figure nobody can take is no figure."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.services import require, require_program

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
LENGTHS = {"HOUR_SECONDS": "4", "SLOT_SECONDS": "13", "RATES": ""}


def test_capture_is_measured_in_its_shortest_form(tmp_path: Path) -> None:
    for program in ("pulseaudio", "pactl", "pacat"):
        require_program(program)
    plugins = list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
    require("ALSA's pulse plugin is missing: apt-get install libasound2-plugins", bool(plugins))
    lengths = {f"ACOUPI_BENCH_CAPTURE_{name}": value for name, value in LENGTHS.items()}
    report = tmp_path / "figures.json"

    done = subprocess.run(
        [sys.executable, "scripts/bench.d", "capture", "--json", report],
        cwd=ROOT,
        env={**os.environ, **lengths},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(report.read_text())["figures"]["capture"]
    assert set(figures) == {"simulated 384 kHz", "virtual microphone 48 kHz", "slots"}
    for name in set(figures) - {"slots"}:
        assert figures[name]["missing_samples"]["is_met"], figures[name]
        assert figures[name]["doubled_samples"]["is_met"], figures[name]
        assert figures[name]["files_not_contiguous_count"] == 0
    assert figures["slots"]["start_error_most"]["is_met"], figures["slots"]
    assert "≤ 1  met" in done.stdout
