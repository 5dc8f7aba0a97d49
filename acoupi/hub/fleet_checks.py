"""Whether a sensor can have some settings, by the schema of its program; it checks them again."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from acoupi.config.documents import Document, load_document
from acoupi.config.names import SENSOR, nearest
from acoupi.config.sensor import (
    dump_setting,
    sensor_schema,
    set_setting,
    setting_trees,
    split_document,
)
from acoupi.config.tree import ConfigTree
from acoupi.errors import AcoupiError, ConfigurationError, ParameterError
from acoupi.hub.fleet_overlays import nested
from acoupi.hub.fleet_standing import InForce
from acoupi.stack.loading import load_program_class

__all__ = ["Schema", "schema_of", "value_of"]

OWN = f"{SENSOR.section}.hub"
"""How a sensor reaches its hub: without it, nothing could be taken back."""


class Schema(NamedTuple):
    """Which settings a sensor has."""

    sensor: InForce
    model: type[BaseModel] | None
    """None: it is not known here."""
    why: str
    """It is not known."""

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise unless the sensor can have some settings, beside those that it said it has.

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
        nodes = {one.name: one for tree in setting_trees(self.model) for one in tree.walk()}
        for name in names:
            self._require_one(name, nodes)

    def _require_one(self, name: str, nodes: Mapping[str, ConfigTree]) -> None:
        node = nodes.get(name)
        if node is None:
            better = nearest(name, list(nodes))
            raise _refused(name, f"{self._whose()} has no such setting", better)
        if _is_own(name):
            raise _refused(name, "without its hub, a sensor could not take anything back")
        if node.is_secret:
            raise _refused(name, "it is a secret, which does not pass through the hub")
        if node.is_section:
            raise _refused(name, "it is several settings: set them one by one")
        if node.variable in self.sensor.variables:
            raise _refused(name, f"the variable {node.variable} of that sensor decides it")

    def _base(self) -> dict[str, Any]:
        """Return what the sensor said it has, as far as that is valid here; secrets are not."""
        assert self.model is not None
        said = {name: one for name, one in self.sensor.values.items() if not _is_own(name)}
        try:
            _loaded(self.model, said)
        except AcoupiError:
            return {}
        return said

    def _whose(self) -> str:
        return f"{self.sensor.sensor}, with the program {self.sensor.program},"

    def parsed(self, name: str, text: str) -> Any:
        """Return the value of a setting that a text means.

        Raises
        ------
        ConfigurationError
            If there is no such setting, or it cannot have that value.
        """
        assert self.model is not None
        self._require_settable([name])
        both = set_setting(*_loaded(self.model, self._base()), name, text)
        return json.loads(dump_setting(*both, name))


def schema_of(sensor: InForce) -> Schema:
    """Return which settings a sensor has, if its program is installed here."""
    if sensor.program is None:
        return Schema(sensor, None, "it has not said which program it runs")
    try:
        return Schema(sensor, load_program_class(sensor.program).get_config_schema(), "")
    except AcoupiError:
        return Schema(sensor, None, f"the program {sensor.program} is not installed here")


def value_of(schemas: list[Schema], name: str, text: str) -> Any:
    """Return the value of a setting that a text means; by JSON where no schema is known."""
    known = [one for one in schemas if one.model is not None]
    if known:
        return known[0].parsed(name, text)
    try:
        return json.loads(text)
    except ValueError:
        return text


def _loaded(model: type[BaseModel], settings: Mapping[str, Any]) -> tuple[BaseModel, BaseModel]:
    text = json.dumps(nested(dict(settings)))
    own, about = split_document(Document(text, ".json", "what the hub offers"), model)
    assert own is not None
    schema = sensor_schema()
    sensor = schema() if about is None else load_document(about, schema, names=SENSOR)
    return load_document(own, model), sensor


def _is_own(name: str) -> bool:
    return name == OWN or name.startswith(f"{OWN}.")


def _refused(name: str, why: str, better: str | None = None) -> ParameterError:
    remedy = f"acoupi fleet set … {better} …" if better else "acoupi help settings"
    return ParameterError(name, f'"{name}" cannot be set from the hub.', remedy, why=f"{why}.")
