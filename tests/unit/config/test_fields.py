"""Reading and setting one field."""

import datetime
import json
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from acoupi.config import (
    dump_config_field,
    get_config_field,
    parse_config_from_args,
    set_config_field,
)
from acoupi.errors import ParameterError


class Inner(BaseModel):
    a: int = 1
    start: datetime.time = datetime.time(6)


class Schema(BaseModel):
    c: Inner | None = None
    d: Inner = Inner()
    items: list[Inner] = [Inner(), Inner(a=2)]
    pair: tuple[int, int] = (1, 2)
    table: dict[str, int] = {"x": 1}
    latitude: float = 0
    path: Path = Path("/x")
    password: SecretStr | None = None


def test_a_field_is_read_by_its_dotted_path() -> None:
    config = Schema()

    assert get_config_field(config, "") is config
    assert get_config_field(config, "d.a") == 1
    assert get_config_field(config, "items.1.a") == 2
    assert get_config_field(config, "pair.0") == 1
    assert get_config_field(config, "table.x") == 1
    assert get_config_field(config, "c") is None


def test_any_field_can_be_shown() -> None:
    config = Schema(c=Inner(), password=SecretStr("x"))

    assert json.loads(dump_config_field(config, "c.start")) == "06:00:00"
    assert json.loads(dump_config_field(config, "path")) == "/x"
    assert json.loads(dump_config_field(config, "items.0")) == {"a": 1, "start": "06:00:00"}
    assert json.loads(dump_config_field(config, "password")) == "**********"


@pytest.mark.parametrize(
    ("field", "error", "valid"),
    [
        ("nope", AttributeError, "latitude"),
        ("d.b", AttributeError, "start"),
        ("c.a", AttributeError, "a"),
        ("items.7", IndexError, "2 items"),
        ("items.x", AttributeError, "list"),
        ("table.y", AttributeError, "x"),
        ("latitude.x", AttributeError, "single value"),
    ],
)
def test_a_field_that_is_not_there_is_refused_with_what_is(
    field: str, error: type[Exception], valid: str
) -> None:
    with pytest.raises(error) as caught:
        get_config_field(Schema(), field)

    assert isinstance(caught.value, ParameterError)
    assert field in caught.value.message
    assert valid in (caught.value.why or "")


def test_setting_makes_optional_sections() -> None:
    config = set_config_field(Schema(), "c.a", "5")

    assert config.c == Inner(a=5)


@pytest.mark.parametrize("field", ["items.2", "items.7", "items.2.a"])
def test_setting_past_the_end_of_a_list_is_refused(field: str) -> None:
    with pytest.raises(IndexError) as raised:
        set_config_field(Schema(), field, 3)

    assert isinstance(raised.value, ParameterError)
    assert "2 items" in str(raised.value.why)


def test_setting_leaves_the_original_alone() -> None:
    config = Schema()

    changed = set_config_field(config, "d.a", 9)

    assert (config.d.a, changed.d.a) == (1, 9)


@pytest.mark.parametrize(
    ("field", "value", "is_json", "expected"),
    [
        ("latitude", "-3.5", False, -3.5),
        ("d.start", "7pm", False, datetime.time(19)),
        ("items.1.a", "7", False, 7),
        ("items.1", {"a": 3}, False, Inner(a=3)),
        ("d", '{"a": 4}', False, Inner(a=4)),
        ("d", '{"a": 4}', True, Inner(a=4)),
        ("table.new", 2, False, 2),
        ("pair.1", "5", False, 5),
        ("c", "null", False, None),
        ("c", None, False, None),
    ],
)
def test_a_value_is_converted(field: str, value: object, is_json: bool, expected: object) -> None:
    config = set_config_field(Schema(c=Inner()), field, value, is_json=is_json)

    assert get_config_field(config, field) == expected


def test_an_empty_path_replaces_everything() -> None:
    config = set_config_field(Schema(latitude=5), "", '{"d": {"a": 2}}', is_json=True)

    assert config == Schema(d=Inner(a=2))
    assert set_config_field(Schema(latitude=5), "", '{"d": {"a": 2}}') == config
    assert set_config_field(Schema(), "", config) == config


@pytest.mark.parametrize(
    ("field", "value", "named", "why"),
    [
        ("d.a", "x", "d.a", "whole number"),
        ("d.b", "1", "d.b", "a, start"),
        ("d", {"b": 1}, "d.b", "a, start"),
        ("", '{"nope": 1}', "nope", "latitude"),
        ("", "5", "configuration", "JSON object"),
        ("nope.x", "1", "nope", "latitude"),
        ("d.start", "800", "d.start", "time of day"),
    ],
)
def test_a_bad_value_is_refused(field: str, value: object, named: str, why: str) -> None:
    with pytest.raises(ParameterError) as caught:
        set_config_field(Schema(), field, value)

    assert named in caught.value.message
    assert "--" not in caught.value.message
    assert why in (caught.value.why or "")


def test_broken_json_is_refused() -> None:
    with pytest.raises(ParameterError, match="is not valid"):
        set_config_field(Schema(), "d", "{", is_json=True)


def test_strict_converts_nothing_and_attributes_can_be_read() -> None:
    class Other:
        a = 8
        start = datetime.time(1)

    with pytest.raises(ParameterError):
        set_config_field(Schema(), "d.a", "5", strict=True)
    assert set_config_field(Schema(), "d", Other(), from_attributes=True).d.a == 8


class Detections(BaseModel):
    threshold: float = 0.2
    first: int = 1


class Saving(BaseModel):
    saving_threshold: float = 0.3
    first: int = 1


class Night(BaseModel):
    saving: Saving = Saving()
    detections: Detections = Detections()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("threshold", ["detections.threshold"]),  # not saving_threshold, which is like it
        ("first", ["saving.first", "detections.first"]),
        ("saving.threshold", ["detections.threshold"]),
        ("detections.frist", ["detections.first"]),
        ("Saving.First", ["saving.first"]),
        ("saving_treshold", ["saving.saving_threshold"]),
    ],
)
def test_the_setting_that_was_meant_is_named_from_every_source(
    name: str, meant: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ParameterError) as caught:
        set_config_field(Night(), name, "0.4")
    assert caught.value.help == " or ".join(meant)

    with pytest.raises(ParameterError) as caught:
        parse_config_from_args(Night, [f"--{name}", "0.4"], False, environ={})
    assert caught.value.help == " or ".join(f"--{one}" for one in meant)

    if name.islower():  # the case of a variable does not matter
        variable = f"ACOUPI_CONFIG__{name.upper().replace('.', '__')}"
        with pytest.raises(ParameterError) as caught:
            parse_config_from_args(Night, [], False, environ={variable: "0.4"})
        assert caught.value.help == " or ".join(
            f"ACOUPI_CONFIG__{one.upper().replace('.', '__')}" for one in meant
        )

    first, *rest = name.split(".")
    file = tmp_path / "given.json"
    file.write_text(json.dumps({first.lower(): {rest[0]: 0.4} if rest else 0.4}))
    with pytest.raises(ParameterError) as caught:
        parse_config_from_args(Night, [], False, environ={}, file=file)
    assert caught.value.help == f"edit {file}: {' or '.join(meant)}"
