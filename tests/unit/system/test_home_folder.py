"""Which folder may become a home."""

import os
import stat
from pathlib import Path

import pytest

from acoupi.bundles import home_folder
from acoupi.errors import ConfigurationError, ParameterError
from acoupi.home import home_dir
from acoupi.stack.settings import Settings
from acoupi.system import SetupRequest, setup_program
from acoupi.system.lifecycle import set_up
from tests.superuser import rights_hold

MODES = {0o755, 0o644, 0o700, 0o600}
PROGRAM = "acoupi.programs.connected"


def modes_of(home: Path) -> set[int]:
    paths = [path for path in (home, *home.rglob("*")) if not path.is_symlink()]
    return {stat.S_IMODE(path.stat().st_mode) for path in paths}


def refusal(home: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        home_folder.check_home(Settings(home=home), adopts=True)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        *("/", "/etc", "/etc/acoupi", "/usr", "/usr/local/x", "/home", "/home/pi", "/root"),
        *("/var", "/var/lib", "/var/run", "/dev", "/dev/shm", "/tmp", "/opt", "/proc/self"),
        "/etc/../etc",
    ],
)
def test_a_system_folder_is_never_a_home(text: str) -> None:
    error = refusal(Path(text))
    assert "as ACOUPI_HOME" in error.message
    assert "belongs to the system" in str(error.why)
    assert error.help


@pytest.mark.parametrize("text", ["/opt/acoupi", "/srv/sensor", "/var/lib/acoupi", "/dev/shm/x"])
def test_a_folder_below_may_be_one(text: str) -> None:
    home_folder.check_home(Settings(home=Path(text)))


@pytest.mark.parametrize(
    ("mode", "below"), [(0o555, ""), (0o000, ""), (0o300, ""), (0o555, "new"), (0o000, "deep/new")]
)
def test_a_folder_that_is_not_the_users_to_write_in_is_refused_by_name(
    tmp_path: Path, mode: int, below: str
) -> None:
    folder = tmp_path / "of root"
    folder.mkdir(mode=mode)

    with rights_hold():
        error = refusal(folder / below)

    assert f"may not write in {folder}" in error.message
    assert "it belongs to" in str(error.why)
    assert f"'{folder}'" in str(error.help)


def test_a_link_is_resolved_first(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    assert "/etc, where" in str(refusal(tmp_path / "link").why)


def test_a_folder_of_the_user_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert refusal(tmp_path)


def test_dots_are_resolved_first(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    assert Settings(home=tmp_path / "link" / "..").home == tmp_path / "a"


def test_a_folder_with_files_of_others_is_refused_and_stays_as_it_is(home: Path) -> None:
    home.mkdir()
    for number in range(8):
        (home / f"photo{number}.jpg").write_text("oak")
    with pytest.raises(ConfigurationError) as caught:
        setup_program(Settings(home=home), PROGRAM)
    assert "photo0.jpg" in str(caught.value.why)
    assert "and 3 more" in str(caught.value.why)
    assert "--adopt-folder" in str(caught.value.help)
    assert len(list(home.iterdir())) == 8


def test_a_folder_with_files_of_others_can_be_adopted(home: Path) -> None:
    home.mkdir()
    (home / "photo.jpg").write_text("oak")
    settings = Settings(home=home)
    set_up(settings, SetupRequest(PROGRAM, adopts_folder=True))
    set_up(settings, SetupRequest(PROGRAM))  # it is a home now
    assert (home / "photo.jpg").read_text() == "oak"
    assert home_folder.is_adopted(settings)


def test_an_empty_file_is_nobodys_work(home: Path) -> None:
    home.mkdir()
    (home / "requests").touch()  # acoupi setup > "$ACOUPI_HOME/requests"
    home_folder.check_home(Settings(home=home))

    (home / "link").symlink_to("requests")
    with pytest.raises(ConfigurationError, match="other files"):
        home_folder.check_home(Settings(home=home))


@pytest.mark.parametrize("name", ["lost+found", ".env", "docker-compose.override.yml", "data"])
def test_what_a_new_disk_holds_and_acoupi_names_is_no_obstacle(home: Path, name: str) -> None:
    (home / name).mkdir(parents=True)
    home_folder.check_home(Settings(home=home))


def test_a_home_may_hold_what_its_owner_put_there_later(home: Path) -> None:
    settings = Settings(home=home)
    setup_program(settings, PROGRAM)
    (home / "notes.txt").touch()
    setup_program(settings, PROGRAM)
    assert not home_folder.is_adopted(settings)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(home: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        setup_program(Settings(home=home), PROGRAM)
    finally:
        os.umask(before)
    assert modes_of(home) <= MODES
    assert stat.S_IMODE((home / "bin").stat().st_mode) == 0o755


def test_the_home_of_a_user_who_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACOUPI_HOME", "~nobody-here/sensor")

    with pytest.raises(ParameterError) as caught:
        home_dir()

    assert caught.value.lines() == [
        'Error: there is no folder "~nobody-here/sensor".',
        "  Why: it begins with the home folder of a user who is not on this machine.",
        "  Try: give the whole path, such as /mnt/usb/recordings",
    ]
