"""A configuration as variables, and the table of all that there are."""

import datetime
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, SecretStr

from acoupi.config import describe, parse_config_from_args
from acoupi.config.answers import Answers
from acoupi.config.sources import read_environment
from acoupi.config.variables import as_variables, settings_table
from acoupi.errors import ConfigurationError
from acoupi.stack.loading import load_program_class


class Server(BaseModel):
    url: str = "https://example.org"
    """Where it is,
    as ``https://``."""
    token: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)


class Schema(BaseModel):
    threshold: float = Field(default=0.2, ge=0, le=1, description="Score to keep.")
    words: list[str] = Field(default_factory=list)
    table: dict[str, int] = Field(default_factory=dict)
    start: datetime.time = datetime.time(6)
    place: Path | None = Path("/data")
    note: str = "none so far"
    server: Server | None = None


@pytest.mark.parametrize(
    "config",
    [
        Schema(),
        Schema(threshold=1),
        Schema(words=["a", "b, with a comma"], table={"one": 1}),
        Schema(start=datetime.time(18, 30, 5), place=None, note='$HOME "quoted"'),
        Schema(server=Server()),
        Schema(server=Server(url="https://here", token=SecretStr("bat"))),
    ],
)
def test_the_variables_make_the_same_configuration_again(config: Schema) -> None:
    variables = as_variables(config)
    token = {"ACOUPI_CONFIG__SERVER__TOKEN": "bat"} if "bat" in _secret(config) else {}

    assert parse_config_from_args(Schema, [], False, environ={**variables, **token}) == config
    assert "bat" not in str(variables)


def _secret(config: Schema) -> str:
    token = config.server.token if config.server else None
    return token.get_secret_value() if token else ""


def test_what_is_as_it_is_by_default_takes_no_variable() -> None:
    assert as_variables(Schema()) == {}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (Schema(note=""), "note"),  # an empty variable counts as none
        (Schema(server=Server(headers={"X-Key": SecretStr("bat")})), "server.headers.X-Key"),
    ],
)
def test_what_no_variable_can_carry_is_refused_by_name(config: Schema, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        as_variables(config)

    assert name in caught.value.message
    assert "bat" not in f"{caught.value.message} {caught.value.why}"


def test_the_table_has_every_setting_with_its_range_and_meaning() -> None:
    rows = {row.variable: row for row in settings_table(Schema)}

    threshold = rows["ACOUPI_CONFIG__THRESHOLD"]
    assert (threshold.kind, threshold.default, threshold.valid, threshold.meaning) == (
        "number",
        "0.2",
        "at least 0, at most 1",
        "Score to keep.",
    )
    url = rows["ACOUPI_CONFIG__SERVER__URL"]
    assert (url.section, url.is_optional, url.meaning) == (
        "server",
        True,
        "Where it is, as `https://`.",
    )
    assert rows["ACOUPI_CONFIG__SERVER__TOKEN"].is_secret
    assert "ACOUPI_CONFIG__SERVER" not in rows


@pytest.mark.parametrize("program", ["default", "connected", "demo", "sounds", "test"])
def test_every_variable_of_the_table_is_one_that_is_understood(program: str) -> None:
    schema = load_program_class(program).get_config_schema()

    for row in settings_table(schema):
        answers = Answers(describe(schema))
        read_environment(answers, {row.variable: row.default or "none"})

        assert answers.problems == [], row.variable


def test_a_setting_that_is_suggested_on_each_device_has_no_other_default() -> None:
    rows = settings_table(load_program_class("default").get_config_schema())

    (zone,) = [row for row in rows if row.variable == "ACOUPI_CONFIG__TIMEZONE"]
    assert zone.default == ""
    assert "the zone of the coordinates" in zone.meaning
