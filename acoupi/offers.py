"""Settings and images that a hub offers to its sensors: documents that the operator has signed.

The operator signs on their own machine (Ed25519, from the library ``cryptography``: the extra
``fleet``); the hub only distributes the documents, so that a compromised hub cannot make one.
Each document is for one sensor, and has a higher number than the previous one.
"""

import base64
import json
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, ValidationError

from acoupi.deferred import DeferredModel
from acoupi.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = ["IMAGE", "Envelope", "Offer", "make_key", "public_key", "require_key", "sealed"]


IMAGE = r"^[a-z0-9][A-Za-z0-9_.\-/:@]*$"
"""Valid names of images; none can be mistaken for an option."""


class Offer(DeferredModel):
    """The settings of a sensor, and its image, as the operator signed them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensor: str
    number: int = Field(ge=0)
    minutes: float = Field(gt=0)
    """Minutes for the trial; by then the hub must have confirmed it."""
    settings: dict[str, Any]
    """As in a configuration file, with the sensor's own in the section ``sensor``."""
    image: str | None = Field(default=None, pattern=IMAGE)
    """Image of its containers; None: the hub does not choose it."""


class Envelope(DeferredModel):
    """What travels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    document: str
    """An `Offer` in JSON; empty: the hub has none for this sensor."""
    signature: str
    confirmed: bool
    """Whether the hub found the sensor well with it; this is not signed."""

    def opened(self, key: str, sensor: str) -> Offer:
        """Return the verified offer.

        Parameters
        ----------
        key
            The operator's public key.
        sensor
            The sensor that it must be for.

        Raises
        ------
        ConfigurationError
            If another key signed it, or it is for another sensor.
        """
        if not self.document:
            return Offer(sensor=sensor, number=0, minutes=1, settings={})
        _require_signed(key, self.document, self.signature)
        try:
            offer = Offer.model_validate_json(self.document)
        except ValidationError as error:
            raise _refused("it is from a newer acoupi, or damaged") from error
        if offer.sensor != sensor:
            raise _refused(f'it is for the sensor "{offer.sensor}", but this is "{sensor}"')
        return offer


def sealed(private: str, offer: Offer) -> Envelope:
    """Return a document with its signature."""
    document = json.dumps(offer.model_dump(), sort_keys=True)
    signature = _text(_private(private).sign(document.encode()))
    return Envelope(document=document, signature=signature, confirmed=False)


def make_key() -> str:
    """Return a new private key."""
    return _text(_ed25519().Ed25519PrivateKey.generate().private_bytes_raw())


def public_key(private: str) -> str:
    """Return the public key of a private one.

    Raises
    ------
    ConfigurationError
        If it is not a private key.
    """
    return _text(_private(private).public_key().public_bytes_raw())


def require_key(public: str) -> None:
    """Raise a `ConfigurationError` unless a text is a public key."""
    _public(public)


def _require_signed(key: str, document: str, signature: str) -> None:
    public = _public(key)
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra

    try:
        public.verify(base64.b64decode(signature), document.encode())
    except (InvalidSignature, ValueError) as error:
        raise _refused("it was signed by another key, or changed since") from error


def _refused(why: str) -> ConfigurationError:
    return ConfigurationError(
        "the settings that the hub offers are refused.",
        "acoupi fleet set --status   (at the hub)",
        why=f"{why}.",
    )


def _private(text: str) -> "Ed25519PrivateKey":
    kind = _ed25519().Ed25519PrivateKey
    try:
        key: Ed25519PrivateKey = kind.from_private_bytes(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise _no_key("private", "acoupi fleet keys") from error
    return key


def _public(text: str) -> "Ed25519PublicKey":
    kind = _ed25519().Ed25519PublicKey
    try:
        key: Ed25519PublicKey = kind.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise _no_key(
            "public", "use the key that acoupi fleet keys prints after ACOUPI_CONFIG_KEY="
        ) from error
    return key


def _no_key(kind: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        f"this is not a {kind} Ed25519 key.", remedy, why="it must be 32 bytes in base64."
    )


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            "signed settings cannot be read or made here.",
            "pip install 'acoupi[fleet]'",
            why="the library cryptography is not installed.",
        ) from error
    return ed25519
