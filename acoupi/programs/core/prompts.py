"""Marks on configuration fields for the code that asks the user about them."""

__all__ = ["NoUserPrompt"]


class NoUserPrompt:
    """Mark a field as one that setup never asks about.

    It can still be given as an option, in a file or in the environment.

    Examples
    --------
    >>> from typing import Annotated
    >>> from pydantic import BaseModel
    >>> class Buffer(BaseModel):
    ...     frames: Annotated[int, NoUserPrompt] = 8192
    >>> NoUserPrompt in Buffer.model_fields["frames"].metadata
    True
    """
