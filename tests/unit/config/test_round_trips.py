"""A setting means the same whichever way it is given, and is read back as it was written."""

import datetime
import enum
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AfterValidator,
    Base64Str,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PlainSerializer,
    SecretStr,
    StrictBool,
    StrictInt,
    create_model,
    field_validator,
    model_validator,
)

from acoupi.config import load_config, parse_config_from_args, set_config_field, write_config
from acoupi.config.questions import Question
from acoupi.config.schemas import unsupported_settings
from acoupi.config.validation import check_round_trip
from acoupi.config.variables import as_variables
from acoupi.errors import AcoupiError, ConfigurationError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Grade(enum.IntEnum):
    ONE = 1
    TWO = 2


class Part(BaseModel):
    a: int = 1


class Bats(BaseModel):
    kind: Literal["bats"] = "bats"
    threshold: float = 0.3


class Birds(BaseModel):
    kind: Literal["birds"] = "birds"
    wait: datetime.timedelta = datetime.timedelta(seconds=5)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    folder: Path = Path("/data")
    count: int = 1


Model = Annotated[Bats | Birds, Field(discriminator="kind")]
Given = str | list[Any] | dict[str, Any]
CASES: list[tuple[Any, Any, Given]] = [
    (str, "", "5"),
    (str, "", "a,b"),
    (str, "", "-3"),
    (str | None, None, "x"),
    (int | None, None, "5"),
    (float, 0.0, "1e-3"),
    (bool, False, "yes"),
    (StrictInt, 0, "5"),
    (StrictBool, False, "true"),
    (Path, Path("/x"), "~/recordings"),
    (datetime.time, datetime.time(1), "6:05pm"),
    (datetime.date, datetime.date(2020, 1, 1), "2024-05-01"),
    (datetime.datetime, datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), "2024-05-01T20:30Z"),
    (datetime.timedelta, datetime.timedelta(1), "1h30m"),
    (HttpUrl | None, None, "https://example.org"),
    (SecretStr | None, None, "hush"),
    (Colour, Colour.RED, "Blue"),
    (Grade, Grade.ONE, "2"),
    (Literal[1, "two"], 1, "two"),
    (Literal["auto"] | float, "auto", "0.5"),
    (int | str, 0, "5"),
    (Base64Str, "", "aGk="),
    (Annotated[int, PlainSerializer(str)], 1, "5"),
    (list[int], [], ["1", "2"]),
    (list[int] | None, None, ["1", "2"]),
    (list[datetime.time], [], ["8", "18:30"]),
    (list[Path], [], ["~/a", "/b"]),
    (list[Part], [], [{"a": "5"}]),
    (list[Model], [], [{"kind": "birds"}, {"kind": "bats"}]),
    (tuple[float, str], (1.0, "a"), ["2", "b"]),
    (dict[str, datetime.timedelta], {}, {"x.y": "5m"}),
    (dict[str, Part], {}, {"k": {"a": "5"}}),
    (Part, Part(), {"a": "5"}),
    (Part, Part(a=3), {"a": "5"}),
    (Part | None, None, {"a": "5"}),
    (Strict, Strict(), {"folder": "~/x", "count": "5"}),
    (Model, Bats(), {"kind": "birds", "wait": "90"}),
    (Model, Birds(), {"kind": "birds"}),
    (Model | None, None, {"kind": "bats"}),
]


def _leaves(name: str, value: Given, between: str) -> list[tuple[str, str]]:
    """Give each plain value below a name; a list, and what nobody can name, as JSON."""
    if isinstance(value, str):
        return [(name, value)]
    if isinstance(value, dict) and all(key.isidentifier() for key in value):
        parts = [_leaves(f"{name}{between}{key}", item, between) for key, item in value.items()]
        return [pair for pairs in parts for pair in pairs]
    return [(name, json.dumps(value))]


def _is_typed_by_nobody(schema: type[BaseModel], value: Given) -> bool:
    """Whether it is a dict with keys of the user's, or a list of sections."""
    items = value if isinstance(value, list) else []
    is_dict = str(schema.model_fields["f"].annotation).startswith("dict")
    return is_dict or any(isinstance(item, dict) for item in items)


def _by_option(schema: type[BaseModel], value: Given, _: Path) -> BaseModel:
    args = [f"--{name}={text}" for name, text in _leaves("f", value, ".")]
    return parse_config_from_args(schema, args, False, environ={})


def _by_variable(schema: type[BaseModel], value: Given, _: Path) -> BaseModel:
    environ = {
        f"ACOUPI_CONFIG__{name.upper() if isinstance(value, dict) else 'F'}": text
        for name, text in _leaves("f", value, "__")
    }
    if _is_typed_by_nobody(schema, value):
        environ = {"ACOUPI_CONFIG__F": json.dumps(value)}  # keys keep their case there
    return parse_config_from_args(schema, [], False, environ=environ)


def _by_file(schema: type[BaseModel], value: Given, folder: Path) -> BaseModel:
    (folder / "given.json").write_text(json.dumps({"f": value}))
    return parse_config_from_args(schema, [], False, file=folder / "given.json", environ={})


def _by_set(schema: type[BaseModel], value: Given, _: Path) -> BaseModel:
    text = value if isinstance(value, str) else json.dumps(value)
    return set_config_field(schema(), "f", text)


def _by_answers(schema: type[BaseModel], value: Given, folder: Path) -> BaseModel:
    if _is_typed_by_nobody(schema, value):
        return _by_file(schema, value, folder)  # and nobody is asked

    def answer(question: Question) -> Any:
        if question.problem is not None:
            raise question.problem
        if question.is_section:
            return True
        return dict(_leaves("f", value, ".")).get(question.name, question.default)

    return parse_config_from_args(schema, [], True, environ={}, ask=answer)


WAYS = (_by_option, _by_variable, _by_set, _by_answers)


@pytest.mark.parametrize(("kind", "default", "value"), CASES)
def test_every_way_of_giving_a_setting_gives_the_same(
    kind: Any, default: Any, value: Given, tmp_path: Path
) -> None:
    schema = create_model("Schema", f=(kind, default))
    assert list(unsupported_settings(schema)) == []

    expected = _by_file(schema, value, tmp_path)

    for way in WAYS:
        found = way(schema, value, tmp_path)
        assert found == expected, way.__name__
        assert type(found.f) is type(expected.f)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "default", "value"), CASES)
def test_what_is_written_is_read_back_the_same(
    kind: Any, default: Any, value: Given, tmp_path: Path
) -> None:
    schema = create_model("Schema", f=(kind, default))
    config = _by_file(schema, value, tmp_path)

    write_config(config, tmp_path / "written.json")

    assert load_config(tmp_path / "written.json", schema) == config
    if kind != SecretStr | None:
        environ = as_variables(config)
        assert parse_config_from_args(schema, [], False, environ=environ) == config


# ---- schemas that cannot be carried so, or fail


class Rounded(BaseModel):
    score: Annotated[float, PlainSerializer(lambda score: round(score, 1))] = 0.5


class Longer(Part):
    b: int = 2


class Shortened(BaseModel):
    part: Part = Longer(b=3)


@pytest.mark.parametrize(("schema", "args"), [(Rounded, ["--score", "0.55"]), (Shortened, [])])
def test_a_value_that_would_be_changed_by_writing_it_is_refused(
    schema: type[BaseModel], args: list[str]
) -> None:
    with pytest.raises(ConfigurationError, match="would change when"):
        parse_config_from_args(schema, args, False, environ={})


def _look_up(word: str) -> str:
    known: dict[str, str] = {"bat": "bat"}
    return known[word]


def _raise(*_: Any) -> int:
    raise RuntimeError("the list of species is not there")


class LooksUp(BaseModel):
    species: Annotated[str, AfterValidator(_look_up)] = "bat"


class LooksUpSecret(BaseModel):
    token: Annotated[SecretStr, AfterValidator(lambda t: _look_up(t.get_secret_value()))]


class FailingDefault(BaseModel):
    number: int = Field(default_factory=_raise)
    other: int = 1


@pytest.mark.parametrize(
    ("schema", "args", "why"),
    [
        (LooksUp, ["--species", "owl"], "KeyError: 'owl', in _look_up"),
        (LooksUpSecret, ["--token", "owls-only"], "KeyError: '**********', in _look_up"),
        (FailingDefault, ["--other", "2"], "the list of species is not there, in _raise"),
    ],
)
@pytest.mark.parametrize("asks", [True, False])
def test_a_program_that_fails_over_its_settings_is_named_with_the_line(
    schema: type[BaseModel], args: list[str], why: str, asks: bool
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_config_from_args(schema, args, asks, environ={}, ask=lambda one: one.default)

    lines = caught.value.lines()
    assert schema.__name__ in lines[0]
    assert why in lines[1]
    assert "test_round_trips.py, line " in lines[1]
    assert "author" in lines[2]


def test_a_question_is_asked_again_if_a_check_fails_over_the_answer() -> None:
    problems = []

    def answer(question: Question) -> str:
        problems.append(question.problem)
        return "owl" if question.problem is None else "bat"

    parse_config_from_args(LooksUp, [], True, environ={}, ask=answer)

    assert "fails to check" in str(problems[1])


# ---- what errors tell to try


class Limits(BaseModel):
    low: float = 1
    high: float = 2

    @model_validator(mode="after")
    def _in_order(self) -> "Limits":
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class Wrong(BaseModel):
    limits: Limits = Limits()
    needed: Limits | None = None
    start: datetime.time = datetime.time(8)
    wait: datetime.timedelta = datetime.timedelta(seconds=5)
    mode: Literal["thin", "none"] = "none"
    model: Model = Bats()
    pair: tuple[float, float] = (1, 2)
    species: list[str] = []
    numbers: dict[str, int] = {}
    target: int = Field(1, ge=0, le=10)
    url: HttpUrl | None = None
    words: str = Field("bats", min_length=2)


BAD = {
    "start": "25:00",
    "mode": "thinn",
    "model.kind": "bat",
    "limits.low": "5",
    "pair": "[1, 2, 3]",
    "target": "11",
    "wait": "soon",
    "words": "x",
}


def _option_works(text: str) -> None:
    parse_config_from_args(Wrong, shlex.split(text), False, environ={})


def _variable_works(text: str) -> None:
    name, _, value = text.partition("=")
    environ = {name: "".join(shlex.split(value))}
    parse_config_from_args(Wrong, [], False, environ=environ)


def _command_works(text: str) -> None:
    *command, name, value = shlex.split(text)
    assert command == ["acoupi", "config", "set"]
    set_config_field(Wrong(), name, value)


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_what_an_error_tells_to_try_works(name: str, value: str) -> None:
    option = "--program.target" if name == "target" else f"--{name}"
    variable = f"ACOUPI_CONFIG__{name.upper().replace('.', '__')}"
    tried: list[tuple[Callable[[], object], Callable[[str], None]]] = [
        (
            lambda: parse_config_from_args(Wrong, [f"{option}={value}"], False, environ={}),
            _option_works,
        ),
        (
            lambda: parse_config_from_args(Wrong, [], False, environ={variable: value}),
            _variable_works,
        ),
        (lambda: set_config_field(Wrong(), name, value), _command_works),
    ]
    for give, works in tried:
        with pytest.raises(AcoupiError) as caught:
            give()
        fix = caught.value.help
        if "VALUE" in str(fix):
            assert name == "limits.low"
        elif fix is not None and not fix.startswith("acoupi config schema"):
            works(fix)


def test_a_section_that_is_wrong_names_the_settings_that_were_given() -> None:
    args, environ = ["--limits.low", "5"], {"ACOUPI_CONFIG__LIMITS__HIGH": "4"}

    with pytest.raises(AcoupiError) as caught:
        parse_config_from_args(Wrong, args, False, environ=environ)

    lines = caught.value.lines()
    assert lines[1] == "  Why: low must be below high."
    assert lines[2] == "  Try: --limits.low VALUE or ACOUPI_CONFIG__LIMITS__HIGH=VALUE"


def test_a_setting_named_like_an_option_of_setup_has_an_option_of_its_own() -> None:
    args = ["--program.target", "5"]

    assert parse_config_from_args(Wrong, args, False, environ={}).target == 5


class Shares(BaseModel):
    folders: dict[str, int] = Field(default_factory=dict, examples=[{"/data": 50}])

    @field_validator("folders")
    @classmethod
    def _at_most_100(cls, shares: dict[str, int]) -> dict[str, int]:
        if any(share > 100 for share in shares.values()):
            raise ValueError("a share is at most 100 %")
        return shares


def test_an_example_of_a_dict_is_one_that_can_be_given() -> None:
    with pytest.raises(AcoupiError) as caught:
        parse_config_from_args(Shares, ["--folders", '{"/x": 200}'], False, environ={})

    fix = str(caught.value.help)
    assert fix == "--folders '{\"/data\": 50}'"
    assert parse_config_from_args(Shares, shlex.split(fix), False, environ={}).folders


def test_a_section_that_is_kept_unread_is_read_back_with_its_numbers() -> None:
    marks: dict[str, Any] = {"secret": True, "opaque": True}

    class Kept(BaseModel):
        pigeon: dict[str, Any] | None = Field(None, json_schema_extra=marks)

    check_round_trip(Kept(pigeon={"port": 2323, "password": "hush", "lofts": [1, None]}))
