"""`scripts/fleet-simulation`: real sensors, a real broker, links that drop."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import require_program

SCRIPT = Path(__file__).parents[2] / "scripts" / "fleet.d"
TIMEOUT = 280.0


@pytest.mark.integration
@pytest.mark.slow
def test_two_sensors_behind_bad_links_lose_nothing(tmp_path: Path) -> None:
    require_program("mosquitto")
    options = (
        "--sensors 2 --minutes 0.5 --down 0.5 --seed 1 --drain 150 "
        "--duration 2 --interval 3 --send-interval 2 --json"
    )

    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options.split()],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert len(report["sensors"]) == 2
    for sensor in report["sensors"].values():
        assert sensor["link_down_s"] > 10
        assert sensor["pss_mb"] > 0
        for transport in ("mqtt", "http"):
            counts = sensor[transport]
            assert counts["created"] == counts["delivered"] > 1
            assert counts["lost"] == counts["waiting"] == counts["doubled"] == 0
    assert not list(tmp_path.glob("acoupi-fleet-*"))


@pytest.mark.integration
@pytest.mark.slow
def test_a_hub_that_is_killed_has_all_of_two_sensors_once() -> None:
    options = (
        "--hub --sensors 2 --minutes 0.4 --down 0.3 --seed 1 --drain 150 "
        "--duration 1 --interval 4 --samplerate 16000 --send-interval 5 --json"
    )

    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options.split()],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["hub"] == {"kills": 5, "restarts": 2, "wipes": 2}
    for sensor in report["sensors"].values():
        assert sensor["recordings"] > 2
        assert sensor["effort_s"] > 20
        assert sensor["messages"] > 0
