"""Writing and reading back, with secrets in a file of their own."""

import json
import os
import stat
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, SecretStr

from acoupi.config import (
    config_files,
    config_schema_json,
    dump_config,
    dump_config_field,
    load_answers,
    load_config,
    parse_config_from_args,
    write_config,
)
from acoupi.config.documents import Document
from acoupi.config.env_files import parse_env, updated_env
from acoupi.errors import AcoupiError, ConfigurationError, ParameterError


class Server(BaseModel):
    host: str = "h"
    password: SecretStr | None = None
    headers: dict[str, SecretStr] = {}
    plain: dict[str, str] = Field(default={}, json_schema_extra={"secret": True})


class Schema(BaseModel):
    name: str = "n"
    server: Server = Server()
    servers: list[Server] = []


NAME = "ACOUPI_CONFIG__SERVER__PASSWORD"


def test_a_configuration_comes_back_as_it_was(tmp_path: Path) -> None:
    config = Schema(
        name="Fledermäuse",
        server=Server(password=SecretStr("a'b\"c$d\\e\nf"), headers={"X-A": SecretStr("1")}),
        servers=[Server(password=SecretStr("zwei"))],
    )
    path = tmp_path / "config" / "program.json"

    write_config(config, path)

    assert load_config(path, Schema) == config


@pytest.mark.parametrize("secret", ["", " ", "=", "#", "'", '"', "\\", "${HOME}", "ü", "a\r\nb"])
def test_any_secret_comes_back_as_it_was(tmp_path: Path, secret: str) -> None:
    config = Schema(server=Server(password=SecretStr(secret), headers={"A.b": SecretStr(secret)}))

    write_config(config, tmp_path / "program.json")

    assert load_config(tmp_path / "program.json", Schema) == config


def test_secrets_are_in_their_own_file_and_nowhere_else(tmp_path: Path) -> None:
    secret = {"Authorization": "s3cr3t-plain"}
    server = Server(
        password=SecretStr("s3cr3t"), headers={"Key": SecretStr("s3cr3t-2")}, plain=secret
    )
    path = tmp_path / "program.json"

    write_config(Schema(server=server), path)

    assert "s3cr3t" not in path.read_text()
    assert json.loads(path.read_text())["server"]["password"] == {"$secret": NAME}
    secrets = tmp_path / "secrets.env"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert secrets.read_text().count("s3cr3t") == 3
    assert "s3cr3t" not in dump_config(Schema(server=server))
    assert "s3cr3t" not in dump_config_field(Schema(server=server), "server.plain")


def test_what_others_keep_in_the_secrets_file_stays(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.env"
    secrets.write_text("# redis\nREDIS_PASSWORD=x\n")
    path = tmp_path / "program.json"

    write_config(Schema(server=Server(password=SecretStr("a"))), path)
    write_config(Schema(server=Server(password=SecretStr("b c"))), path)

    assert secrets.read_text() == f"# redis\nREDIS_PASSWORD=x\n{NAME}='b c'\n"

    write_config(Schema(), path)

    assert secrets.read_text() == "# redis\nREDIS_PASSWORD=x\n"


def test_another_configuration_does_not_touch_the_secrets_of_this(tmp_path: Path) -> None:
    write_config(Schema(server=Server(password=SecretStr("a"))), tmp_path / "program.json")

    write_config(Schema(), tmp_path / "celery.json")

    assert NAME in (tmp_path / "secrets.env").read_text()


def test_the_environment_is_asked_before_the_secrets_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "program.json"
    write_config(Schema(server=Server(password=SecretStr("file"))), path)
    monkeypatch.setenv(NAME, "environment")

    config = load_config(path, Schema)

    assert config.server.password == SecretStr("environment")


def test_a_secret_that_is_not_here_is_named(tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    write_config(Schema(server=Server(password=SecretStr("a"))), path)
    (tmp_path / "secrets.env").unlink()

    with pytest.raises(ConfigurationError) as caught:
        load_config(path, Schema)

    assert "server.password" in caught.value.message
    assert NAME in (caught.value.why or "")
    with pytest.raises(ParameterError, match=r"server\.password"):
        parse_config_from_args(Schema, [], False, previous=load_answers(path), environ={})


def test_a_file_of_another_sensor_can_be_given_with_its_secrets_as_options(tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    write_config(Schema(server=Server(password=SecretStr("a"))), path)
    (tmp_path / "secrets.env").unlink()

    config = parse_config_from_args(
        Schema, ["--server.password", "b"], False, file=path, environ={}
    )

    assert config.server.password == SecretStr("b")


def test_stars_are_not_a_secret() -> None:
    with pytest.raises(ConfigurationError, match=r"server\.password"):
        parse_config_from_args(Schema, ["--server.password", "**********"], False, environ={})


def test_a_full_disk_leaves_both_files_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "program.json"
    write_config(Schema(name="old", server=Server(password=SecretStr("old"))), path)
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(AcoupiError) as caught:
        write_config(Schema(name="new", server=Server(password=SecretStr("new"))), path)

    assert caught.value.exit_code == 1
    assert "no space left on device" in (caught.value.why or "").lower()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before


def test_describing_the_files_writes_nothing(tmp_path: Path) -> None:
    files = config_files(Schema(server=Server(password=SecretStr("a"))), tmp_path / "p.json")

    assert [path.name for path in files] == ["secrets.env", "p.json"]
    assert list(tmp_path.iterdir()) == []


def test_none_is_an_empty_configuration(tmp_path: Path) -> None:
    write_config(None, tmp_path / "p.json")

    assert load_config(tmp_path / "p.json", Schema) == Schema()


def test_the_schema_is_json() -> None:
    schema = json.loads(config_schema_json(Schema))

    assert schema["properties"]["name"]["default"] == "n"


@pytest.mark.parametrize(
    "value", ["a", "", "a b", "it's", 'say "x"', "$HOME", "a\\nb", "a\nb", "`x`", "#x", "ü", "'"]
)
def test_any_secret_survives_the_secrets_file(value: str) -> None:
    assert parse_env(updated_env("", {"A": value, "B": "2"})) == {"A": value, "B": "2"}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("name", "text", "line", "why"),
    [
        ("a.yaml", BOMB, 1, "its aliases expand to too much"),
        ("a.yaml", "b: 1\na: " + "[" * 60 + "]" * 60, 1, "nested too deeply"),
        ("a.yaml", "[" * 100_000, 1, "nested too deeply"),
        ("a.yaml", "b: 1\na: " + "9" * 4000, 2, "a number has 4000 digits"),
        ("a.yaml", "b: 1\na: 0x" + "f" * 4000, 2, "a number has 4002 digits"),
        ("a.yaml", "b: 1\nduration: 3\x07\n", 2, "the character U+0007"),
        ("a.yaml", "b: 1\nduration: 3\x00\n", 2, "the character U+0000"),
        ("a.yaml", "a: " + "x" * 300_000, 1, "longer than 262144 bytes"),
        ("a.json", '{"a": ' + "[" * 60 + "]" * 60 + "}", 1, "nested too deeply"),
        ("a.json", '{"a": ' + "[" * 100_000, 1, "nested too deeply"),
        ("a.json", '{"a": ' + "9" * 4000 + "}", 1, "a number in it has 4000 digits"),
        ("a.json", '{"a": [' + "1," * 120_000 + "1]}", 1, "more than 100000 values"),
        ("a.toml", "a = " + "9" * 4000, 1, "more than 40 digits"),
        ("a.toml", ".".join("a" * 200_000) + " = 1", 1, "a name in it has more than 50 parts"),
        ("a.toml", "a = " + "[" * 60 + "]" * 60, 1, "nested too deeply"),
    ],
)
def test_a_document_that_is_too_much_is_refused_at_once(
    tmp_path: Path, name: str, text: str, line: int, why: str
) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        Document.read(path).parsed()

    assert f"line {line} " in caught.value.message
    assert why in (caught.value.why or "")


def test_a_file_that_is_too_long_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "sensor.json"
    with path.open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(ConfigurationError) as caught:
        Document.read(path)

    assert "longer than 1000000 bytes" in (caught.value.why or "")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sensor.json")

    with pytest.raises(ConfigurationError) as caught:
        Document.read(tmp_path / "sensor.json")

    assert "not a regular file" in (caught.value.why or "")
