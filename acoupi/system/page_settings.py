"""The settings of a sensor for a form."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

from acoupi.config.dumping import dumped, mask
from acoupi.config.names import SENSOR
from acoupi.config.sensor import is_about_sensor, sensor_schema, setting_trees
from acoupi.config.tree import ConfigTree
from acoupi.system.sensor import Sensor

__all__ = ["schema_of", "settings_of"]

JsonObject = dict[str, Any]


def schema_of(sensor: Sensor) -> JsonObject:
    """Return the JSON Schema of all settings, those of the sensor below ``sensor``."""
    schema = sensor.program_class.get_config_schema()
    whole: JsonObject = schema.model_json_schema()
    if is_about_sensor(schema):
        own = sensor_schema().model_json_schema()
        whole.setdefault("$defs", {}).update(own.pop("$defs", {}))
        whole.setdefault("properties", {})[SENSOR.section] = own
    return whole


def settings_of(sensor: Sensor) -> list[JsonObject]:
    """Return every setting, in the order of the configuration."""
    config, own = sensor.config, sensor.own_config
    values = dumped(config, mask) | {SENSOR.section: dumped(own, mask)}
    names = [one.name for one in sensor.services]
    return [
        row | {"restarts": names}
        for tree in setting_trees(type(config))
        for row in _rows(tree, values)
    ]


def _rows(tree: ConfigTree, values: JsonObject) -> Iterator[JsonObject]:
    for node in tree.walk():
        if node.is_section or not node.place:
            continue
        found, value = _value(values, node.name.split("."))
        if found:
            yield {
                "name": node.name,
                "section": node.name.rpartition(".")[0],
                "title": node.title,
                "description": node.description or "",
                "schema": _schema(node),
                "value": None if node.is_secret else value,
                "is_secret": node.is_secret,
            }


def _value(values: Any, names: list[str]) -> tuple[bool, Any]:
    """Return whether there is a value at a place, and the value."""
    for name in names:
        if not isinstance(values, dict) or name not in values:
            return False, None
        values = values[name]
    return True, values


def _schema(node: ConfigTree) -> JsonObject:
    """Return the JSON Schema of a value, without references."""
    if node.is_secret:
        return {"type": "string", "writeOnly": True}
    try:
        marked: Any = Annotated[node.annotation, *node.marks] if node.marks else node.annotation
        schema = TypeAdapter(marked).json_schema()
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, TypeError):
        schema = {"type": "string"}
    definitions = schema.pop("$defs", {})
    schema = dict(_inlined(schema, definitions))
    default = node.default
    if default is not None and not isinstance(default, BaseModel):
        schema["default"] = TypeAdapter(Any).dump_python(default, mode="json")
    return schema


def _inlined(part: Any, definitions: JsonObject, depth: int = 0) -> Any:
    """Return a part of a schema with its references resolved."""
    if isinstance(part, list):
        return [_inlined(one, definitions, depth) for one in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if isinstance(reference, str) and depth < 8:
        whole = definitions.get(reference.rpartition("/")[2], {})
        rest = {name: one for name, one in part.items() if name != "$ref"}
        return _inlined({**whole, **rest}, definitions, depth + 1)
    return {name: _inlined(one, definitions, depth) for name, one in part.items()}
