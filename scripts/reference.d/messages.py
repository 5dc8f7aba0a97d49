"""The page of what messages hold, and a JSON Schema of each kind."""

import json
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args

from markdown import code, first_paragraph, page, table
from pydantic import BaseModel

from acoupi import data
from acoupi.components.message_factories import DetectionContent
from acoupi.components.summariser import SummaryContent
from acoupi.config.field_docs import description_of
from acoupi.tasks.alarms import AlarmContent
from acoupi.tasks.heartbeat import Heartbeat

CONTENTS: dict[str, type[BaseModel]] = {
    "detection": DetectionContent,
    "summary": SummaryContent,
    "heartbeat": Heartbeat,
    "alarm": AlarmContent,
}
INTRO = """\
What the messages of the shipped programs and message builders hold: JSON, in UTF-8. A program of
your own may send anything else. Each kind has a JSON Schema in the folder of this page
(`detection.schema.json` and so on), to check what a server receives. Fields may be added in later
versions; none is removed or changes its meaning within a major version
([versions](../versions.md)).

A message may arrive twice, with the same id: header `Idempotency-Key` (HTTP), user property
`message_id` (MQTT 5), `id` of the line (file). How they are sent is told under
[messages](../messages.md)."""


def schemas() -> dict[str, str]:
    """Return the JSON Schema of each kind, by the name of its file."""
    return {f"{kind}.schema.json": _text(one) for kind, one in CONTENTS.items()}


def _text(model: type[BaseModel]) -> str:
    return json.dumps(schema_of(model), indent=2, ensure_ascii=False) + "\n"


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of what is sent, with the meaning of each field."""
    # A serializer of its own hides what the fields of a heartbeat are.
    schema: dict[str, Any] = model.model_json_schema(
        mode="validation" if model is Heartbeat else "serialization"
    )
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    classes = {one.__name__: one for one in (model, *_below(model))}
    for name, part in {model.__name__: schema, **schema.get("$defs", {})}.items():
        if (kind := classes.get(name)) is not None:
            part["description"] = first_paragraph(kind)
        for field, inside in part.get("properties", {}).items():
            inside.pop("title", None)
            inside.pop("default", None)
            if kind is not None and (text := description_of(kind, field)):
                inside["description"] = text
    return schema


def _below(model: Any) -> Iterator[Any]:
    """Yield the classes that the fields of one hold, and those that these hold."""
    fields = getattr(model, "model_fields", None) or getattr(model, "__dataclass_fields__", {})
    for field in fields.values():
        for kind in _kinds(getattr(field, "annotation", None) or getattr(field, "type", None)):
            if isinstance(kind, type) and (hasattr(kind, "model_fields") or is_dataclass(kind)):
                yield kind
                yield from _below(kind)


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def messages() -> str:
    """Return the page."""
    return page("Message fields", INTRO, _parts())


def _parts() -> Iterator[str]:
    for kind, model in CONTENTS.items():
        assert kind in {one.value for one in data.MessageType}
        yield f"## {kind.capitalize()}"
        yield f"{first_paragraph(model)} JSON Schema: `{kind}.schema.json`."
        schema = schema_of(model)
        yield table(("field", "type", "meaning"), _rows(schema, schema.get("$defs", {}), ""))


def _rows(part: Any, defs: Any, before: str) -> Iterator[tuple[str, str, str]]:
    for name, inside in part.get("properties", {}).items():
        kind, below = _kind(inside, defs)
        yield code(before + name), kind, inside.get("description", "")
        if below is not None:
            yield from _rows(below, defs, f"{before}{name}{'[]' if 'list' in kind else ''}.")


def _kind(part: Any, defs: Any) -> tuple[str, Any]:
    """Return the type of a field in words, and what it holds if it has fields of its own."""
    if "$ref" in part:
        named = defs[part["$ref"].rpartition("/")[2]]
        return _kind(named, defs)
    if "enum" in part:
        return ", ".join(code(one) for one in part["enum"]), None
    if "anyOf" in part:
        kinds = [_kind(one, defs) for one in part["anyOf"]]
        below = next((each for _, each in kinds if each is not None), None)
        return " or ".join(kind for kind, _ in kinds), below
    if part.get("type") == "array" and "items" in part:
        kind, below = _kind(part["items"], defs)
        return f"list of {kind}", below
    if part.get("type") == "object" and "properties" in part:
        return "object", part
    return " ".join(filter(None, (part.get("type", "any"), part.get("format")))), None
