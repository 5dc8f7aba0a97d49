"""Text of strangers, made harmless before a terminal shows it.

The name of a device, the reason that a server gives, the last error of a service: each may hold
escape sequences, which set the title of a terminal, fill its clipboard, or hide what follows.
"""

import re

__all__ = ["printable"]

_HARMFUL = "\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"
"""Control characters of both sets, and those that change the text direction."""
_ALL = re.compile(f"[{_HARMFUL}]")


def printable(text: str, *, keep: str = "", escape: str | None = None) -> str:
    r"""Return a text with an escape, such as ``\x1b``, for each control character.

    Parameters
    ----------
    text
        Text from anyone.
        keep
            Characters that are allowed: a line break, a tabulator.
    escape
        Format of an escape; None: as Python writes the character.

    Examples
    --------
    >>> printable("mic\x1b]0;title\x07")
    'mic\\x1b]0;title\\x07'
    """

    def harmless(found: re.Match[str]) -> str:
        character = found[0]
        if character in keep:
            return character
        if escape is not None:
            return escape.format(ord(character))
        return repr(character)[1:-1]

    return _ALL.sub(harmless, text)
