"""Secrets are seen where they are needed, and nowhere else."""

import json
import stat
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from acoupi.bundles.parted_secrets import part_secrets
from acoupi.config import is_valid_without_secrets
from acoupi.programs.core.workers import AcoupiWorker, WorkerConfig
from acoupi.programs.demo import Program as Demo
from acoupi.stack.stack import stack_for
from acoupi.system import Settings, load_config, setup_program
from acoupi.writing import write_atomic
from tests.unit.system.test_compose_rendering import services, sources

TOKEN = "not-for-everyone"
WITH_TOKEN = {"ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN": TOKEN}
SERVER = ["--messaging.http.base_url", "https://example.org/in"]


def set_up(settings: Settings, *args: str, environ: dict[str, str] | None = None) -> None:
    setup_program(settings, "demo", [*args], target="compose", environ=environ or {})


def test_only_who_sends_messages_is_given_the_secrets(settings: Settings) -> None:
    set_up(settings, *SERVER, environ=WITH_TOKEN)

    folder = str(settings.home / "secrets" / "config")
    found = services(settings)
    assert sources(found["default"])[folder] is True
    assert "ACOUPI_SECRETS" not in found["default"]["environment"]
    for name in ("recording", "detection", "beat"):
        assert folder not in sources(found[name])
        assert found[name]["environment"]["ACOUPI_SECRETS"] == "withheld"


def test_the_file_of_secrets_is_a_link_out_of_the_folder_that_all_see(settings: Settings) -> None:
    set_up(settings, *SERVER, environ=WITH_TOKEN)

    link = settings.home / "config" / "secrets.env"
    assert TOKEN in link.read_text()
    assert stat.S_IMODE(link.stat().st_mode) == 0o600
    assert link.is_symlink()
    assert not link.resolve().is_relative_to(link.parent)
    inside = [path for path in link.parent.iterdir() if not path.is_symlink()]
    assert not any(TOKEN in path.read_text() for path in inside)


def test_a_second_setup_leaves_the_link_and_writes_where_it_leads(settings: Settings) -> None:
    set_up(settings)
    link = settings.home / "config" / "secrets.env"
    assert link.is_symlink(), "before there is any secret"

    set_up(settings, *SERVER, environ=WITH_TOKEN)

    assert link.is_symlink()
    assert TOKEN in link.read_text()


def test_what_an_editor_put_in_the_place_of_the_link_is_parted_again(settings: Settings) -> None:
    set_up(settings, *SERVER, environ=WITH_TOKEN)
    link = settings.home / "config" / "secrets.env"
    link.unlink()
    link.write_text("A=new\n")

    part_secrets(settings.home)

    assert link.is_symlink()
    assert link.read_text() == "A=new\n"


def test_who_sees_no_secrets_reads_the_configuration_all_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(settings, *SERVER, environ=WITH_TOKEN)
    (settings.home / "secrets" / "config" / "secrets.env").unlink()
    monkeypatch.setenv("ACOUPI_SECRETS", "withheld")

    config: Any = load_config(settings.program_config_file, Demo.get_config_schema())

    assert config.messaging.http.token.get_secret_value() == "withheld"
    assert TOKEN not in json.dumps(config.model_dump(mode="json"))


class Loose(BaseModel):
    password: SecretStr = SecretStr("a")


class Strict(BaseModel):
    pin: SecretStr = SecretStr("1234")

    @field_validator("pin")
    @classmethod
    def is_a_number(cls, pin: SecretStr) -> SecretStr:
        if not pin.get_secret_value().isdigit():
            raise ValueError("must be digits")
        return pin


class Number(BaseModel):
    pin: Annotated[int, Field(json_schema_extra={"secret": True})] = 1234


@pytest.mark.parametrize(("kind", "can"), [(Loose, True), (Strict, False), (Number, False)])
def test_a_configuration_that_is_none_without_its_secrets_is_known(
    kind: type[BaseModel], can: bool
) -> None:
    assert is_valid_without_secrets(kind()) is can


def workers(*more: AcoupiWorker) -> type:
    class Program:
        worker_config = WorkerConfig(
            workers=[AcoupiWorker(name="recording", queues=["recording"], concurrency=1), *more]
        )

        @classmethod
        def get_worker_config(cls) -> WorkerConfig:
            return cls.worker_config

        @classmethod
        def get_queue_names(cls) -> list[str]:
            return ["recording", "celery", "licensed"]

    return Program


def seeing(settings: Settings, program: Any, config: BaseModel) -> set[str]:
    stack = stack_for(program, config, settings)
    return {one.name for one in stack.services if one.secrets}


def test_a_worker_can_say_that_it_needs_them_or_not(settings: Settings) -> None:
    program = workers(
        AcoupiWorker(name="default", queues=["celery"]),
        AcoupiWorker(name="licensed", queues=["licensed"], secrets=True),
    )

    assert seeing(settings, program, Loose()) == {"default", "licensed"}


def test_where_the_configuration_is_none_without_them_all_workers_see_them(
    settings: Settings,
) -> None:
    program = workers(AcoupiWorker(name="default", queues=["celery"]))

    assert seeing(settings, program, Strict()) == {"recording", "default"}


def test_writing_through_a_link_is_atomic_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")

    write_atomic(tmp_path / "link", "text\n", 0o600)

    assert (tmp_path / "there" / "file").read_text() == "text\n"
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]
