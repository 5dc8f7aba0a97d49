"""Settings of messengers that cannot be, and what is said of certificates."""

import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from acoupi.components.messengers import HTTPConfig, HTTPMessenger, MQTTConfig, MQTTMessenger
from acoupi.components.messengers.tls import explain_tls
from acoupi.components.types import Messenger
from acoupi.config import parse_config_from_args
from acoupi.errors import ConfigurationError, HealthCheckError
from tests.services import make_authority

LONG_LABEL = "a" * 64 + ".example.org"


@pytest.mark.parametrize("kind", ["http", "mqtt"])
def test_a_certificate_with_a_relative_path_is_below_the_home(
    kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority(tmp_path / "tls")
    (home / "config").mkdir(parents=True)
    shutil.copy(authority.ca, home / "config" / "ca.pem")
    monkeypatch.chdir(tmp_path)
    own: dict[str, Any] = {"ca_certificate": Path("config/ca.pem"), "timeout": 0.01}
    messenger: Messenger = (
        HTTPMessenger("https://127.0.0.1:9/in", **own)
        if kind == "http"
        else MQTTMessenger("127.0.0.1", "acoupi", 9, use_tls=True, **own)
    )

    with pytest.raises(HealthCheckError) as raised:
        messenger.check()
    assert "cannot read" not in str(raised.value)
    messenger.close()


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("mqtt://broker.example.org", 'write "broker.example.org" without "mqtt://"'),
        ("mqtts://broker.example.org:8883/", "without"),
        ("broker.example.org:1883", "set port"),
        (LONG_LABEL, "at most 63"),
        ("a..b", "cannot be the name"),
        ("my broker", "cannot be the name"),
        ("broker/in", "cannot be the name"),
        ("-broker", "cannot be the name"),
    ],
)
def test_what_is_no_host_is_refused_at_setup(host: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        MQTTConfig(host=host)


@pytest.mark.parametrize(
    "host",
    ["localhost", "10.0.0.7", "::1", "fe80::1%eth0", "my_broker", "b.example.org.", "münchen.de"],
)
def test_what_is_a_host_is_taken(host: str) -> None:
    assert MQTTConfig(host=host).host == host


def test_a_socket_is_no_host() -> None:
    config = MQTTConfig.model_validate({"host": "/run/broker sock", "transport": "unix"})

    assert config.host == "/run/broker sock"


@pytest.mark.parametrize("host", [LONG_LABEL, "a..b"])
def test_an_address_must_have_a_host_too(host: str) -> None:
    with pytest.raises(ValidationError, match="cannot be the name of a machine"):
        HTTPConfig(base_url=f"https://{host}/in")


@pytest.mark.parametrize("host", ["[::1]:8080", "user:pass@127.0.0.1", "acoupi_hub:80", "hub"])
def test_an_address_with_a_host_is_taken(host: str) -> None:
    assert HTTPConfig(base_url=f"http://{host}/in").base_url.endswith("/in")


@pytest.mark.parametrize(
    "url", ["ftp://bob:sesame@host/in", "http://bob:sesame@/in", "https://bob:sesame@host:99999/x"]
)
def test_a_wrong_address_is_not_repeated_with_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_config_from_args(HTTPConfig, ["--base_url", url], prompt=False)

    said = f"{caught.value.message} {caught.value.why} {caught.value.help}"
    assert "base_url" in said
    assert "sesame" not in said


@pytest.mark.parametrize(
    ("code", "why", "remedy"),
    [
        (9, "not valid yet; the clock of this board says", "set the clock"),
        (10, "expired; the clock of this board says", "check the clock"),
        (62, "mismatch", "a name that is in the certificate"),
        (18, "self-signed", "set ca_certificate"),
    ],
)
def test_the_remedy_fits_what_is_wrong_with_a_certificate(code: int, why: str, remedy: str) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "self-signed certificate; mismatch"

    said, help_ = explain_tls(error)

    assert why in said
    assert remedy in help_
