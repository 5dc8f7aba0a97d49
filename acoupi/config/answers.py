"""What was answered so far, from wherever: one nested dict, and where each value came from."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, RootModel

from acoupi.config.problems import Problem, unknown
from acoupi.config.tree import ConfigTree, Key, Place, fields_of

__all__ = ["Answers", "as_input"]


class Answers:
    """The values for a schema, to be validated together.

    Parameters
    ----------
    tree
        The schema they are for.
    data
        The values; later ones are put over them.
    """

    def __init__(self, tree: ConfigTree, data: dict[str, Any] | None = None) -> None:
        self.tree = tree
        self.data: dict[str, Any] = data or {}
        self.origins: dict[Place, str] = {}
        """Where values came from; "" is an option."""
        self.given: set[Place] = set()
        """Places that this setup was given a value for, so that nobody need be asked."""
        self.problems: list[Problem] = []
        self._begun: set[Place] = set()

    # ---- writing

    def begin(self) -> None:
        """Begin with another source: a list that it counts from 0 is a new list."""
        self._begun.clear()

    def merge(self, document: Mapping[str, Any], origin: str, *, given: bool = True) -> None:
        """Put a whole document over what is there, section by section."""
        self._merge(self.tree, self.data, dict(document), origin, given=given)

    def _merge(
        self,
        node: ConfigTree,
        into: dict[str, Any],
        document: dict[str, Any],
        origin: str,
        *,
        given: bool,
    ) -> None:
        for name, value in document.items():
            child = node.child(str(name))
            if child is None:
                if given:
                    self.origins[(*node.place, str(name))] = origin
                    self.problems.append(unknown(node, str(name)))
                continue
            key = str(child.place[-1])
            old = into.get(key)
            if isinstance(value, dict) and child.structs and _combine(child, old, value):
                section = into[key] = dict(old) if isinstance(old, dict) else _seed(child, value)
                self._note(child.place, origin, given=False)
                self._merge(child, section, value, origin, given=given)
            else:
                into[key] = self._checked(child, value, origin, given=given)
                self._note(child.place, origin, given=given)

    def _checked(self, node: ConfigTree, value: Any, origin: str, *, given: bool) -> Any:
        """Check the names in a value that replaces what was there."""
        if isinstance(value, dict) and node.structs:
            section: dict[str, Any] = {}
            self._merge(node, section, value, origin, given=given)
            return section
        if isinstance(value, list | tuple) and (node.item_types or node.slots):
            children = [(node.child(i), item) for i, item in enumerate(value)]
            return [
                self._checked(child, item, origin, given=given) if child else item
                for child, item in children
            ]
        if isinstance(value, dict) and node.value_types:
            return {
                key: self._checked(node.child(str(key)) or node, item, origin, given=given)
                for key, item in value.items()
            }
        return value

    def _note(self, place: Place, origin: str, *, given: bool) -> None:
        for old in [old for old in self.origins if old[: len(place)] == place]:
            del self.origins[old]
        self.origins[place] = origin
        if given:
            self.given.add(place)

    def put(self, node: ConfigTree, value: Any, origin: str) -> None:
        """Put one value at one place, making the sections and lists on the way."""
        value = self._checked(node, value, origin, given=True)
        if not node.place:
            self.data = value if isinstance(value, dict) else {}
            return
        into: Any = self.data
        above = self.tree
        for key, below in zip(node.place, node.place[1:], strict=False):
            child = above.child(key)
            assert child is not None, "the place of a node exists"
            last = below == node.place[-1] and child.place == node.place[:-1]
            into = self._container(child, into, key, {below: value if last else None})
            above = child
        if self._set(into, node, node.place[-1], value):
            self._note(node.place, origin, given=True)

    def _container(self, node: ConfigTree, into: Any, key: Key, over: Mapping[Key, Any]) -> Any:
        """Return what is at `key`, made fit to take what will be put over it."""
        old = _get(into, key)
        below = next(iter(over))
        wanted: Any = [] if isinstance(below, int) and not node.structs else {}
        if isinstance(wanted, list) and isinstance(old, list | tuple):
            wanted = list(old) if below or not self._is_new(node) else []
        elif isinstance(wanted, dict) and old is None and node.structs:
            wanted = _seed(node, over)
        elif isinstance(wanted, dict) and isinstance(old, dict):
            wanted = dict(old) if _combine(node, old, over) else {}
        elif isinstance(wanted, list) and old is None and isinstance(node.default, list | tuple):
            wanted = [as_input(item) for item in node.default] if below else []
        self._begun.add(node.place)
        self._set(into, node, key, wanted)
        return wanted

    def _is_new(self, node: ConfigTree) -> bool:
        item = node.child(0)
        return node.place not in self._begun and not (item and item.structs)

    def _set(self, into: Any, node: ConfigTree, key: Key, value: Any) -> bool:
        if isinstance(into, dict):
            into[key] = value
            return True
        assert isinstance(key, int), "only an index leads into a list"
        if key > len(into):
            self.problems.append(Problem(node, f"the list has {len(into)} items so far"))
            return False
        into[key : key + 1] = [value]
        return True

    def data_at(self, place: Place) -> dict[str, Any]:
        """Return the section at a place, made if there is none."""
        into, node = self.data, self.tree
        for key in place:
            node = node.child(key) or node
            if not isinstance(into.get(str(key)), dict):
                into[str(key)] = _seed(node, {})
            into = into[str(key)]
        return into

    # ---- reading

    def get(self, place: Place) -> Any:
        """Return the value at a place, or None."""
        value: Any = self.data
        for key in place:
            value = _get(value, key)
        return value

    def has(self, place: Place) -> bool:
        """Whether there is a value at a place, None included."""
        holder = self.get(place[:-1])
        return isinstance(holder, dict) and place[-1] in holder

    def is_given(self, place: Place) -> bool:
        """Whether a value was given for this place, or above or below it."""
        return any(
            given[: len(place)] == place or place[: len(given)] == given for given in self.given
        )

    def secrets(self) -> list[str]:
        """Return the texts that must not be shown."""
        return list(_secrets(self.tree, self.data))


def _get(holder: Any, key: Key) -> Any:
    if isinstance(holder, dict):
        return holder.get(key)
    if isinstance(holder, list | tuple) and isinstance(key, int) and key < len(holder):
        return holder[key]
    return None


def _secrets(node: ConfigTree, value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            child = node.child(key) if isinstance(key, str | int) else None
            if child is not None:
                yield from _secrets(child, item)
    elif node.is_secret and value is not None:
        revealed = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        yield str(revealed)


def _seed(node: ConfigTree, over: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what the default of a section says beyond the defaults of its own fields.

    Nothing if what will be put `over` it belongs to a section of another kind.
    """
    found = _explicit(node.default, with_literals=len(node.structs) > 1)
    return found if _fits_any(node, {*found, *over}, {**found, **over}) else {}


def _explicit(value: Any, *, with_literals: bool = False) -> dict[str, Any]:
    if not isinstance(value, BaseModel):
        return {}
    return {
        key: _explicit(found)
        if isinstance(found := getattr(value, name), BaseModel)
        else as_input(found)
        for key, (name, info) in fields_of(type(value)).items()
        if name in value.model_fields_set
        or (with_literals and get_origin(info.annotation) is Literal)
    }


def _combine(node: ConfigTree, old: Any, new: Mapping[Any, Any]) -> bool:
    """Whether a section may be put over another: not if they are of different kinds."""
    if not isinstance(old, dict):
        return True
    return _fits_any(node, {*old, *new}, {**old, **new})


def _fits_any(node: ConfigTree, keys: set[Any], values: Mapping[Any, Any]) -> bool:
    if len(node.structs) < 2:
        return True
    return any(_fits(struct, keys, values) for struct in node.structs)


def _fits(struct: Any, keys: set[Any], values: Mapping[Any, Any]) -> bool:
    fields = fields_of(struct)
    for key in keys:
        if key not in fields:
            return False
        annotation = fields[key][1].annotation
        literal = get_origin(annotation) is Literal
        if literal and values.get(key) is not None and values[key] not in get_args(annotation):
            return False
    return True


def as_input(value: Any) -> Any:
    """Return a model as the nested dicts and lists that validate to it again."""
    if isinstance(value, RootModel):
        return as_input(value.root)
    if isinstance(value, BaseModel):
        found = {
            key: as_input(getattr(value, name))
            for key, (name, _) in fields_of(type(value)).items()
            if hasattr(value, name)
        }
        return {**found, **(value.__pydantic_extra__ or {})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            key: as_input(getattr(value, name)) for key, (name, _) in fields_of(type(value)).items()
        }
    if isinstance(value, dict):
        return {key: as_input(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([as_input(item) for item in value])
    return value
