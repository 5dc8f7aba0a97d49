"""An image that a hub gives to a running sensor: undone where it crashes, kept where it is good."""

from acoupi.bundles.variables import choose
from tests.docker.bundles import Bundle
from tests.docker.offered import CRASHES, derived, id_of, images_of, no_image_left, offered
from tests.postgres import Postgres

OWN = "acoupi/test-fleet-update"


def test_the_hub_gives_an_image_that_crashes_a_good_one_and_that_of_before(
    image: str, fresh: Bundle, postgres: Postgres
) -> None:
    first, crashes, good = (
        derived(image, f"{OWN}:{name}", lines)
        for name, lines in (("first", ""), ("crashes", CRASHES), ("good", "LABEL good=yes\n"))
    )
    with (
        no_image_left(fresh, OWN),
        offered(fresh, postgres.new_database("offered")) as sensor,
    ):
        choose(fresh.home, {"ACOUPI_IMAGE": first})
        fresh.compose("up", "-d")
        sensor.follow()
        fresh.eventually(sensor.is_well, "the hub finds it well")

        sensor.give(crashes, minutes=4)
        done = sensor.follow()

        assert done.returncode == 3, done.stdout + done.stderr
        assert f"the update to {crashes} was undone" in done.stderr.lower()
        assert images_of(fresh) == {id_of(first)}
        fresh.eventually(lambda: sensor.last().state == "undone", "the hub undoes it")
        assert "broken on purpose" in sensor.last().why
        assert "undone by the sensor oak-1" in sensor.last().why
        assert sensor.follow().returncode == 0
        fresh.eventually(sensor.is_well, "the hub finds it well again")

        sensor.give(good, minutes=8)
        done = sensor.follow()

        assert done.returncode == 0, done.stdout + done.stderr
        fresh.eventually(lambda: sensor.last().state == "done", "the hub finds it well with it")
        assert images_of(fresh) == {id_of(good)}
        refused = fresh.acoupi("update", "--image", first)
        assert "the hub chooses" in refused.stderr

        sensor.give(None, minutes=8)
        done = sensor.follow()

        assert done.returncode == 0, done.stdout + done.stderr
        assert images_of(fresh) == {id_of(first)}
        fresh.goes_on("it records as before")
