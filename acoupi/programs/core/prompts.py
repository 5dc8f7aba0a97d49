"""Marks on configuration fields for the code that asks the user about them."""

from acoupi.rights import NoUserPrompt

__all__ = ["NoUserPrompt"]
