"""What opens the page: a token that the command line prints, or a password."""

import base64
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from acoupi.errors import ConfigurationError
from acoupi.opening import read_bytes
from acoupi.writing import RenderedFile, write_files

__all__ = ["LEAST_LENGTH", "Keys", "read_keys", "write_keys"]

LEAST_LENGTH = 10
"""Characters of a password."""
MOST_LENGTH = 200
MOST_BYTES = 4096
_MODE = 0o660
"""The command line, and the service, may be two users of one group."""
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
"""Of scrypt: 16 MiB, and a twentieth of a second on a laptop."""


@dataclass(frozen=True)
class Keys:
    """The keys of one page.

    Parameters
    ----------
    signing
        Signs sessions; with another one, all of them end.
    token
        SHA-256 of the token; "" where a password has taken its place.
    salt, password
        Of the password; "" where none was chosen yet.
    """

    signing: str
    token: str = ""
    salt: str = ""
    password: str = ""

    @classmethod
    def with_token(cls, before: "Keys | None" = None) -> tuple[Self, str]:
        """Return keys with a new token, and that token; a password stays, and sessions end."""
        token = secrets.token_urlsafe(18)
        kept = asdict(before) if before else {}
        fresh = {"signing": secrets.token_hex(32), "token": _digest(token)}
        return cls(**{**kept, **fresh}), token

    def with_password(self, text: str) -> Self:
        """Return keys with another password, in place of the token; all sessions end.

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
        salt = secrets.token_bytes(16)
        return replace(
            self,
            signing=secrets.token_hex(32),
            token="",
            salt=base64.b64encode(salt).decode(),
            password=_hashed(text, salt),
        )

    def open_with(self, text: str) -> bool:
        """Return whether this is the password, or the token."""
        if len(text) > MOST_LENGTH:
            return False
        is_token = bool(self.token) and hmac.compare_digest(_digest(text), self.token)
        if is_token or not self.password:
            return is_token
        salt = base64.b64decode(self.salt)
        return hmac.compare_digest(_hashed(text, salt), self.password)

    def sign(self, text: str) -> str:
        """Return the signature of a text."""
        return hmac.digest(self.signing.encode(), text.encode(), "sha256").hex()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _hashed(text: str, salt: bytes) -> str:
    found = hashlib.scrypt(text.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL)
    return base64.b64encode(found).decode()


def read_keys(path: Path) -> Keys | None:
    """Return the keys in a file; None if there are none, or it holds something else."""
    try:
        found = json.loads(read_bytes(path, MOST_BYTES))
        keys = Keys(**{str(name): str(one) for name, one in found.items()})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return keys if len(keys.signing) >= 32 and (keys.token or keys.password) else None


def write_keys(path: Path, keys: Keys) -> None:
    """Write keys into a file, in place of whatever has its name.

    Raises
    ------
    DeviceError
        If the disk refuses.
    """
    if path.is_symlink():
        os.unlink(path)  # noqa: PTH108 - the link, never what it leads to
    write_files({path: RenderedFile(json.dumps(asdict(keys), indent=2) + "\n", _MODE)})
