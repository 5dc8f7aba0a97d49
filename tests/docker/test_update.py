"""`acoupi update` on a running sensor: an image that crashes, a good one, and the way back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.data import EffortState, utc_now
from tests.docker.bundles import QUICK, Bundle, docker
from tests.docker.offered import CRASHES, derived, id_of, images_of, no_image_left

OWN = "acoupi/test-update"


@pytest.fixture
def updated(fresh: Bundle) -> Iterator[Bundle]:
    """A bundle of which no image is left behind either."""
    with no_image_left(fresh, OWN):
        yield fresh


def test_an_image_that_crashes_is_undone_and_a_good_one_stays_until_rollback(
    image: str, updated: Bundle, tmp_path: Path
) -> None:
    before = id_of(image)
    crashes, good = (
        derived(image, f"{OWN}:{name}", lines)
        for name, lines in (("crashes", CRASHES), ("good", "LABEL good=yes\n"))
    )
    updated.set_up(*QUICK)
    updated.compose("up", "-d")
    updated.eventually(lambda: updated.analysed() > 0, "a recording is analysed")
    known = {one.id for one in updated.recordings()}

    since = utc_now()
    done = updated.acoupi("update", "--image", crashes, "--minutes", "2", timeout=400)

    assert done.returncode == 1, done.stdout + done.stderr
    assert f"the update to {crashes} was undone" in done.stderr
    assert "broken on purpose" in done.stderr
    assert images_of(updated) == {before}
    assert known <= {one.id for one in updated.recordings()}
    updated.goes_on("it records as before")
    assert updated.effort(since).seconds(EffortState.NOT_RUNNING) > 0

    stick = tmp_path / "images.tar"
    docker("save", "--output", str(stick), good, timeout=120)
    done = updated.acoupi("update", "--file", str(stick), "--minutes", "4", "--json", timeout=400)

    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert facts["update"]["stage"] == "good"
    assert facts["update"]["before"]["id"] == before
    assert images_of(updated) == {id_of(good)}

    done = updated.acoupi("rollback", timeout=300)

    assert done.returncode == 0, done.stdout + done.stderr
    assert images_of(updated) == {before}
    updated.goes_on("it records as before")
