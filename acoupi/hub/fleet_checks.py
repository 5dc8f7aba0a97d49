"""Checks settings for a sensor by its program's schema; the sensor checks them again."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from acoupi.config.documents import Document, load_document
from acoupi.config.from_hub import SET, is_about_hub, require_givable
from acoupi.config.names import SENSOR
from acoupi.config.sensor import (
    dump_setting,
    sensor_schema,
    set_setting,
    split_document,
)
from acoupi.errors import AcoupiError, ConfigurationError, ParameterError
from acoupi.hub.fleet_overlays import nested
from acoupi.hub.fleet_standing import InForce
from acoupi.stack.loading import load_program_class

__all__ = ["Schema", "schema_of", "value_of"]


class Schema(NamedTuple):
    """The schema of a sensor's settings."""

    sensor: InForce
    model: type[BaseModel] | None
    """None if it is not known here."""
    why: str
    """Why it is not known."""

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise unless the sensor can have these settings together with its reported ones.

        Raises
        ------
        ConfigurationError
            Naming the sensor and the setting.
        """
        if self.model is None:
            return
        self._require_settable(settings)
        try:
            _loaded(self.model, self._base() | dict(settings))
        except ConfigurationError as error:
            raise ConfigurationError(
                f"the sensor {self.sensor.sensor} cannot have these settings.",
                error.help,
                why=f"{error.message} {error.why or ''}".strip(),
            ) from error

    def _require_settable(self, names: Iterable[str]) -> None:
        assert self.model is not None
        whose = f"{self.sensor.sensor}, with the program {self.sensor.program},"
        for node in require_givable(names, self.model, whose):
            if node.variable in self.sensor.variables:
                raise ParameterError(
                    node.name,
                    f'"{node.name}" cannot be set from the hub.',
                    "acoupi help settings",
                    why=f"the variable {node.variable} of that sensor decides it.",
                )

    def _base(self) -> dict[str, Any]:
        """Return the sensor's reported settings as far as they are valid here, without secrets."""
        assert self.model is not None
        said = {name: one for name, one in self.sensor.values.items() if not is_about_hub(name)}
        try:
            _loaded(self.model, said)
        except AcoupiError:
            return {}
        return said

    def parsed(self, name: str, text: str) -> Any:
        """Return the value of a setting that a text means.

        Raises
        ------
        ConfigurationError
            If there is no such setting, or it cannot have that value.
        """
        assert self.model is not None
        self._require_settable([name])
        both = set_setting(*_loaded(self.model, self._base()), name, text, command=SET)
        return json.loads(dump_setting(*both, name))


def schema_of(sensor: InForce) -> Schema:
    """Return the schema of a sensor's settings, if its program is installed here."""
    if sensor.program is None:
        return Schema(sensor, None, "it has not reported its program")
    try:
        return Schema(sensor, load_program_class(sensor.program).get_config_schema(), "")
    except AcoupiError:
        return Schema(sensor, None, f"the program {sensor.program} is not installed here")


def value_of(schemas: list[Schema], name: str, text: str) -> Any:
    """Return the value of a setting that a text means; as JSON where no schema is known."""
    known = [one for one in schemas if one.model is not None]
    if known:
        return known[0].parsed(name, text)
    try:
        return json.loads(text)
    except ValueError:
        return text


def _loaded(model: type[BaseModel], settings: Mapping[str, Any]) -> tuple[BaseModel, BaseModel]:
    text = json.dumps(nested(dict(settings)))
    own, about = split_document(Document(text, ".json", "the settings from the hub"), model)
    assert own is not None
    schema = sensor_schema()
    sensor = schema() if about is None else load_document(about, schema, names=SENSOR)
    return load_document(own, model), sensor
