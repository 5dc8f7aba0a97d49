"""Types that a schema may not have are refused by name; those of published programs stay."""

import dataclasses
import datetime
import enum
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import pytest
from pydantic import (
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    Json,
    RootModel,
    SecretBytes,
    SkipValidation,
    create_model,
)
from typing_extensions import TypedDict

from acoupi.config.schemas import unsupported_settings
from acoupi.errors import InvalidProgramError
from acoupi.programs.fields import Duration, LocalPath, TimeOfDay
from acoupi.stack.loading import load_program_class
from tests.unit.config import schema

HEADER = """
from pydantic import BaseModel
from acoupi.programs import AcoupiProgram
"""


@dataclasses.dataclass
class Plain:
    a: int = 1


class Typed(TypedDict):
    a: int


class Root(RootModel[list[str]]):
    pass


class One(BaseModel):
    kind: Literal["one"] = "one"
    a: int = 1


class Two(BaseModel):
    kind: Literal["two"] = "two"
    b: int = 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Itself(BaseModel):
    again: "Itself | None" = None


class Colour(enum.Enum):
    RED = "red"


class Corner(enum.Enum):
    LOWER = (0, 0)
    UPPER = (1, 1)


Name = NewType("Name", str)


@pytest.mark.parametrize(
    ("annotation", "named", "advice"),
    [
        (One | Two, "One | Two", "discriminator"),
        (One | Two | None, "One | Two", "discriminator"),
        (One | str, "One | str", "one of these types"),
        (list[str] | str, "list[str] | str", "one of these types"),
        (Plain, "Plain", "pydantic.BaseModel"),
        (Typed, "Typed", "pydantic.BaseModel"),
        (list[Plain], "list[Plain]", "pydantic.BaseModel"),
        (Root, "Root", "list[str]"),
        (Name, "Name", "str"),
        (list[list[int]], "list[list[int]]", "a section"),
        (dict[str, list[str]], "dict[str, list[str]]", "a section"),
        (dict[int, str], "dict[int, str]", "dict[str, str]"),
        (list, "list", "list[str]"),
        (dict, "dict", "dict[str, str]"),
        (set[str], "set[str]", "declare"),
        (Any, "Any", "declare"),
        (complex, "complex", "declare"),
        (Open, "Open", "declare the settings"),
        (Itself, "Itself", "contains itself"),
        (Annotated[int, Field(alias="y")], "alias y", "without an alias"),
        (Annotated[int, Field(exclude=True)], "exclude=True", "leave exclude=True out"),
        (Json[list[int]], "list[int]", "leave Json out"),
        (InstanceOf[One], "One", "leave InstanceOf out"),
        (SkipValidation[int], "int", "leave SkipValidation out"),
        (Corner, "Corner", "texts or numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_type_that_is_not_supported_is_named(annotation: Any, named: str, advice: str) -> None:
    section = create_model("Section", x=(annotation, Field(default=None)))
    whole = create_model("Whole", section=(section, Field(default=None)))

    found = next(iter(unsupported_settings(whole)))

    assert found.name.startswith("section.x")
    assert named in found.type
    assert advice in found.advice


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (("a__b",), "a__b"),
        (("part_", "other"), "part_"),
        (("größe",), "größe"),
        (("Rate", "rate"), "Rate"),
        (("Rate", "lambda_", "näher"), None),
    ],
)
def test_a_name_that_no_variable_can_carry_is_refused(
    names: tuple[str, ...], refused: str | None
) -> None:
    fields: dict[str, Any] = {name: (One if name == "part_" else int, 1) for name in names}

    found = list(unsupported_settings(create_model("Whole", **fields)))

    assert [one.name for one in found][:1] == ([refused] if refused else [])


@pytest.mark.parametrize(
    "annotation",
    [
        *(int, float, str, bool, Path, datetime.time, datetime.date, datetime.datetime),
        *(datetime.timedelta, SecretBytes, AnyHttpUrl, Colour, Literal[1, "a"], One),
        *(TimeOfDay, Duration, LocalPath, int | float, float | str, Literal["a"] | int | None),
        *(Path | None, One | None, list[int | None], list[One], dict[str, One]),
        *(tuple[float, float], tuple[One, ...], dict[str, str], list[Colour]),
        Annotated[One | Two, Field(discriminator="kind")] | None,
        list[Annotated[One | Two, Field(discriminator="kind")]],
        Annotated[int, Field(gt=0)],
    ],
)
def test_what_schemas_have_is_supported(annotation: Any) -> None:
    model = create_model("Model", x=(annotation, Field(default=None)))

    assert list(unsupported_settings(model)) == []


@pytest.mark.parametrize("program", ["default", "connected", "demo", "sounds", "test"])
def test_shipped_programs_are_supported(program: str) -> None:
    assert list(unsupported_settings(load_program_class(program).get_config_schema())) == []
    assert list(unsupported_settings(schema.Schema)) == []


def test_a_program_with_such_a_setting_is_refused_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "with_matrix.py").write_text(
        f"{HEADER}\nclass Config(BaseModel):\n    matrix: list[list[int]] = []\n"
        "class Program(AcoupiProgram[Config]):\n    config_schema = Config\n"
    )

    with pytest.raises(InvalidProgramError) as caught:
        load_program_class("with_matrix")

    lines = caught.value.lines()
    assert caught.value.exit_code == 2
    assert "matrix (list[list[int]])" in lines[0]
    assert "Literal or an Enum" in lines[1]
    assert "Config, matrix: a section" in lines[2]
    assert len(lines) == 3
    sys.modules.pop("with_matrix")
