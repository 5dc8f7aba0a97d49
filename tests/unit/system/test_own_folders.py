"""Each container has a log and a part of ``run/`` for itself; what was there before stays."""

from pathlib import Path

import pytest

from acoupi.bundles.own_folders import make_own_files, part_own_folders
from acoupi.errors import DeviceError
from acoupi.services import aside as aside_module
from acoupi.services.aside import Aside, aside_file
from acoupi.stack.mounting import own_files
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


def test_files_that_a_container_is_given_one_by_one_are_made_and_kept(settings: Settings) -> None:
    part_own_folders(settings, ["beat"])
    files = [*own_files(settings, "beat")]
    files[0].write_text("a log")

    make_own_files(files)

    assert all(file.is_file() for file in files)
    assert files[0].read_text() == "a log"


def test_a_link_in_the_place_of_such_a_file_is_refused(settings: Settings, tmp_path: Path) -> None:
    part_own_folders(settings, ["beat"])
    place = own_files(settings, "beat")[0]
    place.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DeviceError) as caught:
        make_own_files([place])

    assert "a link" in str(caught.value.why)
    assert not (tmp_path / "elsewhere").exists()


def test_all_that_a_service_writes_there_are_these_files(settings: Settings) -> None:
    part_own_folders(settings, ["beat"])
    files = own_files(settings, "beat")
    make_own_files(files)
    before = [file.stat().st_ino for file in files]
    folder = settings.of_service("beat").run_dir
    aside = Aside(aside_file(folder, "beat"))

    with ServiceLock(folder, "beat"):
        PulseFile(folder, "beat").write()
        aside.put("x" * 9, "celery", "it is none")

        assert {*folder.iterdir()} == {*files} & {*folder.iterdir()}
        assert [file.stat().st_ino for file in files] == before
        assert [file.name for file in folder.iterdir() if not file.stat().st_size] == ["beat.lock"]


def test_rubbish_is_bounded_where_no_file_can_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside_module, "MOST_BYTES", 1_000)
    path = tmp_path / "default.aside.jsonl"
    (tmp_path / "default.aside.jsonl.1" / "in the way").mkdir(parents=True)
    aside = Aside(path)

    for number in range(50):
        aside.put(f"message {number}", "celery", "it is none")

    assert path.stat().st_size < 2_000
    assert "message 49" in path.read_text()


def test_a_start_makes_the_files_that_somebody_removed(settings: Settings) -> None:
    setup_program(settings, "demo", target="compose", environ={})
    removed = own_files(settings, "detection")[0]
    owner = removed.parent.stat()
    removed.unlink()

    target_for(settings).restore_links()  # type: ignore[attr-defined]

    found = removed.stat()
    assert (found.st_uid, found.st_gid) == (owner.st_uid, owner.st_gid)


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
