"""Homes that earlier versions left in the field work on in containers of the image of now.

tests/homes/README.md says what is in them.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import yaml

from tests.docker.bundles import Bundle, bundle_at, docker
from tests.docker.fleets import Device, write_overlay
from tests.homes.archive import Home, find_homes
from tests.homes.contents import (
    Before,
    check_effort,
    check_nothing_lost,
    effort_until_cut,
    is_taken_over,
)

HOMES = find_homes()


def of(target: str) -> pytest.MarkDecorator:
    """Run a test with each home of a target."""
    homes = [one for one in HOMES if one.made["target"] == target]
    return pytest.mark.parametrize("old", homes, ids=str)


def posted(server: Bundle | Device) -> list[UUID]:
    """The ids of the messages that the HTTP server was sent, one for each time."""
    return [UUID(one["id"]) for one in server.received("http") if one["id"]]


@of("compose")
@pytest.mark.parametrize("how", ["docker compose up", "acoupi compose up", "setup"])
def test_what_waited_is_done_and_nothing_is_lost_when_it_starts(
    old: Home, how: str, image: str, servers_image: str, tmp_path: Path
) -> None:
    with bundle_at(tmp_path / "old") as bundle:
        place = old.unpack(bundle.home)
        with (place / ".env").open("a") as file:
            file.write(f"ACOUPI_IMAGE={image}\n")
        bundle.add_servers(servers_image)
        effort = effort_until_cut(old, place)

        if how == "setup":
            done = bundle.acoupi("setup", "--no-prompt")
            assert done.returncode == 0, done.stderr
        if how == "docker compose up":
            bundle.compose("up", "-d")
        else:
            done = bundle.acoupi("compose", "up")
            assert done.returncode == 0, done.stderr
        bundle.eventually(
            lambda: is_taken_over(old, place, lambda: posted(bundle)), "all that waited is done"
        )
        bundle.compose("stop")

        check_nothing_lost(old, place, posted(bundle))
        check_effort(old, place, effort)


NO_CARD = "services: {recording: {devices: !reset []}}\n"
ANALYSED = """
from pathlib import Path
from acoupi.components import SqliteStore
store = SqliteStore(Path("/acoupi/data/metadata.db"))
print(*[one.recording.id for one in store.get_model_outputs()])
"""


@contextlib.contextmanager
def device_of_then(
    old: Home, folder: Path, image: str, servers_image: str
) -> Iterator[tuple[Device, Path]]:
    """Give a device with the volumes of a fleet, not started, and where they are unpacked."""
    unpacked = old.raw(folder)
    pushed = unpacked / "pushed"
    files = ["docker-compose.yml", "supervisor.yml", "no-card.yml"]
    names = yaml.safe_load((pushed / files[0]).read_text())["services"]
    device = Device(pushed, files, tuple(names))
    (pushed / "no-card.yml").write_text(NO_CARD)
    write_overlay(device, image, servers_image, {"": old.made["variables"]})
    device.compose("create")
    try:
        for volume in (unpacked / "volumes").iterdir():
            copy(image, f"{device.project}_{volume.name}", volume, "/inside", "1000:1000")
        yield device, unpacked / "volumes"
    finally:
        device.end()


def copy(image: str, volume: str, place: Path, to: str, owner: str) -> None:
    """Copy a volume of a device ("/inside") from or to a folder ("/outside")."""
    away = "/outside" if to == "/inside" else "/inside"
    work = f"cp -a {away}/. {to} && chown -R {owner} {to}"
    docker("run", "--rm", "--user=0", "--network=none", "-v", f"{volume}:/inside",
           "-v", f"{place}:/outside", image, "sh", "-c", work)  # fmt: skip


@of("balena")
def test_the_volumes_of_a_fleet_go_on_as_the_same_device(
    old: Home, image: str, servers_image: str, tmp_path: Path
) -> None:
    effort = effort_until_cut(old, old.unpack(tmp_path / "before"))
    before = Before(old.made)

    with device_of_then(old, tmp_path, image, servers_image) as (device, volumes):
        device.compose("up", "-d")

        def is_done() -> bool:
            analysed = {UUID(one) for one in device.python_in("default", ANALYSED).split()}
            sent = before.messages("http", "pending") <= set(posted(device))
            return sent and set(before.recordings) < analysed

        device.eventually(is_done, "all that waited is done")
        provisioned = device.read("config/provisioned.json")
        device.compose("stop")
        shutil.rmtree(volumes)
        volumes.mkdir()
        for name in ("config", "data", "log", "run"):
            (volumes / name).mkdir()
            owner = f"{os.geteuid()}:{os.getegid()}"
            copy(image, f"{device.project}_{name}", volumes / name, "/outside", owner)
        place = old.settle(volumes.parent, tmp_path / "after")

        assert provisioned["fault"] is None
        assert [one["ended_on"] for one in provisioned["deployments"]] == [None]
        check_nothing_lost(old, place, posted(device))
        check_effort(old, place, effort)
