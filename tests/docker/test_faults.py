"""`scripts/faults`: a short seed on the compose target finds nothing wrong."""

from pathlib import Path

import pytest

from tests.rig import faults


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("image")
def test_containers_that_are_killed_frozen_and_cut_off_lose_nothing(tmp_path: Path) -> None:
    report = faults(tmp_path, "compose", "--seed", "140", "--seconds", "70")

    assert sum(report["events"].values()) >= 5
    assert report["wrong"] == {}
    assert report["ledger_s"]["unexplained"] == report["ledger_s"]["false"] == 0
    assert report["messages"]["http"]["created"] > 10
    assert not list(tmp_path.glob("acoupi-faults-*"))
