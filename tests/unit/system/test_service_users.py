"""Where root sets a sensor up, a service that writes no file of another has a user of its own."""

import os
from pathlib import Path

import pytest
import yaml

from acoupi.system import Settings, setup_program, target_for
from tests.services import require
from tests.unit.system.test_compose_rendering import env_file

OWN = {"detection", "beat"}
"""Services of the demo program that share no file."""


@pytest.fixture
def settings(home: Path) -> Settings:
    require("only root can give files away", os.getuid() == 0)
    return Settings(home=home)


def set_up(settings: Settings) -> None:
    setup_program(settings, "demo", target="compose", environ={})


def users(settings: Settings) -> dict[str, int]:
    found = env_file(settings)
    return {
        name.removeprefix("ACOUPI_UID_").lower(): int(text)
        for name, text in found.items()
        if name.startswith("ACOUPI_UID_")
    }


def test_each_has_another_user_and_keeps_it(settings: Settings) -> None:
    set_up(settings)
    before = users(settings)

    set_up(settings)

    assert set(before) == OWN
    assert len({*before.values(), int(env_file(settings)["ACOUPI_UID"])}) == 3
    assert users(settings) == before
    assert target_for(settings).shared is None
    services = yaml.safe_load((settings.home / "docker-compose.yml").read_text())["services"]
    assert {name for name in services if "ACOUPI_UID_" in services[name].get("user", "")} == OWN


def test_its_folders_are_its_own_and_the_owner_of_the_home_can_empty_them(
    settings: Settings,
) -> None:
    set_up(settings)
    log = settings.log_dir / "detection"
    (log / "detection.log").write_text("")
    set_up(settings)
    gid = int(env_file(settings)["ACOUPI_GID"])

    for folder in (log, settings.run_dir / "detection"):
        found = folder.stat()
        assert (found.st_uid, found.st_gid) == (users(settings)["detection"], gid)
        assert found.st_mode & 0o7777 == 0o2770
    assert (log / "detection.log").stat().st_uid == users(settings)["detection"]
    shared = (settings.home / "data").stat()
    assert shared.st_uid == int(env_file(settings)["ACOUPI_UID"])


def test_who_chose_a_user_keeps_that_for_all(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / ".env").write_text("ACOUPI_UID=7\nACOUPI_GID=8\n")

    set_up(settings)

    assert users(settings) == {}


def test_without_root_all_run_as_who_set_it_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)

    set_up(settings)

    assert users(settings) == {}
    assert "one user" in (target_for(settings).shared or "")
