"""The page of the public Python API: what programs and other tools may import."""

import importlib
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

from markdown import first_paragraph, page

from acoupi import __version__

MODULES = (
    "acoupi.data",
    "acoupi.components.types",
    "acoupi.components",
    "acoupi.programs",
    "acoupi.programs.templates",
    "acoupi.programs.fields",
    "acoupi.tasks",
    "acoupi.devices",
    "acoupi.devices.metrics",
    "acoupi.exports.reader",
    "acoupi.errors",
    "acoupi.system",
    "acoupi.testing",
)
WITH_METHODS = ("acoupi.components.types", "acoupi.programs.templates")
"""Where the methods are what a program gives, or overrides."""
INTRO = """\
What may be imported from acoupi, with what each is for; `help(NAME)` in Python tells the rest.
These names, their parameters and what they return change only as the [version
policy](../versions.md) says. Whatever is not here may change in any version. Times are seconds
and aware datetimes in UTC, frequencies hertz, scores 0 to 1."""


def api() -> str:
    """Return the page."""
    return page("Python API", INTRO, _parts())


def _parts() -> Iterator[str]:
    for name in MODULES:
        module = importlib.import_module(name)
        yield f"## {name}"
        yield first_paragraph(module)
        named = ((one, getattr(module, one)) for one in module.__all__)
        yield "\n".join(line for pair in named for line in _lines(*pair, name in WITH_METHODS))


def _lines(name: str, thing: Any, has_methods: bool) -> Iterator[str]:
    yield _line(name, thing)
    for key, method in vars(thing).items() if has_methods and inspect.isclass(thing) else ():
        if inspect.isfunction(method) and not key.startswith("_"):
            yield f"  {_line(key, method)}"


def _line(name: str, thing: Any) -> str:
    told = first_paragraph(thing) if isinstance(thing, type) or inspect.isroutine(thing) else ""
    return f"- `{name}{_signature(thing)}`" + (f": {told}" if told else "")


def _signature(thing: Any) -> str:
    """Return the parameters by name; nothing for what is not called."""
    if inspect.ismodule(thing) or not callable(thing):
        return ""
    if isinstance(thing, type) and issubclass(thing, Enum | Exception):
        return ""
    try:
        given = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return ""
    names = [str(one.replace(annotation=inspect.Parameter.empty)) for one in given
             if one.name != "self"]  # fmt: skip
    text = f"({', '.join(_short(one) for one in names)})"
    return text if len(text) < 300 else "(…)"


def _short(parameter: str) -> str:
    """Return a parameter; a default that is long, or an object, as an ellipsis."""
    name, is_set, default = parameter.partition("=")
    is_plain = re.fullmatch(r"[\w.'\"+-]{1,40}", default) and __version__ not in default
    return parameter if not is_set or is_plain else f"{name}=…"
