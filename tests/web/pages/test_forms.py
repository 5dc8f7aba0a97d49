"""What a form of settings shows, and what comes back from it."""

from typing import Any

import pytest

from acoupi.web.forms import Form, changes_in
from acoupi.web.sensor import Setting


def setting(value: Any, schema: dict[str, Any], *, is_secret: bool = False) -> Setting:
    return {
        "name": "a.b",
        "section": "a",
        "title": "b",
        "description": "",
        "schema": schema,
        "value": value,
        "is_secret": is_secret,
        "restarts": [],
    }


NUMBER, TEXT, FLAG = {"type": "number"}, {"type": "string"}, {"type": "boolean"}
MAYBE = {"anyOf": [{"type": "number"}, {"type": "null"}]}
WORDS = {"anyOf": [{"enum": ["slow", "fast"], "type": "string"}, {"type": "null"}]}
OPEN = {"anyOf": [{"const": "all", "type": "string"}, {"type": "integer"}]}
LIST = {"type": "array"}

SHOWN = {
    "a number": (setting(1.5, NUMBER), "number", "1.5", []),
    "a number or none": (setting(None, MAYBE), "number", "", []),
    "text": (setting("x", TEXT), "text", "x", []),
    "yes or no": (setting(True, FLAG), "choice", "true", ["true", "false"]),
    "one of some": (setting("slow", WORDS), "choice", "slow", ["slow", "fast", ""]),
    "a word or a number": (setting("all", OPEN), "text", "all", []),
    "a list": (setting([1, "é"], LIST), "json", '[1, "é"]', []),
    "a secret": (setting(None, TEXT, is_secret=True), "secret", "", []),
}


@pytest.mark.parametrize("case", SHOWN)
def test_a_setting_has_the_field_that_fits(case: str) -> None:
    given, kind, value, choices = SHOWN[case]

    (field,) = Form([given]).sections["a"]

    assert (field.kind, field.value, list(field.choices)) == (kind, value, choices)
    assert changes_in([given], {"a.b": value}) == ({}, []), "what comes back unchanged is none"


CHANGED = {
    "text": (setting("x", TEXT), "y", "y"),
    "a number stays text, for whoever knows its type": (setting(1.5, NUMBER), "2", "2"),
    "nothing": (setting(1.5, MAYBE), "", None),
    "a list": (setting([1], LIST), '[1,\r\n "a"]', [1, "a"]),
    "a secret": (setting(None, TEXT, is_secret=True), "hush", "hush"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_differs_is_a_change(case: str) -> None:
    given, text, value = CHANGED[case]

    assert changes_in([given], {"a.b": text, "csrf": "x"}) == ({"a.b": value}, [])


def test_what_is_no_json_is_a_problem_of_its_setting() -> None:
    changes, problems = changes_in([setting([1], LIST)], {"a.b": "[1"})

    assert changes == {}
    assert [one["name"] for one in problems] == ["a.b"]
