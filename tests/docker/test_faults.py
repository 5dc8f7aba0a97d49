"""`scripts/faults`: a short seed on the compose target, with a wrong clock, finds nothing wrong."""

from pathlib import Path

import pytest

from tests.rig import faults


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("image")
def test_containers_with_faults_and_a_wrong_clock_lose_nothing(tmp_path: Path) -> None:
    counts = ("--seconds", "40", "--clocks", "1")
    report = faults(tmp_path, "compose", "--seed", "140", *counts)

    assert sum(report["events"].values()) >= 7
    assert report["events"]["clock step"] == report["events"]["boot without a clock"] == 1
    assert report["wrong"] == {}
    assert report["ledger_s"]["unexplained"] == report["ledger_s"]["false"] == 0
    assert report["messages"]["http"]["created"] > 10
    assert not list(tmp_path.glob("acoupi-faults-*"))
