"""`scripts/faults`: a short seed of plain processes, power cuts and a wrong clock."""

from pathlib import Path

import pytest

from tests.rig import faults, require_disk
from tests.services import require_program


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_faults_of_a_seed_ten_power_cuts_and_a_wrong_clock_lose_nothing(tmp_path: Path) -> None:
    require_program("mosquitto")
    require_disk()

    counts = ("--power-cuts", "10", "--clocks", "1")
    report = faults(tmp_path, "process", "--seed", "77", "--seconds", "60", *counts)

    assert report["events"]["power cut"] >= 10
    assert report["events"]["clock step"] == report["events"]["boot without a clock"] == 1
    assert report["wrong"] == {}
    assert report["ledger_s"]["unexplained"] == report["ledger_s"]["false"] == 0
    assert report["recordings"] > 10
    assert report["messages"]["mqtt"]["created"] > 10
    assert not list(tmp_path.glob("acoupi-faults-*"))
