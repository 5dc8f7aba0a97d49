"""The section ``web`` of ``config/sensor.json``: the web page of the sensor."""

from ipaddress import ip_address, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from acoupi.deferred import DeferredModel

__all__ = ["Web"]

LISTEN_HERE = "127.0.0.1"


def _address(text: str) -> str:
    ip_address(text)
    return text


def _prefix(text: str) -> str:
    parts = text.split("/")
    if text and (parts[0] or not all(part.replace("-", "").isalnum() for part in parts[1:])):
        raise ValueError("must begin with / and hold letters, digits and -, such as /oak")
    return text


def _proxy(text: str) -> str:
    if text:
        ip_network(text)
    return text


class Web(DeferredModel):
    """The web page of the sensor."""

    enabled: bool = Field(default=False, description="Whether the web page is served.")
    host: Annotated[str, AfterValidator(_address)] = Field(
        default=LISTEN_HERE,
        description="Address on which the web page listens: 127.0.0.1 for this "
        "machine only, 0.0.0.0 for all networks.",
    )
    port: int = Field(default=8080, ge=1, le=65_535, description="Port of the web page.")
    public: bool = Field(
        default=False, description="Whether anyone may read it; changes always need a login."
    )
    live_audio: Literal["nobody", "members", "everybody"] = Field(
        default="members",
        description="Who may listen to the live sound of the microphone: nobody, people who are "
        "logged in, or everybody who may read the page.",
    )
    metrics: bool = Field(
        default=False,
        description="Whether anyone who reaches the page may read /metrics, for Prometheus.",
    )
    path_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="", description='Path at which a reverse proxy shows the page, such as "/oak".'
    )
    trusted_proxy: Annotated[str, AfterValidator(_proxy)] = Field(
        default="",
        description="Address or network of a reverse proxy whose headers about the browser's "
        "address and https are trusted.",
    )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(self.host).is_loopback
