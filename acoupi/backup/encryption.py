"""Secrets under a password: scrypt (RFC 7914) makes the key, Fernet encrypts.

The library ``cryptography`` is the extra ``backup``.
"""

import base64
import hashlib
import json
import os
from typing import Any

from acoupi.errors import ConfigurationError

__all__ = ["decrypt", "encrypt"]

COST, BLOCK, LANES = 2**15, 8, 1
"""Cost of scrypt: about 0.1 s and 32 MiB an attempt."""
MOST_COST = 2**18
SALT = 16


def encrypt(content: bytes, password: str) -> bytes:
    """Return encrypted content that only the password opens.

    Raises
    ------
    ConfigurationError
        If the library is not installed.
    """
    salt = os.urandom(SALT)
    token = _fernet(_key(password, salt, COST)).encrypt(content)
    sealed = {"salt": salt.hex(), "cost": COST, "token": token.decode()}
    return json.dumps(sealed).encode()


def decrypt(sealed: bytes, password: str) -> bytes:
    """Return the decrypted content.

    Raises
    ------
    ConfigurationError
        If the password is another one, or the library is not installed.
    """
    try:
        found = json.loads(sealed)
        salt, cost = bytes.fromhex(found["salt"]), min(int(found["cost"]), MOST_COST)
        fernet = _fernet(_key(password, salt, cost))
        content: bytes = fernet.decrypt(found["token"])
    except ConfigurationError:
        raise
    except Exception as error:  # cryptography's own, and those of a changed file
        raise ConfigurationError(
            "the password does not open the secrets of this backup.",
            "try again; without the secrets: acoupi restore FILE --without-secrets",
            why="the password is wrong, or the backup was changed.",
        ) from error
    return content


def _key(password: str, salt: bytes, cost: int) -> bytes:
    memory = 2 * 128 * cost * BLOCK * LANES
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=BLOCK, p=LANES, maxmem=memory, dklen=32
    )


def _fernet(key: bytes) -> Any:
    try:
        from cryptography.fernet import Fernet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            "secrets cannot be encrypted here.",
            "pip install 'acoupi[backup]'",
            why="the library cryptography is not installed.",
        ) from error
    return Fernet(base64.urlsafe_b64encode(key))
