"""The meaning of a setting: the description of its field, or the docstring below the field.

pydantic can read docstrings itself (``use_attribute_docstrings``), but does so when a
class is made, so that every service would parse sources for texts that only people read.
"""

import ast
import inspect
import textwrap
from functools import cache

__all__ = ["description_of"]


def description_of(kind: type, attribute: str) -> str | None:
    """Return what an attribute of a section means, as one line, or None.

    A subclass that only changes the default inherits the description.

    Parameters
    ----------
    kind
        The class that has the attribute, or inherits it.

    Examples
    --------
    >>> from acoupi.components.audio_recorder import MicrophoneConfig
    >>> description_of(MicrophoneConfig, "samplerate")
    'Frames per second, Hz. The microphone must offer it: nothing is resampled.'
    """
    for owner in inspect.getmro(kind):
        info = getattr(owner, "model_fields", {}).get(attribute)
        found = (info and info.description) or _docstrings(owner).get(attribute)
        if found:
            return str(found)
    return None


@cache
def _docstrings(owner: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(owner))
        body = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError):  # defined interactively, or by code
        return {}
    if not isinstance(body, ast.ClassDef):
        return {}
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            found[field.target.id] = " ".join(text.value.value.replace("``", "`").split())
    return found
