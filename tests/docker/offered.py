"""A sensor in containers that follows a hub on this machine, for tests and for the bench."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_network

from acoupi import data
from acoupi.fleet.judging import Fleet
from acoupi.home import home_mark
from acoupi.hub.database import HubDatabase
from acoupi.hub.fleet_settings import Change, set_image, set_key, unset_value
from acoupi.hub.fleet_trial import ChangeRow, advance, changes
from acoupi.hub.heartbeats import put_reported
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.offers import make_key, public_key
from tests.docker.bundles import QUICK, Bundle, Done, docker
from tests.hubs import served

__all__ = [
    "CRASHES",
    "NAME",
    "Offered",
    "derived",
    "id_of",
    "images_of",
    "no_image_left",
    "offered",
]

NAME = "oak-1"
CRASHES = """\
USER 0:0
RUN echo 'raise SystemExit("broken on purpose")' \
    > "$(python -c 'import acoupi.system.celery as it; print(it.__path__[0])')/worker.py"
USER 1000:1000
"""
OFTEN = ("--messaging.heartbeat_interval", "10", "--sensor.hub.interval_seconds", "5")


def derived(image: str, name: str, lines: str) -> str:
    """Build an image of that name from that of the sensor and a few lines; return the name."""
    done = subprocess.run(
        ["docker", "build", "--quiet", "--tag", name, "-"], input=f"FROM {image}\n{lines}",
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return name


def images_of(bundle: Bundle) -> set[str]:
    """What the containers of the program run from."""
    return {bundle.inspect(name)["Image"] for name in ("recording", "detection", "default")}


def id_of(image: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", image).stdout.strip()


@contextmanager
def no_image_left(bundle: Bundle, repository: str) -> Iterator[None]:
    """End a bundle after a block, and remove the images that were made for it."""
    try:
        yield
    finally:
        bundle.end()
        for own in (f"{repository}:*", f"acoupi/kept:{home_mark(bundle.home)}-*"):
            found = docker("images", "--format", "{{.Repository}}:{{.Tag}}", own).stdout.split()
            docker("image", "rm", *found, check=False)


class Offered:
    """The sensor, and what its hub gives it."""

    def __init__(self, bundle: Bundle, hub: HubDatabase, private: str) -> None:
        self.bundle, self.hub, self.private = bundle, hub, private

    def give(self, image: str | None, minutes: float) -> None:
        """Offer an image; None: the one from before the hub gave any."""
        change = Change(private=self.private, now=data.utc_now(), minutes=minutes)
        if image is None:
            unset_value(self.hub, NAME, "sensor.image", change)
        else:
            set_image(self.hub, NAME, image, change)

    def follow(self) -> Done:
        """Let the sensor look once, as a timer would."""
        return self.bundle.acoupi("fleet", "follow", "--once", timeout=500)

    def last(self) -> ChangeRow:
        """How far the last change is, by what came until now."""
        advance(self.hub, data.utc_now())
        with self.hub.reading() as connection:
            return next(changes(connection, 1))

    def is_well(self) -> bool:
        """Whether the hub finds the sensor well, and has recordings and what it follows."""
        fleet = Fleet(data.utc_now(), judges_effort=False)
        put_reported(fleet, self.hub)
        with self.hub.reading() as connection:
            (recordings,) = connection.one("SELECT count(*) FROM recording")
            targets = connection.execute("SELECT target FROM settings_in_force").fetchall()
        states = [row.state for row in fleet.rows()]
        return bool(recordings) and (states, targets) == (["well"], [("compose",)])


@contextmanager
def offered(bundle: Bundle, database: str) -> Iterator[Offered]:
    """Set a sensor up with a hub that its containers reach as this machine does."""
    found = docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}").stdout
    config = json.loads(found)[0]
    # Some engines do not say it where the bridge was there before them; it is the first address.
    gateway = config.get("Gateway") or str(ip_network(config["Subnet"])[1])
    private = make_key()
    with served(database, host=gateway) as address, closing(HubDatabase(database)) as hub:
        set_key(hub, public_key(private))
        add_sensor(hub, NAME)
        of_hub = {"url": address, "token": make_token(hub, NAME), "name": NAME}
        words = [word for one, text in of_hub.items() for word in (f"--sensor.hub.{one}", text)]
        bundle.set_up(*QUICK, *OFTEN, *words, "--sensor.hub.key", public_key(private))
        yield Offered(bundle, hub, private)
