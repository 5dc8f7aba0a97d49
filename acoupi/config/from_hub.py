"""The settings that a hub may give to a sensor; checked by the operator's tool and the sensor."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from acoupi.config.names import SENSOR
from acoupi.config.sensor import setting_trees
from acoupi.config.tree import ConfigTree
from acoupi.errors import ParameterError

__all__ = ["SET", "given_settings", "is_about_hub", "require_givable"]

SET = "acoupi fleet set …"
"""What gives sensors a setting, for errors."""
HUB = f"{SENSOR.section}.hub"
"""Settings by which a sensor reaches its hub: without them, no change could be undone."""


def is_about_hub(name: str) -> bool:
    """Return whether a sensor needs a setting to reach its hub."""
    return name == HUB or name.startswith(f"{HUB}.")


def require_givable(names: Iterable[str], schema: type[BaseModel], whose: str) -> list[ConfigTree]:
    """Return the places of settings, if a hub may give them.

    Parameters
    ----------
    names
        Names with dots.
    schema
        Schema of the program.
    whose
        The sensor, for errors.

    Raises
    ------
    ParameterError
        Naming the setting, and why a hub cannot give it.
    """
    trees = setting_trees(schema)
    return [_givable(name, trees, whose) for name in names]


def given_settings(
    settings: Mapping[str, Any], schema: type[BaseModel], whose: str
) -> dict[str, Any]:
    """Return the settings of a document, by name with dots; see `require_givable`.

    Parameters
    ----------
    settings
        Settings as in a configuration file.
    """
    trees = setting_trees(schema)
    found = dict(_leaves(settings, _nodes(trees)))
    for name in found:
        _givable(name, trees, whose)
    return found


def _nodes(trees: Sequence[ConfigTree]) -> dict[str, ConfigTree]:
    return {one.name: one for tree in trees for one in tree.walk()}


def _meant(name: str, trees: Sequence[ConfigTree]) -> list[ConfigTree]:
    """Return the settings that were probably meant by a name that is none."""
    first, _, rest = name.partition(".")
    for tree in trees:
        if tree.names.section == first:
            return tree.meant(rest.split("."))
    return trees[0].meant(name.split("."))


def _leaves(
    settings: Mapping[str, Any], nodes: Mapping[str, ConfigTree], above: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and any(one.startswith(f"{name}.") for one in nodes):
            yield from _leaves(value, nodes, f"{name}.")
        else:
            yield name, value


def _givable(name: str, trees: Sequence[ConfigTree], whose: str) -> ConfigTree:
    node = _nodes(trees).get(name)
    if node is None:
        better = " or ".join(one.name for one in _meant(name, trees)[:3])
        raise _refused(name, f"{whose} has no such setting", better)
    if is_about_hub(name):
        raise _refused(name, "without its hub, a sensor could not take anything back")
    if node.is_secret:
        raise _refused(name, "it is a secret, which does not pass through the hub")
    if node.is_section:
        raise _refused(name, "it is several settings: set them one by one")
    return node


def _refused(name: str, why: str, better: str | None = None) -> ParameterError:
    remedy = f"{SET} {better} …" if better else "acoupi help settings"
    return ParameterError(name, f'"{name}" cannot be set from the hub.', remedy, why=f"{why}.")
