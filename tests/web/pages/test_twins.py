"""The JSON twins, and the OpenAPI document that describes them."""

import copy
import re
import subprocess
import sys
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from acoupi import data
from acoupi.exports.flat import DETECTION_COLUMNS, RECORDING_COLUMNS
from acoupi.web import twins
from acoupi.web.flat import Detection, Recording
from tests.web.heard_home import BAT, NOCTULE, RECORDINGS, Visitor

IDS = {
    "/detections/{id}": str(data.derived_id("detection", 0)),
    "/recordings/{id}": str(data.derived_id("recording", 2)),
}
QUERIES = {"/species/when": {"species": BAT}, "/effort": {"deployment": "Old oak"}}


@pytest.fixture
def document(visitor: Visitor) -> dict[str, Any]:
    found: dict[str, Any] = visitor.get("/api/v1/openapi.json").json()
    return found


def closed(schema: Any) -> Any:
    """A schema that refuses what it does not name."""
    if isinstance(schema, dict):
        found = {name: closed(value) for name, value in schema.items()}
        is_named = schema.get("type") == "object" and "properties" in schema
        return found | ({"additionalProperties": False} if is_named else {})
    return [closed(one) for one in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("twin", twins.TWINS, ids=lambda one: one.path)
def test_answers_are_what_the_document_says(
    visitor: Visitor, document: dict[str, Any], twin: twins.Twin
) -> None:
    path = twins.API + twin.path
    answer = visitor.get(
        path.replace("{id}", IDS.get(twin.path, "")), params=QUERIES.get(twin.path)
    )

    assert answer.status_code == 200, answer.text
    described = document["paths"][path]["get"]["responses"]["200"]["content"]
    whole = closed({"components": copy.deepcopy(document["components"])})
    schema = closed(described["application/json"]["schema"])
    Draft202012Validator({**whole, **schema}).validate(answer.json())


def test_the_document_describes_every_route_and_no_other(document: dict[str, Any]) -> None:
    twins_ = {twins.API + one.path for one in twins.TWINS}
    others = ("export/{format}", "openapi.json", "live", "live/audio", *(
        f"recordings/{{id}}/{name}" for name in ("picture.png", "audio.wav", "file")
    ))  # fmt: skip

    assert set(document["paths"]) == twins_ | {f"{twins.API}/{one}" for one in others}
    for path, methods in document["paths"].items():
        for told in methods.values():
            assert re.fullmatch(r"\w.*\.", told["summary"]), path
            named = {one["name"] for one in told["parameters"] if one["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))


@pytest.mark.parametrize("twin", twins.TWINS, ids=lambda one: one.path)
def test_parameters_that_are_described_are_read(visitor: Visitor, twin: twins.Twin) -> None:
    """A value that cannot be is refused, wherever one cannot be."""
    wrong = {"limit": "many", "after": "x", "min_score": "high", "by": "moon", "from": "teatime",
             "to": "teatime", "species": "Yeti", "tag": "a=b", "model": "?", "verdict": "maybe",
             "state": "gone", "deployment": "Moon"}  # fmt: skip
    path = (twins.API + twin.path).replace("{id}", IDS.get(twin.path, ""))
    usual = QUERIES.get(twin.path, {})

    for name in twin.parameters.keys() - {"sample"}:
        answer = visitor.get(path, params={**usual, name: wrong[name]})
        assert answer.status_code in {404, 422}, (name, answer.text)
        assert set(answer.json()) == {"error", "why", "try"}


def test_rows_have_the_columns_of_the_other_outputs() -> None:
    assert set(Detection.__annotations__) == set(DETECTION_COLUMNS)
    assert set(Recording.__annotations__) == {*RECORDING_COLUMNS, "detection_count"}


def test_pages_follow_each_other_by_their_last_row(visitor: Visitor) -> None:
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = visitor.get("/api/v1/recordings", params={"after": after, "limit": 10}).json()
        seen += [one["recording_id"] for one in page["recordings"]]
        after = page["next"]

    assert seen == [str(data.derived_id("recording", one)) for one in range(RECORDINGS)][::-1]


def test_counts_are_those_of_the_command_line(visitor: Visitor) -> None:
    species = visitor.get("/api/v1/counts?by=species").json()["counts"]
    nights = visitor.get("/api/v1/counts?by=night").json()["counts"]

    each = RECORDINGS // 3
    assert species == [{"species": one, "detections": each} for one in (BAT, NOCTULE)]
    assert [one["detections"] for one in nights] == [each, each]
    assert [one["recordings"] for one in nights] == [RECORDINGS // 2] * 2


def test_the_page_imports_no_numpy_no_celery_and_no_program() -> None:
    heavy = ("numpy", "celery", "kombu", "billiard", "soundfile", "typer", "rich",
             "acoupi.programs.core.base")  # fmt: skip
    code = f"import sys, acoupi.web.service; print([one for one in {heavy} if one in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
