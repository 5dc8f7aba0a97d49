"""A sensor as other people publish them: a package of its own, against the public API."""

from acoupi_nightjar.program import Program

__all__ = ["Program"]
