"""Root gives a home away once, and nothing that lies outside, whatever its services swap."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from acoupi.bundles import home_folder, ownership
from acoupi.commit import changing
from acoupi.stack.settings import Settings
from acoupi.system import SetupRequest, setup_program
from acoupi.system.lifecycle import set_up
from acoupi.targets.compose import ComposeTarget
from acoupi.writing import RenderedFile, make_folder, write_files
from tests.swaps import swapped
from tests.unit.system.test_home_folder import MODES, PROGRAM, modes_of

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="changes owners, which only root can")

OWNER = 4711
NAMES = ("data", "run")


def owner(path: Path) -> int:
    return path.lstat().st_uid


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder of root's, outside of every home."""
    folder = tmp_path / "foreign"
    (folder / "inside").mkdir(parents=True)
    (folder / "shadow").write_text("secret")
    return folder


def give(home: Path) -> None:
    ownership.give_contents(home, NAMES, OWNER, OWNER)


def test_what_acoupi_names_changes_its_owner_and_nothing_else(home: Path) -> None:
    (home / "data" / "recordings").mkdir(parents=True)
    (home / "data" / "metadata.db").write_text("rows")
    (home / "thesis").mkdir()
    (home / "thesis.txt").write_text("chapter 1")

    give(home)

    own = [home / "data", home / "data" / "recordings", home / "data" / "metadata.db"]
    assert {owner(path) for path in own} == {OWNER}
    assert {owner(home), owner(home / "thesis"), owner(home / "thesis.txt")} == {0}


@pytest.mark.parametrize(
    "make",
    [
        lambda path, foreign: path.symlink_to(foreign / "shadow"),
        lambda path, foreign: path.symlink_to(foreign),
        lambda path, foreign: os.link(foreign / "shadow", path),
        lambda path, _: os.mkfifo(path),
    ],
    ids=["link to a file", "link to a folder", "hard link", "FIFO"],
)
def test_only_files_and_folders_change_their_owner(
    home: Path, foreign: Path, make: Callable[[Path, Path], None]
) -> None:
    (home / "run").mkdir(parents=True)
    make(home / "run" / "entry", foreign)

    give(home)

    assert owner(home / "run" / "entry") == 0
    assert {owner(path) for path in (foreign, *foreign.rglob("*"))} == {0}


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(home: Path, foreign: Path) -> None:
    """Issue 11: between the listing and the change of the owner a service renames the folder."""
    data = home / "data" / "zz"
    data.mkdir(parents=True)
    for number in range(50):
        (data / f"{number}").touch()
    (data / "shadow").touch()

    with swapped(data, foreign):
        for number in range(200):
            ownership.give_contents(home, NAMES, OWNER + number % 2, OWNER)

    assert {owner(path) for path in (foreign, *foreign.rglob("*"))} == {0}


def test_folders_without_end_do_not_stop_it(home: Path) -> None:
    place = home / "data"
    for _ in range(ownership.DEEPEST + 20):
        place /= "d"
    place.mkdir(parents=True)

    give(home)

    assert owner(home / "data" / "d" / "d") == OWNER
    assert owner(place) == 0


def test_what_root_writes_later_has_the_owner_of_its_folder(home: Path) -> None:
    home.mkdir()
    os.chown(home, OWNER, OWNER)

    make_folder(home / "config" / "more", [])
    write_files({home / "config" / "deployment.json": RenderedFile("{}")})
    with changing(home / "config", "a test"):
        pass

    assert {owner(path) for path in home.rglob("*")} == {OWNER}


@pytest.fixture
def bundle(home: Path) -> Settings:
    settings = Settings(home=home)
    setup_program(settings, PROGRAM, target="compose")
    return settings


def test_what_the_disk_holds_keeps_its_owner(home: Path) -> None:
    (home / "lost+found").mkdir(parents=True)
    setup_program(Settings(home=home), PROGRAM, target="compose")
    assert owner(home / "lost+found") == 0
    assert owner(home) == owner(home / "data") != 0


def test_a_start_changes_no_owner(bundle: Settings) -> None:
    extra = bundle.home / "data" / "root.txt"
    extra.write_text("of root")

    ComposeTarget(bundle).restore_links()

    assert owner(extra) == 0
    assert owner(bundle.home) == owner(bundle.home / "data") != 0


def test_a_private_folder_that_is_a_link_stays_as_it_is(bundle: Settings, foreign: Path) -> None:
    broker = bundle.home / "run" / "broker"
    with suppress(OSError):
        broker.rmdir()
    with suppress(OSError):
        broker.rename(broker.with_name("aside"))
    broker.symlink_to(foreign)
    foreign.chmod(0o755)

    ownership.make_private(broker, bundle.home)

    assert stat.S_IMODE(foreign.stat().st_mode) == 0o755


def test_a_folder_outside_that_holds_something_keeps_its_owner(home: Path, tmp_path: Path) -> None:
    disk, empty = tmp_path / "disk", tmp_path / "empty"
    (disk / "photos").mkdir(parents=True)
    (empty / "lost+found").mkdir(parents=True)
    settings = Settings(home=home)
    options = ["--paths.recordings", str(disk), "--paths.tmp_audio", str(empty)]
    setup_program(settings, PROGRAM, options, target="compose")
    target = ComposeTarget(settings)

    assert owner(disk) == owner(disk / "photos") == owner(empty / "lost+found") == 0
    assert owner(empty) == target.owner[0]
    assert not ownership.can_write(disk, *target.owner)


def test_an_adopted_folder_gives_nothing_of_others_away(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    (home / "data" / "photo.jpg").write_text("of another")
    (home / "thesis.txt").write_text("chapter 1")
    settings = Settings(home=home)
    for _ in range(2):
        set_up(settings, SetupRequest(PROGRAM, target="compose", adopts_folder=True))

    assert home_folder.is_adopted(settings)
    others = (home, home / "thesis.txt", home / "data", home / "data" / "photo.jpg")
    assert {owner(path) for path in others} == {0}
    assert owner(home / "log") == owner(home / "config" / "program.json") != 0


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_of_a_bundle_do_not_depend_on_the_umask(home: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        setup_program(Settings(home=home), PROGRAM, target="compose")
    finally:
        os.umask(before)

    assert modes_of(home) <= {*MODES, 0o640, 0o660, 0o2770}  # of services that have a user
