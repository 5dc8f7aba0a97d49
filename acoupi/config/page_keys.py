"""Logging in to the web page: by a token that the command line prints, or a password.

A key is derived from either: from the token by one digest, from the password by scrypt. The file
holds only a digest of each key. A logged-in browser has the key in its cookie, and it is sent to
the door with every request that changes the sensor: the process of the page stores no key, and
without one it changes nothing.
"""

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from acoupi.commit import changing, commit_files, read_whole
from acoupi.errors import ConfigurationError
from acoupi.writing import RenderedFile

__all__ = ["LEAST_LENGTH", "Keys", "read_keys", "write_keys"]

LEAST_LENGTH = 10
"""Shortest and longest password, characters."""
MOST_LENGTH = 200
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
"""Cost of scrypt: 16 MiB, and a twentieth of a second on a laptop."""


@dataclass(frozen=True)
class Keys:
    """The keys of one page, as digests.

    Parameters
    ----------
    mark
        Part of each session: changing it ends all sessions.
    token
        Digest of the token's key; "" once a password has replaced it.
    salt, password
        Salt of the password, and digest of its key; "" if none has been chosen.
    """

    mark: str
    token: str = ""
    salt: str = ""
    password: str = ""

    @classmethod
    def with_token(cls, before: "Keys | None" = None) -> tuple[Self, str]:
        """Return keys with a new token, and that token; a password is kept, and sessions end."""
        token = secrets.token_urlsafe(18)
        kept = asdict(before) if before else {}
        return cls(**{**kept, "mark": _mark(), "token": _digest(_token_key(token))}), token

    def with_password(self, text: str) -> tuple[Self, str]:
        """Return keys with a new password in place of the token, and its key; sessions end.

        Raises
        ------
        ConfigurationError
            If it is too short or too long.
        """
        if not LEAST_LENGTH <= len(text) <= MOST_LENGTH:
            raise ConfigurationError(
                "this cannot be the password.",
                "a sentence that only you think of",
                why=f"it has {len(text)} characters, and must have {LEAST_LENGTH} to "
                f"{MOST_LENGTH}.",
            )
        salt = base64.b64encode(secrets.token_bytes(16)).decode()
        key = _password_key(text, salt)
        fresh = replace(self, mark=_mark(), token="", salt=salt, password=_digest(key))
        return fresh, key

    def key_of(self, text: str) -> str | None:
        """Return the key of this password or token; None if it is neither."""
        if len(text) > MOST_LENGTH:
            return None
        key = _token_key(text)
        if self.opens(key):
            return key
        if not self.password:
            return None
        key = _password_key(text, self.salt)
        return key if self.opens(key) else None

    def opens(self, key: str | None) -> bool:
        """Return whether this is the key of the password, or of the token."""
        digest = _digest(key or "")
        return any(one and hmac.compare_digest(digest, one) for one in (self.token, self.password))

    def to_file(self) -> RenderedFile:
        """Return the file that holds them."""
        return RenderedFile(json.dumps(asdict(self), indent=2) + "\n")


def _mark() -> str:
    return secrets.token_hex(16)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _token_key(token: str) -> str:
    return _digest(f"token {token}")


def _password_key(text: str, salt: str) -> str:
    raw = base64.b64decode(salt)
    return hashlib.scrypt(text.encode(), salt=raw, n=_COST, r=_BLOCK, p=_PARALLEL).hex()


def read_keys(path: Path) -> Keys | None:
    """Return the keys in a file; None if there are none, or the file holds something else."""
    try:
        found = json.loads(read_whole(path))
        keys = Keys(**{str(name): str(one) for name, one in found.items()})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return keys if keys.mark and (keys.token or keys.password) else None


def write_keys(path: Path, keys: Keys, act: str = "acoupi web token") -> None:
    """Write keys into a file of ``config/``; `act` is who does, for others who wait.

    Raises
    ------
    DeviceError
        After a disk error.
    """
    with changing(path.parent, act):
        commit_files(path.parent, {path: keys.to_file()})
