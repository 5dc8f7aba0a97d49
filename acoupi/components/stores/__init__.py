"""Stores of deployments, recordings and detections.

Nothing is imported until a name is used: workers do without the reader.
"""

from typing import TYPE_CHECKING

from acoupi.lazy import attach

if TYPE_CHECKING:
    from acoupi.components.stores.reader import *
    from acoupi.components.stores.sqlite import *

__getattr__, __dir__, __all__ = attach(
    __name__, {".reader": "SqliteReader", ".sqlite": "SqliteStore"}
)
