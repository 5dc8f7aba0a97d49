"""The values given so far, from all sources: one nested dict, with the origin of each value."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from acoupi.config.problems import OPTION, Origin, Problem, unknown
from acoupi.config.tree import ConfigTree, Key, Place

__all__ = ["Answers", "as_input"]


class Answers:
    """The values for a schema, to be validated together.

    Parameters
    ----------
    tree
        Their schema.
    data
        The values; later ones override them.
    """

    def __init__(self, tree: ConfigTree, data: dict[str, Any] | None = None) -> None:
        self.tree = tree
        self.data: dict[str, Any] = data or {}
        self.origins: dict[Place, Origin] = {}
        self.given: set[Place] = set()
        """Places that have a value in this setup, and need no question."""
        self.problems: list[Problem] = []

    # ---- writing

    def merge(self, document: Mapping[str, Any], origin: Origin, *, given: bool = True) -> None:
        """Override values with a whole document, section by section."""
        self._merge(self.tree, self.data, document, origin, given=given)

    def _merge(
        self,
        node: ConfigTree,
        into: dict[str, Any],
        document: Mapping[str, Any],
        origin: Origin,
        *,
        given: bool,
    ) -> None:
        for name, value in document.items():
            child = node.child(str(name))
            if child is None:
                if given:
                    self.refuse((*node.place, str(name)), origin)
                continue
            key = str(child.place[-1])
            if isinstance(value, dict) and child.is_section:
                into[key] = _section_for(child, into.get(key), value)
                self._note(child.place, origin, given=False)
                self._merge(child, into[key], value, origin, given=given)
            else:
                into[key] = self._checked(child, value, origin, given=given)
                self._note(child.place, origin, given=given)

    def _checked(self, node: ConfigTree, value: Any, origin: Origin, *, given: bool) -> Any:
        """Check the names in a value that replaces what was there."""
        if isinstance(value, dict) and node.is_section:
            section: dict[str, Any] = {}
            self._merge(node, section, value, origin, given=given)
            return section
        if isinstance(value, dict | list | tuple):
            return _mapped(
                node, value, lambda below, item: self._checked(below, item, origin, given=given)
            )
        return value

    def refuse(self, names: Sequence[Key], origin: Origin) -> None:
        """Note a name that does not exist."""
        self.origins[tuple(names)] = origin
        self.problems.append(unknown(self.tree, [str(name) for name in names]))

    def _note(self, place: Place, origin: Origin, *, given: bool) -> None:
        for old in [old for old in self.origins if old[: len(place)] == place]:
            del self.origins[old]
        self.origins[place] = origin
        if given:
            self.given.add(place)

    def put(self, node: ConfigTree, value: Any, origin: Origin) -> None:
        """Set one value, making the sections and lists above it."""
        value = self._checked(node, value, origin, given=True)
        if not node.place:
            self.data = value if isinstance(value, dict) else {}
            return
        into: Any = self.data
        for length, key in enumerate(node.place, start=1):
            if isinstance(into, list) and isinstance(key, int) and key > len(into):
                self.problems.append(Problem(node, f"the list has {len(into)} items so far"))
                return
            if length == len(node.place):
                _set(into, key, value)
                self._note(node.place, origin, given=True)
                return
            above = self.tree.at(node.place[:length])
            assert above is not None, "the place of a node exists"
            over = {node.place[-1]: value} if length == len(node.place) - 1 else {}
            into = _set(into, key, _container_for(above, _get(into, key), over))

    def data_at(self, node: ConfigTree) -> dict[str, Any]:
        """Return the values of a section, made if there is none."""
        if not isinstance(self.get(node.place), dict):
            given = set(self.given)
            self.put(node, _section_for(node, None, {}), OPTION)
            self.given = given  # what its default says was not given by anybody
        return dict(self.get(node.place))

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


def _set(into: Any, key: Key, value: Any) -> Any:
    if isinstance(into, dict):
        into[key] = value
    else:
        assert isinstance(key, int), "only an index leads into a list"
        into[key : key + 1] = [value]
    return value


def below(node: ConfigTree, value: Any) -> Iterator[tuple[ConfigTree | None, Any]]:
    """Yield the items of a dict or list with their places; None if an item has none."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield (node.child(key) if isinstance(key, str | int) else None), item


def _mapped(node: ConfigTree, value: Any, change: Any) -> Any:
    """Return a dict or list with every item that has a place changed."""
    items = [item if child is None else change(child, item) for child, item in below(node, value)]
    return dict(zip(value, items, strict=True)) if isinstance(value, dict) else items


def _secrets(node: ConfigTree, value: Any) -> Iterator[str]:
    if isinstance(value, dict | list | tuple):
        for child, item in below(node, value):
            if child is not None:
                yield from _secrets(child, item)
    elif node.is_secret and value is not None:
        revealed = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        yield str(revealed)


# ---- sections


def _container_for(node: ConfigTree, held: Any, over: Mapping[Key, Any]) -> Any:
    """Return the value at a place, in a form that can be written into."""
    if node.is_section:
        return _section_for(node, held, over)
    if node.is_list or node.slots:
        items = held if isinstance(held, list | tuple) else as_input(node.default)
        return list(items or ())
    return dict(held) if isinstance(held, dict) else {}


def _section_for(node: ConfigTree, held: Any, over: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the section that will be overridden, unless it is of another kind."""
    found = dict(held) if isinstance(held, dict) else _explicit(node, node.default)
    if node.tag is None or over.get(node.tag) in (None, found.get(node.tag)):
        return found
    return {}


def _explicit(node: ConfigTree, value: Any) -> dict[str, Any]:
    """Return the values in a section's default that differ from its fields' defaults."""
    if not isinstance(value, BaseModel):
        return {}
    return {
        name: _explicit(node.child(name) or node, found)
        if isinstance(found := getattr(value, name), BaseModel)
        else as_input(found)
        for name in type(value).model_fields
        if name in value.model_fields_set or name == node.tag
    }


def as_input(value: Any) -> Any:
    """Return a model as nested dicts and lists that validate to the same model."""
    if isinstance(value, BaseModel):
        return {name: as_input(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {key: as_input(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([as_input(item) for item in value])
    return value
