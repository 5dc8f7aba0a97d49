"""A pydantic model that costs memory only where it is used.

Most processes of a sensor import most models and use few of them. What pydantic makes of a
model (its schema, validator and serializer) is several times as large as the class itself.
"""

from pydantic import BaseModel, ConfigDict

__all__ = ["DeferredModel"]


class DeferredModel(BaseModel):
    """A model whose validator is made when it is first used, not when its class is made."""

    model_config = ConfigDict(defer_build=True)
