"""What a configuration schema holds, described once: names, types, defaults, choices.

`ConfigTree` is the description that reading options, files and variables, asking
questions and wording errors all work from. It is worked out place by place,
when asked, so that a schema may hold itself.
"""

import collections.abc
import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Literal, Union

from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr
from pydantic.aliases import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from acoupi.config.meanings import meaning_of
from acoupi.programs.core.prompts import NoUserPrompt

__all__ = ["VARIABLE_PREFIX", "ConfigTree", "Key", "Place", "describe", "nearest"]

VARIABLE_PREFIX = "ACOUPI_CONFIG__"

Key = str | int
Place = tuple[Key, ...]
"""The way from the top of a configuration to one of its values."""

_SEQUENCES = (list, set, frozenset, collections.deque, Sequence, collections.abc.Set)
_MAPPINGS = (dict, Mapping, collections.abc.MutableMapping, collections.defaultdict)
_MAX_DEPTH = 12


def nearest(name: str, valid: Sequence[str]) -> str | None:
    """Return what was probably meant by `name`, or None.

    Examples
    --------
    >>> nearest("recording.duratoin", ["recording.duration", "timezone"])
    'recording.duration'
    >>> nearest("duration", ["recording.duration", "timezone"])
    'recording.duration'
    """
    wanted = name.lower().replace("-", "_")
    folded = {text.lower(): text for text in reversed(valid)}
    ends = {text.rpartition(".")[2]: text for text in reversed(folded)}
    for table in (folded, ends):
        if wanted in table:
            return folded[table[wanted].lower()] if table is ends else folded[wanted]
    begun = [text for text in folded if text.startswith(wanted)] if len(wanted) > 2 else []
    if begun:
        return folded[min(begun, key=len)]
    close = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.65)
    if close:
        return folded[close[0]]
    close = difflib.get_close_matches(wanted.rpartition(".")[2], ends, n=1, cutoff=0.75)
    return folded[ends[close[0]]] if close else None


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a value may have, without wrappers; None's type included."""
    while True:
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif hasattr(annotation, "__value__"):  # type X = ...
            annotation = annotation.__value__
        elif typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.TypeVar):
            annotation = annotation.__bound__ or Any
        elif inspect.isclass(annotation) and issubclass(annotation, RootModel):
            annotation = annotation.model_fields["root"].annotation
        else:
            break
    if typing.get_origin(annotation) in (Union, types.UnionType):
        found = [one for part in typing.get_args(annotation) for one in alternatives(part)]
        return tuple(dict.fromkeys(found))
    return (annotation,)


def _markers(annotation: Any) -> Iterator[Any]:
    """Give what is annotated anywhere in a type but inside its containers."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *marks = typing.get_args(annotation)
        yield from marks
        yield from _markers(inner)
    elif typing.get_origin(annotation) in (Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _markers(part)


def is_struct(kind: Any) -> bool:
    """Whether a type has named fields that options can reach."""
    return inspect.isclass(kind) and (
        issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)
    )


def _plain_fields(kind: Any) -> dict[str, FieldInfo]:
    """Fields of a dataclass or TypedDict."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if typing.is_typeddict(kind):
        return {name: FieldInfo.from_annotation(hint) for name, hint in hints.items()}
    fields = {}
    for field in dataclasses.fields(kind):
        info = FieldInfo.from_annotation(hints[field.name])
        if field.default is not dataclasses.MISSING:
            info = FieldInfo.from_annotated_attribute(hints[field.name], field.default)
        elif field.default_factory is not dataclasses.MISSING:
            info.default_factory = field.default_factory
        fields[field.name] = info
    return fields


def _key_of(kind: Any, name: str, info: FieldInfo) -> str:
    """Return the key under which pydantic expects a field."""
    config = getattr(kind, "model_config", {})
    if config.get("populate_by_name") or config.get("validate_by_name"):
        return name
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        alias = next((one for one in alias.choices if isinstance(one, str)), None)
    return alias if isinstance(alias, str) else name


def fields_of(kind: Any) -> dict[str, tuple[str, FieldInfo]]:
    """Return key -> (attribute, field) of a type with named fields."""
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        found = dict(kind.model_fields)
    else:
        found = getattr(kind, "__pydantic_fields__", None) or _plain_fields(kind)
    return {_key_of(kind, name, info): (name, info) for name, info in found.items()}


@dataclass(frozen=True)
class ConfigTree:
    """One place in a configuration, and the way to those below it.

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
    """

    place: Place
    annotation: Any
    info: FieldInfo | None = None
    in_secret: bool = False
    owner: tuple[type, str] | None = None

    # ---- names

    @property
    def name(self) -> str:
        """Its name with dots, as in ``recording.duration``; empty for the top."""
        return ".".join(str(key) for key in self.place)

    @property
    def option(self) -> str:
        """Its option, as in ``--recording.duration``."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Its environment variable, as in ``ACOUPI_CONFIG__RECORDING__DURATION``."""
        return VARIABLE_PREFIX + "__".join(str(key).upper() for key in self.place)

    @property
    def title(self) -> str:
        """What to call it when asking."""
        last = str(self.place[-1]) if self.place else ""
        return (self.info.title if self.info else None) or last.replace("_", " ")

    @property
    def description(self) -> str | None:
        """What it means, if the schema says so."""
        return meaning_of(*self.owner) if self.owner else None

    # ---- types

    @cached_property
    def kinds(self) -> tuple[Any, ...]:
        """The types that its value may have, None aside."""
        return tuple(kind for kind in alternatives(self.annotation) if kind is not type(None))

    @cached_property
    def is_nullable(self) -> bool:
        """Whether None is a value for it."""
        return any(kind in (type(None), None) for kind in alternatives(self.annotation))

    @cached_property
    def structs(self) -> tuple[Any, ...]:
        """Those of its types that have named fields."""
        return tuple(kind for kind in self.kinds if is_struct(kind))

    @property
    def is_section(self) -> bool:
        """Whether its value always has named fields (or is None)."""
        return bool(self.kinds) and len(self.structs) == len(self.kinds)

    @property
    def is_bool(self) -> bool:
        """Whether its value is true or false (or None)."""
        return self.kinds == (bool,)

    @property
    def is_text(self) -> bool:
        """Whether any text is a value for it."""
        return str in self.kinds or Any in self.kinds or object in self.kinds

    @cached_property
    def item_types(self) -> tuple[Any, ...]:
        """The types of its items, if it may be a list of any length."""
        found = []
        for kind in self.kinds:
            origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
            if origin in _SEQUENCES or (origin is tuple and (not args or args[-1] is Ellipsis)):
                found.append(args[0] if args else Any)
        return tuple(found)

    @cached_property
    def slots(self) -> tuple[Any, ...]:
        """The types of its items, if it is a tuple of a given length."""
        for kind in self.kinds:
            args = typing.get_args(kind)
            if typing.get_origin(kind) is tuple and args and args[-1] is not Ellipsis:
                return args
        return ()

    @cached_property
    def value_types(self) -> tuple[Any, ...]:
        """The types of its values, if it may be a dict."""
        found = []
        for kind in self.kinds:
            origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
            if origin in _MAPPINGS:
                found.append(args[1] if len(args) == 2 else Any)
        return tuple(found)

    @property
    def is_list(self) -> bool:
        """Whether its value is a list (or None)."""
        return bool(self.item_types) and len(self.item_types) == len(self.kinds)

    @cached_property
    def choices(self) -> tuple[Any, ...]:
        """The values it may have, if its type lists them; as they stand in a file."""
        found: list[Any] = []
        for kind in self.kinds:
            if typing.get_origin(kind) is Literal:
                found += typing.get_args(kind)
            elif inspect.isclass(kind) and issubclass(kind, Enum):
                found += [member.value for member in kind]
            else:
                return ()
        return tuple(found)

    @cached_property
    def choices_from(self) -> str | None:
        """Where its choices come from: "microphones", "timezones", ...; None: nowhere."""
        given = self._extra.get("choices")
        return given if isinstance(given, str) else None

    @property
    def _extra(self) -> Mapping[str, Any]:
        extra = self.info.json_schema_extra if self.info else None
        return extra if isinstance(extra, dict) else {}

    @cached_property
    def is_secret(self) -> bool:
        """Whether its value must never be shown."""
        return (
            self.in_secret
            or self._extra.get("secret") is True
            or any(
                (typing.get_origin(kind) or kind) in (SecretStr, SecretBytes, Secret)
                for kind in self.kinds
            )
        )

    @cached_property
    def is_prompted(self) -> bool:
        """Whether setup asks for it."""
        marks = [*(self.info.metadata if self.info else ()), *_markers(self.annotation)]
        return not any(mark is NoUserPrompt or isinstance(mark, NoUserPrompt) for mark in marks)

    # ---- defaults

    @property
    def is_required(self) -> bool:
        """Whether there must be a value, because there is no default."""
        return self.info is not None and self.info.is_required()

    @property
    def default(self) -> Any:
        """Its default; None also where it has none or where it depends on other fields."""
        if self.info is None or self.info.is_required():
            return None
        if self.info.default_factory is not None and self.info.default_factory_takes_validated_data:
            return None
        default = self.info.get_default(call_default_factory=True)
        return None if default is PydanticUndefined else default

    # ---- the ones below

    @cached_property
    def _members(self) -> dict[str, "ConfigTree"]:
        found: dict[str, list[FieldInfo]] = {}
        owners: dict[str, tuple[type, str]] = {}
        for kind in self.structs:
            for key, (attribute, info) in fields_of(kind).items():
                found.setdefault(key, []).append(info)
                owners.setdefault(key, (kind, attribute))
        return {
            key: self._below(
                key, Union[*(info.annotation for info in infos)], infos[0], owners[key]
            )
            for key, infos in found.items()
        }

    def _below(
        self,
        key: Key,
        annotation: Any,
        info: FieldInfo | None = None,
        owner: tuple[type, str] | None = None,
    ) -> "ConfigTree":
        return ConfigTree((*self.place, key), annotation, info, self.is_secret, owner)

    @property
    def members(self) -> list["ConfigTree"]:
        """Its named fields, in the order of the schema."""
        return list(self._members.values())

    @property
    def is_open(self) -> bool:
        """Whether it takes fields that it does not name."""
        return any(
            getattr(kind, "model_config", {}).get("extra") == "allow" for kind in self.structs
        )

    def child(self, key: Key, *, fold: bool = False) -> "ConfigTree | None":
        """Return the place below it of that name or index, or None.

        Parameters
        ----------
        key
            A field by its name, its alias, or with ``-`` for ``_``; an index; a key of a dict.
        fold
            Take upper for lower case in the names of fields.
        """
        member = self._named(str(key), fold=fold)
        if member is not None:
            return member
        index = _index(key)
        if index is not None and self.item_types:
            return self._below(index, Union[*self.item_types])
        if index is not None and index < len(self.slots):
            return self._below(index, self.slots[index])
        if self.value_types:
            return self._below(str(key), Union[*self.value_types])
        if self.is_open or Any in self.kinds:
            return self._below(key, Any)
        return None

    def _named(self, name: str, *, fold: bool) -> "ConfigTree | None":
        if name in self._members:
            return self._members[name]
        wanted = name.replace("-", "_")
        for kind in self.structs:
            for key, (attribute, info) in fields_of(kind).items():
                known = [key, attribute, *([info.alias] if info.alias else [])]
                if fold:
                    known, wanted = [one.lower() for one in known], wanted.lower()
                if name in known or wanted in known:
                    return self._members[key]
        return None

    def find(self, names: Sequence[str], *, fold: bool = False) -> "ConfigTree | None":
        """Return the place that these names lead to, or None."""
        here: ConfigTree = self
        for i, name in enumerate(names):
            if here.value_types and not here.structs:
                item = here.child(name)
                if item is not None and not (item.structs or item.value_types or item.item_types):
                    return here.child((".", "__")[fold].join(names[i:]))
            below = here.child(name, fold=fold)
            if below is None:
                return None
            here = below
        return here

    def closest(self, names: Sequence[str], *, fold: bool = False) -> "ConfigTree":
        """Return the last place that exists on the way these names describe."""
        for length in range(len(names), 0, -1):
            found = self.find(names[:length], fold=fold)
            if found is not None:
                return found
        return self

    def walk(self, depth: int = _MAX_DEPTH) -> Iterator["ConfigTree"]:
        """Give every named place below it, each section before what it holds."""
        for member in self.members if depth else []:
            yield member
            yield from member.walk(depth - 1)

    @property
    def custom_setup(self) -> Any:
        """Return the ``setup`` of a published config model that asks for itself, or None."""
        for kind in self.structs:
            own = str(getattr(kind, "__module__", "")).partition(".")[0] == "acoupi"
            setup = None if own else getattr(kind, "setup", None)
            if inspect.ismethod(setup) and setup.__self__ is kind:
                return setup
        return None


def _index(key: Key) -> int | None:
    if isinstance(key, int):
        return key
    return int(key) if key.isascii() and key.isdigit() and len(key) < 6 else None


def describe(schema: type[BaseModel]) -> ConfigTree:
    """Describe a configuration schema.

    Examples
    --------
    >>> from pydantic import BaseModel
    >>> class Schema(BaseModel):
    ...     threshold: float = 0.2
    >>> [(place.option, place.default) for place in describe(Schema).members]
    [('--threshold', 0.2)]
    """
    return ConfigTree((), schema)
