"""The section ``hub`` of ``config/sensor.json``: the hub that the sensor reports to."""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from acoupi.certificates import authority_text, holds_certificates
from acoupi.deferred import DeferredModel
from acoupi.home import expanded
from acoupi.space import HubAudio

__all__ = ["Hub"]


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be a web address, such as https://hub.example.org")
    if parts.username or parts.password:
        raise ValueError("must hold no user or password: the token identifies this sensor")
    return text.rstrip("/")


def _authority(text: str) -> str:
    return authority_text(text) if holds_certificates(text) else text


class Hub(DeferredModel):
    """The hub to which the sensor reports what it hears."""

    url: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None,
        examples=["https://hub.example.org"],
        description="Address of the hub; none: the sensor reports to no hub.",
    )
    token: SecretStr | None = Field(
        default=None, description="The token that `acoupi hub add-sensor NAME` prints at the hub."
    )
    name: str | None = Field(
        default=None,
        examples=["oak-1"],
        description="Name of this sensor at the hub; only needed if it follows the hub's settings.",
    )
    key: str | None = Field(
        default=None,
        description="The operator's public key, which `acoupi fleet keys` prints. With it, `acoupi "
        "fleet follow` applies the settings and images that the hub gives; none: it follows "
        "nothing.",
    )
    ca_certificate: Annotated[str, AfterValidator(_authority)] | None = Field(
        default=None,
        examples=["config/hub-ca.pem"],
        description="PEM file of the authority that signed the hub's certificate, if it is a "
        "private one, or the certificate itself, -----BEGIN CERTIFICATE-----…; a relative path is "
        "below ACOUPI_HOME, in containers in its folder `config`; none: the authorities that "
        "this system trusts.",
    )
    audio: HubAudio = Field(
        default="none",
        description="Sound to send to the hub: none; clips and kept files with detections; the "
        "sample for review; or all. Files that the hub lacks are deleted last when a disk fills.",
    )
    interval_seconds: float = Field(
        default=60, ge=5, le=86_400, description="Seconds between two reports."
    )

    @property
    def sends(self) -> HubAudio:
        """The recordings whose sound the hub gets; none if there is no hub."""
        return "none" if self.url is None else self.audio

    def authority(self, home: Path) -> Path | str | None:
        """Return the authority of the hub, in a home: its file, or its certificate."""
        known = self.ca_certificate
        return known if known is None or holds_certificates(known) else home / expanded(known)

    @model_validator(mode="after")
    def validate_token(self) -> Self:
        """Refuse a hub without a token, which would refuse every report, and unused settings."""
        if self.url is not None and self.token is None:
            raise _lacks(
                "token", "a hub needs a token first, which acoupi hub add-sensor NAME prints there"
            )
        if self.key is not None and (self.url is None or self.name is None):
            lacking = "url" if self.url is None else "name"
            raise _lacks(lacking, "key needs url, and name (the sensor's name at the hub)")
        if self.ca_certificate and self.url and self.url.startswith("http:"):
            raise ValueError("ca_certificate needs a hub whose address starts with https:")
        return self


def _lacks(setting: str, why: str) -> PydanticCustomError:
    """Return what is wrong with a section that lacks one of its settings."""
    return PydanticCustomError("lacks", why, {"lacks": setting})
