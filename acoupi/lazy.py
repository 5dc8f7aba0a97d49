"""Packages that import a name from its module on first use (PEP 562).

Using one component then does not import the others. Type checkers read the star
imports beside the call of `attach`, which are never run.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["attach"]


def attach(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Parameters
    ----------
    package
        Its ``__name__``.
    names
        The names from each module, separated by spaces. The module is absolute, or
        relative to the package (``.sun``); below ``.`` stand modules that are given themselves.

    Examples
    --------
    >>> get, names, exported = attach("acoupi", {".clock": "monotonic", ".": "errors"})
    >>> get("errors").__name__, get("monotonic").__module__, exported
    ('acoupi.errors', 'acoupi.clock', ['errors', 'monotonic'])
    """
    module_of = {name: module for module, listed in names.items() for name in listed.split()}
    # Constants, classes, functions: the order of every ``__all__`` here.
    exported = sorted(module_of, key=lambda name: (not name.isupper(), not name[0].isupper(), name))

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if module_of[name] == ".":
            return import_module(f".{name}", package)
        return getattr(import_module(module_of[name], package), name)

    return get, lambda: exported, exported
