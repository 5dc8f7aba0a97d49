"""Each container has a log and a part of ``run/`` for itself; what was there before stays."""

from pathlib import Path

import pytest

from acoupi.bundles.own_folders import part_own_folders
from acoupi.errors import DeviceError
from acoupi.stack.pulse import PulseFile, ServiceLock, runs_here
from acoupi.system import Settings, setup_program, target_for


@pytest.fixture
def settings(home: Path) -> Settings:
    for folder in ("log", "run"):
        (home / folder).mkdir(parents=True)
    return Settings(home=home)


def test_logs_of_before_are_kept_and_found_under_the_name_that_people_know(
    settings: Settings,
) -> None:
    (settings.log_dir / "recording.log").write_text("new")
    (settings.log_dir / "recording.log.1").write_text("old")

    for _ in range(2):
        part_own_folders(settings, ["recording"])

    own = settings.log_dir / "recording"
    assert (own / "recording.log").read_text() == "new"
    assert (own / "recording.log.1").read_text() == "old"
    assert (settings.log_dir / "recording.log").is_symlink()
    assert (settings.log_dir / "recording.log").read_text() == "new"


def test_a_log_that_another_target_wrote_meanwhile_replaces_none(settings: Settings) -> None:
    part_own_folders(settings, ["beat"])
    (settings.log_dir / "beat" / "beat.log").write_text("in the container")
    (settings.log_dir / "beat.log").unlink()
    (settings.log_dir / "beat.log").write_text("beside it")

    part_own_folders(settings, ["beat"])

    texts = sorted(one.read_text() for one in (settings.log_dir / "beat").iterdir())
    assert texts == ["beside it", "in the container"]


def test_a_service_of_before_that_still_runs_keeps_its_lock(settings: Settings) -> None:
    PulseFile(settings.run_dir, "beat").write()
    with ServiceLock(settings.run_dir, "beat"):
        part_own_folders(settings, ["beat"])

        assert runs_here(settings, "beat")
        assert (settings.run_dir / "beat.json").exists()
    part_own_folders(settings, ["beat"])
    assert not list(settings.run_dir.glob("beat.*"))


def test_who_runs_in_a_container_is_found(settings: Settings) -> None:
    with ServiceLock(settings.of_service("recording").run_dir, "recording"):
        assert runs_here(settings, "recording")
    assert not runs_here(settings, "recording")


def test_setup_makes_every_folder_that_is_mounted(home: Path) -> None:
    settings = Settings(home=home)
    setup_program(settings, "demo", target="compose", environ={})

    for folder in (
        *("log/recording", "run/recording", "log/beat", "run/beat", "data/cache", "data/spool"),
        *("data/recordings", "run/door/detection", "waiting/detection"),
    ):
        assert (home / folder).is_dir(), folder


def test_a_disk_that_refuses_is_named(settings: Settings) -> None:
    (settings.log_dir / "beat").write_text("")

    with pytest.raises(DeviceError, match="beat"):
        part_own_folders(settings, ["beat"])


def test_logs_are_read_in_the_folder_of_a_service(home: Path) -> None:
    settings = Settings(home=home)
    setup_program(settings, "demo", target="compose", environ={})

    assert target_for(settings).settings_of("beat").log_dir == home / "log" / "beat"
