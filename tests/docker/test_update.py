"""`acoupi update` on a running sensor: an image that crashes, a good one, and the way back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.bundles.variables import choose
from acoupi.data import EffortState, utc_now
from acoupi.home import home_mark
from tests.docker.bundles import QUICK, Bundle, docker
from tests.docker.offered import CRASHES, derived, offered
from tests.postgres import Postgres


def images_of(bundle: Bundle) -> set[str]:
    """What the containers of the program run from."""
    return {bundle.inspect(name)["Image"] for name in ("recording", "detection", "default")}


def id_of(image: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", image).stdout.strip()


@pytest.fixture
def updated(fresh: Bundle) -> Iterator[Bundle]:
    """A bundle of which no image is left behind either."""
    yield fresh
    fresh.end()
    for own in ("acoupi/test-update", f"acoupi/kept:{home_mark(fresh.home)}-*"):
        found = docker("images", "--format", "{{.Repository}}:{{.Tag}}", own).stdout.split()
        docker("image", "rm", *found, check=False)


def test_an_image_that_crashes_is_undone_and_a_good_one_stays_until_rollback(
    image: str, updated: Bundle, tmp_path: Path
) -> None:
    before = id_of(image)
    crashes, good = derived(image, "crashes", CRASHES), derived(image, "good", "LABEL good=yes\n")
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


def test_the_hub_gives_an_image_that_crashes_a_good_one_and_that_of_before(
    image: str, updated: Bundle, postgres: Postgres
) -> None:
    first, crashes, good = (
        derived(image, f"hub-{name}", lines)
        for name, lines in (("first", ""), ("crashes", CRASHES), ("good", "LABEL good=yes\n"))
    )
    with offered(updated, postgres.new_database("offered")) as sensor:
        choose(updated.home, {"ACOUPI_IMAGE": first})
        updated.compose("up", "-d")
        sensor.follow()
        updated.eventually(sensor.is_well, "the hub finds it well")

        sensor.give(crashes, minutes=4)
        done = sensor.follow()

        assert done.returncode == 3, done.stdout + done.stderr
        assert f"the update to {crashes} was undone" in done.stderr.lower()
        assert images_of(updated) == {id_of(first)}
        updated.eventually(lambda: sensor.last().state == "undone", "the hub undoes it")
        assert "broken on purpose" in sensor.last().why
        assert "undone by the sensor oak-1" in sensor.last().why
        assert sensor.follow().returncode == 0
        updated.eventually(sensor.is_well, "the hub finds it well again")

        sensor.give(good, minutes=8)
        done = sensor.follow()

        assert done.returncode == 0, done.stdout + done.stderr
        updated.eventually(lambda: sensor.last().state == "done", "the hub finds it well with it")
        assert images_of(updated) == {id_of(good)}
        refused = updated.acoupi("update", "--image", first)
        assert "the hub decides" in refused.stderr

        sensor.give(None, minutes=8)
        done = sensor.follow()

        assert done.returncode == 0, done.stdout + done.stderr
        assert images_of(updated) == {id_of(first)}
        updated.goes_on("it records as before")
