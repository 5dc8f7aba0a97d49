"""`scripts/faults`: two minutes on the compose target, with a wrong clock, find nothing wrong."""

from pathlib import Path

import pytest

from tests.rig import faults


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("image")
def test_containers_with_faults_and_a_wrong_clock_lose_nothing(tmp_path: Path) -> None:
    report = faults(tmp_path, "compose", "--seed", "140", "--clocks", "1")

    assert sum(report["events"].values()) >= 20
    assert report["events"]["clock step"] == report["events"]["boot without a clock"] == 1
    assert report["wrong"] == {}
    assert report["ledger_s"]["unexplained"] == report["ledger_s"]["false"] == 0
    assert report["messages"]["http"]["created"] > 10
    assert not list(tmp_path.glob("acoupi-faults-*"))
