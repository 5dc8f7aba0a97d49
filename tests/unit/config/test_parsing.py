"""Configurations from options, variables, files and earlier answers."""

import datetime
import json
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, HttpUrl, SecretStr, field_serializer

from acoupi.config import get_config_field, parse_config_from_args
from acoupi.errors import ConfigurationError, ParameterError
from tests.unit.config.schema import (
    Bats,
    Birds,
    Http,
    Mqtt,
    Recording,
    Transport,
    parse,
    refusal,
)

# ---- options


@pytest.mark.parametrize(
    ("args", "field", "expected"),
    [
        (["--name", "x"], "name", "x"),
        (["--name=--x"], "name", "--x"),
        (["--name="], "name", ""),
        (["--recording.duration", "0.5"], "recording.duration", 0.5),
        (["--messaging.use_tls"], "messaging.use_tls", True),
        (["--messaging.use-tls"], "messaging.use_tls", True),
        (["--no-messaging.use_tls"], "messaging.use_tls", False),
        (["--messaging.use_tls", "true"], "messaging.use_tls", True),
        (["--messaging.use_tls=off"], "messaging.use_tls", False),
        (["--messaging.order", "newest_first"], "messaging.order", "newest_first"),
        (["--messaging.max_messages", "5"], "messaging.max_messages", 5),
        (["--messaging.max_messages", "null"], "messaging.max_messages", None),
        (["--messaging.max_messages", "None"], "messaging.max_messages", None),
        (["--bits", "24"], "bits", 24),
        (["--tags", "x"], "tags", ["x"]),
        (["--tags", "x", "--tags", "y"], "tags", ["x", "y"]),
        (["--tags", '["x", "y"]'], "tags", ["x", "y"]),
        (["--tags.0", "x", "--tags.1", "y"], "tags", ["x", "y"]),
        (["--tags", "[]"], "tags", []),
        (["--tags.1", "y"], "tags", ["a", "y"]),
        (["--tags", '["x", "y"]', "--tags", "z"], "tags", ["x", "y", "z"]),
        (["--limit", "1.5"], "limit", "1.5"),
        (["--page", "https://here/x"], "page", HttpUrl("https://here/x")),
        (["--point", "-1.5", "2"], "point", (-1.5, 2.0)),
        (["--point", "[-1.5, 2]"], "point", (-1.5, 2.0)),
        (["--point.0", "1", "--point.1", "2"], "point", (1.0, 2.0)),
        (["--levels", "1", "--levels", "2"], "levels", (1, 2)),
        (["--zone", "Australia/Adelaide"], "zone", "Australia/Adelaide"),
        (["--day", "2026-05-01"], "day", datetime.date(2026, 5, 1)),
        (["--when", "2026-05-01T20:30"], "when", datetime.datetime(2026, 5, 1, 20, 30)),  # noqa: DTZ001
        (["--wait", "90"], "wait", datetime.timedelta(seconds=90)),
        (["--wait", "5m"], "wait", datetime.timedelta(minutes=5)),
        (["--wait", "PT5M"], "wait", datetime.timedelta(minutes=5)),
        (["--folder", "/x"], "folder", Path("/x")),
        (["--messaging.mqtt.host", "h"], "messaging.mqtt.host", "h"),
        (
            ["--messaging.mqtt.host=h", "--messaging.mqtt.transport", "unix"],
            "messaging.mqtt.transport",
            Transport.UNIX,
        ),
        (["--messaging.mqtt", '{"host": "h"}'], "messaging.mqtt.host", "h"),
        (["--messaging.mqtt", "none"], "messaging.mqtt", None),
        (
            ["--messaging.http.base_url", "u", "--messaging.http.headers.Authorization", "x y"],
            "messaging.http.headers",
            {"Authorization": "x y"},
        ),
        (
            ["--messaging.http.base_url", "u", "--messaging.http.headers.a.b", "x"],
            "messaging.http.headers",
            {"a.b": "x"},
        ),
        (
            ["--messaging.http.base_url", "u", "--messaging.http.headers", '{"A": "b"}'],
            "messaging.http.headers",
            {"A": "b"},
        ),
        (["--model.kind", "birds", "--model.species", "robin"], "model.species", ["robin"]),
        (["--model.species", "robin", "--model.kind", "birds"], "model.species", ["robin"]),
        (["--model.threshold", "0.5"], "model", Bats(threshold=0.5)),
        (["--second.kind", "bats", "--second.threshold", "0.5"], "second", Bats(threshold=0.5)),
        (["--models", '[{"kind": "birds"}]'], "models", [Birds()]),
        (["--models", '{"kind": "birds"}', "--models", '{"kind": "bats"}'], "models.1", Bats()),
        (["--intervals.0.duration", "5"], "intervals", [Recording(duration=5)]),
        (["--intervals", '[{"duration": 5}]'], "intervals", [Recording(duration=5)]),
        (["--intervals", '{"duration": 5}'], "intervals", [Recording(duration=5)]),
    ],
)
def test_an_option_sets_its_field(args: list[str], field: str, expected: object) -> None:
    config = parse(*args)

    assert get_config_field(config, field) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8", datetime.time(8)),
        ("14:23", datetime.time(14, 23)),
        ("8:10:53", datetime.time(8, 10, 53)),
        ("7pm", datetime.time(19)),
        ("12am", datetime.time(0)),
        ("6:05 p.m.", datetime.time(18, 5)),
        ("23:59:59.5", datetime.time(23, 59, 59, 500000)),
    ],
)
def test_a_time_of_day_is_read_as_people_write_it(text: str, expected: datetime.time) -> None:
    assert parse("--recording.start", text).recording.start == expected


@pytest.mark.parametrize(
    "text", ["800", "13pm", "0am", "24", "24:00", "25:00", "12:60", "noon", "", "-1", "18:30Z"]
)
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    lines = refusal(f"--recording.start={text}")

    assert "--recording.start" in lines[0]
    assert lines[2] == "  Try: --recording.start 06:00:00"


@pytest.mark.parametrize(
    ("args", "named", "why", "hint"),
    [
        (["--recording.duratoin", "3"], "--recording.duratoin", "duration", "--recording.duration"),
        (["--duration", "3"], "--duration", "recording", "--recording.duration"),
        (["--rec", "9"], "--rec", "recording", "--recording"),
        (
            ["--recording.duration.x", "9"],
            "--recording.duration.x",
            "single value",
            "--recording.duration",
        ),
        (["--messaging.mqtt.hots", "h"], "--messaging.mqtt.hots", "host", "--messaging.mqtt.host"),
        (
            ["--recording.duration", "0"],
            '--recording.duration cannot be "0"',
            "greater than 0",
            "3",
        ),
        (["--recording.duration", "-5"], '"-5"', "greater than 0", "--recording.duration 3"),
        (["--recording.duration", "nan"], '"nan"', "finite", "--recording.duration 3"),
        (["--recording.duration", "1e999"], '"1e999"', "finite", "--recording.duration 3"),
        (["--recording.interval", "many"], '"many"', "whole number", "--recording.interval 10"),
        (["--recording.interval"], "--recording.interval needs a value", "followed", "10"),
        (["--messaging.order", "newest"], '"newest"', "oldest_first, newest_first", "newest_first"),
        (["--messaging.mqtt.port", "1"], "--messaging.mqtt.host is missing", "default", "host"),
        (["--zone", "Mars/Base"], '"Mars/Base"', "time zone", "UTC"),
        (["--day", "20260501"], '"20260501"', "2026-05-01", "--day"),
        (["--folder", ""], "--folder", "path", "/data"),
        (["--bits", "20"], '"20"', "16, 24", "16"),
        (["--messaging.mqtt", "{"], "--messaging.mqtt", "JSON", "--messaging.mqtt"),
        (["--messaging", '{"odrer": 1}'], "--messaging.odrer", "order", "--messaging.order"),
        (["--tags.3", "x"], "--tags.3", "2 items", "--tags.3"),
        (["--name", "a", "--name", "b"], "--name", "2 times", "--name b"),
        (["stray"], '"stray" belongs to no option', "quotes", ""),
        (
            ["--model.kind", "fish"],
            '--model.kind cannot be "fish"',
            "bats, birds",
            "--model.kind bats",
        ),
        (
            ["--model.species", "robin"],
            '--model.kind cannot be "bats"',
            "no setting species",
            "--model.kind birds",
        ),
        (["--second.threshold", "1"], "--second.kind is missing", "bats, birds", "--second.kind"),
        (["--model.threshold", "x"], '--model.threshold cannot be "x"', "number", "0.3"),
        (["--Recording.Duratoin", "3"], "Duratoin", "duration", "--recording.duration"),
        (["--max-mesages", "3"], "max-mesages", "recording", "--messaging.max_messages"),
    ],
)
def test_bad_input_is_named_explained_and_mended(
    args: list[str], named: str, why: str, hint: str
) -> None:
    lines = refusal(*args)

    assert named in lines[0]
    assert why in lines[1]
    assert hint in lines[2]


def test_several_faults_are_told_together() -> None:
    lines = refusal("--recording.duration", "0", "--zone", "Mars")

    assert lines[0] == "Error: 2 settings are wrong."
    assert "--recording.duration" in lines[1]
    assert "--zone" in lines[1]


def test_a_secret_is_never_repeated() -> None:
    class Strict(BaseModel):
        password: SecretStr = Field(min_length=20)

    with pytest.raises(ParameterError) as caught:
        parse_config_from_args(Strict, ["--password", "hunter2hunter2"], False, environ={})

    assert "hunter2" not in "".join(caught.value.lines())
    assert "hunter2" not in caught.value.value


def test_text_that_is_not_utf_8_is_refused() -> None:
    assert "UTF-8" in refusal("--name", "a\udcff")[1]


# ---- environment


def test_variables_are_matched_whatever_their_case() -> None:
    environ = {
        "ACOUPI_CONFIG__RECORDING__DURATION": "5",
        "acoupi_config__messaging__Max_Messages": "7",
        "ACOUPI_CONFIG__TAGS": "x, y",
        "ACOUPI_CONFIG__MESSAGING__HTTP__BASE_URL": "u",
        "ACOUPI_CONFIG__MESSAGING__HTTP__HEADERS__X-Key": "k",
        "ACOUPI_CONFIG__NAME": "",
        "OTHER": "1",
    }

    config = parse(environ=environ)

    assert config.recording.duration == 5
    assert config.messaging.max_messages == 7
    assert config.tags == ["x", "y"]
    assert config.messaging.http == Http(base_url="u", headers={"X-Key": "k"})
    assert config.name == "sensor"


def test_items_of_a_list_are_taken_in_the_order_of_their_numbers() -> None:
    environ = {f"ACOUPI_CONFIG__TAGS__{i}": str(i) for i in range(12)}

    assert parse(environ=environ).tags == [str(i) for i in range(12)]


def test_an_unknown_variable_is_refused_with_the_nearest() -> None:
    lines = refusal(environ={"ACOUPI_CONFIG__RECORDING__DURATOIN": "5"})

    assert "ACOUPI_CONFIG__RECORDING__DURATOIN" in lines[0]
    assert lines[2] == "  Try: ACOUPI_CONFIG__RECORDING__DURATION"


def test_a_wrong_value_is_named_by_its_variable() -> None:
    lines = refusal(environ={"ACOUPI_CONFIG__RECORDING__DURATION": "0"})

    assert lines[0] == 'Error: ACOUPI_CONFIG__RECORDING__DURATION cannot be "0".'
    assert lines[2] == "  Try: ACOUPI_CONFIG__RECORDING__DURATION=3"


# ---- files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"recording": {"duration": 5, "start": "7:15"}, "tags": ["x"]}'),
        ("c.yaml", "recording:\n  duration: 5\n  start: 7:15\ntags: [x]\n"),
        ("c.yml", "recording: {duration: 5, start: 07:15}\ntags:\n- x\n"),
        ("c.toml", 'tags = ["x"]\n[recording]\nduration = 5\nstart = 07:15:00\n'),
    ],
)
def test_a_file_is_read_by_its_suffix(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    config = parse(file=path)

    assert config.recording == Recording(duration=5, start=datetime.time(7, 15))
    assert config.tags == ["x"]


def test_yaml_does_not_turn_times_into_numbers_nor_no_into_false(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("recording: {start: 22:30}\nname: no\nfolder: 012\n")

    config = parse(file=path)

    assert config.recording.start == datetime.time(22, 30)
    assert config.name == "no"
    assert config.folder == Path("012")


def test_an_hour_in_a_file_is_not_a_second(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"recording": {"start": 8}}')

    assert parse(file=path).recording.start == datetime.time(8)


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9)
)
"""A few hundred bytes that stand for a thousand million items."""


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("c.json", '{\n"a": 1,\n}', "line 3"),
        ("c.json", '{"name": "a", "name": "b"}', "line 1"),
        ("c.yaml", "a: 1\nb: [1\n", "line 3"),
        ("c.yaml", "name: a\nname: b\n", "line 2"),
        ("c.toml", "a = 1\nb = \n", "line 2"),
        ("c.yaml", "tags: [x]\na: &a [*a]\n", "line 2"),
        ("c.yaml", "a: 1\n---\nb: 2\n", "line 2"),
        ("c.yaml", "a: 1\n? [x, y]\n: 2\n", "line 2"),
        ("c.yaml", "a: 'x\n", "line 2"),
        ("c.yaml", BOMB, "line 1"),
        ("c.yaml", "a: !!python/object:os.system x\n", "line 1"),
        ("c.yaml", "a:\n  b: 3\n\0\0\0\0", "line 3"),
        ("c.json", "[" * 100_000, "line 1"),
        ("c.json", "[1]", "line 1"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(
    tmp_path: Path, name: str, text: str, line: str
) -> None:
    path = tmp_path / name
    path.write_text(text)

    lines = refusal(file=path)

    assert str(path) in lines[0]
    assert line in lines[2]


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(file=tmp_path / "none.json")[1]
    assert ".yaml" in refusal(file=tmp_path / "c.ini")[1]


def test_unknown_names_in_a_file_are_refused_at_every_depth(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("messaging:\n  mqtt:\n    host: h\n    prot: 1\n")

    lines = refusal(file=path)

    assert f'"messaging.mqtt.prot" in {path}' in lines[0]
    assert "port" in lines[2]


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.yaml", "recording.duration: 3\n"), ("c.json", '{"recording.duration": 3}')],
)
def test_names_with_dots_in_a_file_are_told_how_to_be_written(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    path.write_text(text)

    lines = refusal(file=path)

    assert "each dot is a section" in lines[1]
    assert lines[2] == f'  Try: edit {path}: "recording": {{"duration": VALUE}}'


def test_a_wrong_value_is_named_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("recording:\n  duration: 0\n")

    lines = refusal(file=path)

    assert lines[0] == f'Error: "recording.duration" in {path} cannot be "0".'
    assert lines[2] == f"  Try: edit {path}: recording.duration = 3"


# ---- precedence and previous answers


def test_stronger_sources_win_value_by_value(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    document = {"recording": {"duration": 2, "interval": 2, "chunksize": 2}, "name": "file"}
    path.write_text(json.dumps(document))

    config = parse(
        "--recording.duration",
        "4",
        file=path,
        environ={
            "ACOUPI_CONFIG__RECORDING__DURATION": "3",
            "ACOUPI_CONFIG__RECORDING__INTERVAL": "3",
        },
        previous={"name": "before", "zone": "Europe/Paris", "recording": {"start": "05:00"}},
    )

    assert config.recording == Recording(
        duration=4, interval=3, chunksize=2, start=datetime.time(5)
    )
    assert config.name == "file"
    assert config.zone == "Europe/Paris"


def test_previous_answers_the_schema_no_longer_has_are_dropped() -> None:
    config = parse(previous={"gone": 1, "recording": {"gone": {}, "duration": 9}})

    assert config.recording.duration == 9


def test_a_model_can_be_the_previous_answer() -> None:
    before = parse("--messaging.mqtt.host", "h", "--messaging.mqtt.password", "p", "--tags", "x")

    after = parse("--messaging.mqtt.port", "9", previous=before)

    assert after.messaging.mqtt == Mqtt(host="h", password=SecretStr("p"), port=9)
    assert after.tags == ["x"]


def test_another_kind_of_section_replaces_the_previous_one() -> None:
    before = parse("--model.threshold", "0.9")

    after = parse("--model.kind", "birds", "--model.species", "robin", previous=before)

    assert after.model == Birds(species=["robin"])


# ---- models that set themselves up


class Foreign(BaseModel):
    device: str
    rate: int = 48000

    @classmethod
    def setup(cls, args: list[str], prompt: bool = True, prefix: str = "") -> "Foreign":
        options = dict(zip(args[::2], args[1::2], strict=True))
        return cls(
            device=options[f"--{prefix}.device-name"],
            rate=int(options.get(f"--{prefix}.rate", 48000)),
        )


class WithForeign(BaseModel):
    microphone: Foreign
    name: str = "x"


def test_a_published_model_takes_over_its_subtree() -> None:
    args = ["--name", "y", "--microphone.device-name", "m", "--microphone.rate", "7"]

    config = parse_config_from_args(WithForeign, args, False, environ={})

    assert config == WithForeign(microphone=Foreign(device="m", rate=7), name="y")


def test_a_published_model_that_fails_is_a_clean_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_config_from_args(WithForeign, [], False, environ={})

    assert "--microphone could not be set up" in caught.value.message
    assert "KeyError" in (caught.value.why or "")


# ---- what could not be read back


def test_a_configuration_that_would_not_be_read_back_is_refused() -> None:
    class Lossy(BaseModel):
        rate: int = 5

        @field_serializer("rate")
        def words(self, rate: int) -> str:
            return "five"

    with pytest.raises(ConfigurationError, match="could not be read back"):
        parse_config_from_args(Lossy, [], False, environ={})
