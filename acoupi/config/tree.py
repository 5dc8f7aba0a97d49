"""The contents of a configuration schema, described once: names, types, defaults, choices.

Reading options, files and variables, asking questions and wording errors all use
the description of `ConfigTree`. It is worked out place by place, on demand.
The types that a schema may have are in `acoupi.config.schemas`.
"""

import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any, Literal, Union

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from acoupi.config.field_docs import description_of
from acoupi.config.names import PROGRAM, Key, Names, Place, nearest
from acoupi.programs.core.prompts import NoUserPrompt

__all__ = ["ConfigTree", "Key", "Place", "describe"]

_MAX_DEPTH = 12


def is_section(kind: Any) -> bool:
    """Return whether a type has settings of its own."""
    return inspect.isclass(kind) and issubclass(kind, BaseModel)


def alternatives(annotation: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the types that a value may have, including None, and their annotations.

    Examples
    --------
    >>> alternatives(typing.Annotated[int, "mark"] | None)
    ((<class 'int'>, <class 'NoneType'>), ('mark',))
    """
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *marks = typing.get_args(annotation)
        kinds, below = alternatives(inner)
        return kinds, (*marks, *below)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        found = [alternatives(part) for part in typing.get_args(annotation)]
        kinds = tuple(dict.fromkeys(kind for kinds, _ in found for kind in kinds))
        return kinds, tuple(mark for _, marks in found for mark in marks)
    return (annotation,), ()


@dataclass(frozen=True)
class ConfigTree:
    """One place in a configuration, and access to those below it.

    Parameters
    ----------
    place
        Where it is; empty for the top.
    annotation
        The type of its value.
    info
        The field that holds it; None for the top and for items of lists and dicts.
    in_secret
        Whether something above it is a secret.
    owner
        The class and the attribute that hold it; None as for `info`.
    names
        How people write the settings of this configuration.
    """

    place: Place
    annotation: Any
    info: FieldInfo | None = None
    in_secret: bool = False
    owner: tuple[type, str] | None = None
    names: Names = PROGRAM

    # ---- names

    @property
    def name(self) -> str:
        """Its name with dots, as in ``recording.duration``."""
        return self.names.dotted(self.place)

    @property
    def option(self) -> str:
        """Its option, as in ``--recording.duration``."""
        return self.names.option(self.place)

    @property
    def variable(self) -> str:
        """Its environment variable, as in ``ACOUPI_CONFIG__RECORDING__DURATION``."""
        return self.names.variable(self.place)

    @property
    def title(self) -> str:
        """What to call it when asking."""
        last = str(self.place[-1]) if self.place else self.names.section
        return (self.info.title if self.info else None) or last.replace("_", " ")

    @property
    def description(self) -> str | None:
        """What it means, if the schema says so."""
        return description_of(*self.owner) if self.owner else None

    # ---- types

    @cached_property
    def _alternatives(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return alternatives(self.annotation)

    @cached_property
    def kinds(self) -> tuple[Any, ...]:
        """The types that its value may have, except None."""
        return tuple(kind for kind in self._alternatives[0] if kind is not type(None))

    @property
    def is_nullable(self) -> bool:
        """Whether None is a value for it."""
        return type(None) in self._alternatives[0]

    @property
    def marks(self) -> tuple[Any, ...]:
        """Its annotations in the schema: limits, `NoUserPrompt`, ..."""
        return (*(self.info.metadata if self.info else ()), *self._alternatives[1])

    @cached_property
    def sections(self) -> tuple[type[BaseModel], ...]:
        """The models that a section may have; empty: it is a value."""
        return tuple(kind for kind in self.kinds if is_section(kind))

    @property
    def is_section(self) -> bool:
        """Whether it has settings of its own (or is None)."""
        return bool(self.sections)

    @property
    def is_bool(self) -> bool:
        """Whether its value is true or false (or None)."""
        return self.kinds == (bool,)

    @property
    def is_text(self) -> bool:
        """Whether any text is a value for it."""
        return str in self.kinds or Any in self.kinds

    @cached_property
    def item_type(self) -> Any:
        """The type of its items, if it is a list; else None."""
        for kind in self.kinds:
            args = typing.get_args(kind)
            if typing.get_origin(kind) is list or (
                typing.get_origin(kind) is tuple and args[1:] == (Ellipsis,)
            ):
                return args[0]
        return None

    @cached_property
    def slots(self) -> tuple[Any, ...]:
        """The types of its items, if it is a tuple of a given length."""
        found = [kind for kind in self.kinds if typing.get_origin(kind) is tuple]
        return typing.get_args(found[0]) if found and self.item_type is None else ()

    @cached_property
    def value_type(self) -> Any:
        """The type of its values, if it is a dict; else None."""
        found = [kind for kind in self.kinds if typing.get_origin(kind) is dict]
        return typing.get_args(found[0])[1] if found else None

    @property
    def is_list(self) -> bool:
        """Whether its value is a list of any length (or None)."""
        return self.item_type is not None

    @property
    def is_compound(self) -> bool:
        """Whether its value is not a single one."""
        return self.is_section or self.is_list or bool(self.slots) or self.value_type is not None

    @property
    def has_compound_items(self) -> bool:
        """Whether it is a list or dict, and not of single values."""
        item = self.child(0)
        return item is not None and item.is_compound

    @cached_property
    def choices(self) -> tuple[Any, ...]:
        """The values it may have, if its type lists them, as in a file."""
        found: list[Any] = []
        for kind in self.kinds:
            if typing.get_origin(kind) is Literal:
                found += typing.get_args(kind)
            elif inspect.isclass(kind) and issubclass(kind, Enum):
                found += [member.value for member in kind]
            else:
                return ()
        return tuple(found)

    @property
    def choices_from(self) -> str | None:
        """Where its choices come from: "microphones", "timezones", ...; None: nowhere."""
        given = self._extra.get("choices")
        return given if isinstance(given, str) else None

    @property
    def suggested(self) -> str | None:
        """The suggestion that replaces the default in setup, such as the machine's "timezone"."""
        given = self._extra.get("suggested")
        return given if isinstance(given, str) else None

    @property
    def _extra(self) -> Mapping[str, Any]:
        extra = self.info.json_schema_extra if self.info else None
        return extra if isinstance(extra, dict) else {}

    @cached_property
    def is_secret(self) -> bool:
        """Whether its value must never be shown."""
        is_marked = self.in_secret or self._extra.get("secret") is True
        return is_marked or any(kind in (SecretStr, SecretBytes) for kind in self.kinds)

    @property
    def is_prompted(self) -> bool:
        """Whether setup asks for it, or for something in it."""
        if any(mark is NoUserPrompt or isinstance(mark, NoUserPrompt) for mark in self.marks):
            return False
        return not self.is_section or any(member.is_prompted for member in self.members)

    # ---- kinds of section

    @property
    def tag(self) -> str | None:
        """The setting that chooses its kind of section, if there are several."""
        infos = [self.info, *(mark for mark in self.marks if isinstance(mark, FieldInfo))]
        found = [info.discriminator for info in infos if info and info.discriminator]
        return found[0] if found and isinstance(found[0], str) else None

    def of_kind(self, tag: Any) -> "ConfigTree":
        """Return the same place as the kind of section with this tag; unchanged if none has it."""
        for section in self.sections if self.tag else ():
            node = replace(self, annotation=section)
            said = node.child(str(self.tag))
            if said is not None and tag in said.choices:
                return node
        return self

    # ---- defaults

    @property
    def is_required(self) -> bool:
        """Whether there must be a value, because there is no default."""
        return self.info is not None and self.info.is_required()

    @property
    def default(self) -> Any:
        """Its default; None also if it has none, or none can be told before other settings."""
        if self.info is None or self.info.is_required():
            return None
        if self.info.default_factory is not None and self.info.default_factory_takes_validated_data:
            return None
        try:
            default = self.info.get_default(call_default_factory=True)
        except Exception:  # noqa: BLE001 - of a program; told when the configuration is validated
            return None
        return None if default is PydanticUndefined else default

    # ---- members

    @cached_property
    def _members(self) -> dict[str, "ConfigTree"]:
        found: dict[str, ConfigTree] = {}
        for kind in self.sections:
            for name, info in kind.model_fields.items():
                node = self._below(name, info.annotation, info, (kind, name))
                if name in found:  # another kind of section also has it
                    node = replace(found[name], annotation=found[name].annotation | info.annotation)
                found[name] = node
        return found

    def _below(
        self,
        key: Key,
        annotation: Any,
        info: FieldInfo | None = None,
        owner: tuple[type, str] | None = None,
    ) -> "ConfigTree":
        place = (*self.place, key)
        return ConfigTree(place, annotation, info, self.is_secret, owner, self.names)

    @property
    def members(self) -> list["ConfigTree"]:
        """Its settings, in the order of the schema."""
        return list(self._members.values())

    def child(self, key: Key, *, fold: bool = False) -> "ConfigTree | None":
        """Return the place below it of that name or index, or None.

        Parameters
        ----------
        key
            A field by its name, or with ``-`` for ``_``; an index; a key of a dict.
        fold
            Take upper for lower case in the names of fields.
        """
        if self.sections:
            name, table = str(key), self._members
            if fold:
                name, table = name.lower(), {known.lower(): one for known, one in table.items()}
            return table.get(name) or table.get(name.replace("-", "_"))
        if self.value_type is not None:
            return self._below(str(key), self.value_type)
        index = _index(key)
        if index is None:
            return None
        if self.is_list:
            return self._below(index, self.item_type)
        return self._below(index, self.slots[index]) if index < len(self.slots) else None

    def find(self, names: Sequence[str], *, fold: bool = False) -> "ConfigTree | None":
        """Return the place with this path of names, or None."""
        here: ConfigTree | None = self
        for i, name in enumerate(names):
            if here is None:
                break
            if here.value_type is not None and not here.has_compound_items:
                return here.child((".", "__")[fold].join(names[i:]))  # dots belong to the key
            here = here.child(name, fold=fold)
        return here

    def closest(self, names: Sequence[str], *, fold: bool = False) -> "ConfigTree":
        """Return the deepest existing place on this path of names."""
        found = (self.find(names[:length], fold=fold) for length in range(len(names), 0, -1))
        return next((node for node in found if node is not None), self)

    def meant(self, names: Sequence[str]) -> list["ConfigTree"]:
        """Return the places that were probably meant by a path that does not exist.

        An exact last part wins; if several places have it, all are meant.
        """
        wanted = tuple(name.lower().replace("-", "_") for name in names)
        nodes = list(self.walk())
        here = self.closest(names, fold=True)
        for length in range(len(wanted), 0, -1):
            exact = [node for node in nodes if _folded(node)[-length:] == wanted[-length:]]
            below = [node for node in exact if node.place[: len(here.place)] == here.place]
            if exact:
                return below or exact
        near = {_folded(member)[-1]: member for member in here.members}
        every = {".".join(_folded(node)): node for node in nodes}
        lasts = {_folded(node)[-1]: node for node in reversed(nodes)}
        for text, table in ((wanted[-1], near), (".".join(wanted), every), (wanted[-1], lasts)):
            if found := nearest(text, list(table)):
                return [table[found]]
        return [here] if here.place else []

    def at(self, place: Place) -> "ConfigTree | None":
        """Return the place of that name, exactly, or None."""
        here: ConfigTree | None = self
        for key in place:
            here = here.child(key) if here is not None else None
        return here

    def walk(self, depth: int = _MAX_DEPTH) -> Iterator["ConfigTree"]:
        """Yield every named place below it, each section before its members."""
        for member in self.members if depth else []:
            yield member
            yield from member.walk(depth - 1)

    @property
    def custom_setup(self) -> Any:
        """Return the ``setup`` of a published config model that asks for itself, or None."""
        for kind in self.sections:
            own = kind.__module__.partition(".")[0] == "acoupi"
            setup = None if own else getattr(kind, "setup", None)
            if inspect.ismethod(setup) and setup.__self__ is kind:
                return setup
        return None


def _folded(node: ConfigTree) -> tuple[str, ...]:
    return tuple(str(key).lower() for key in node.place)


def _index(key: Key) -> int | None:
    if isinstance(key, int):
        return key
    return int(key) if key.isascii() and key.isdigit() and len(key) < 6 else None


def describe(schema: type[BaseModel], names: Names = PROGRAM) -> ConfigTree:
    """Describe a configuration schema.

    Examples
    --------
    >>> from pydantic import BaseModel
    >>> class Schema(BaseModel):
    ...     threshold: float = 0.2
    >>> [(place.option, place.default) for place in describe(Schema).members]
    [('--threshold', 0.2)]
    """
    return ConfigTree((), schema, names=names)
