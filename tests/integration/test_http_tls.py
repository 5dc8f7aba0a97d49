"""The HTTP messenger and certificates, with real TLS servers."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from acoupi.data import ResponseStatus
from acoupi.errors import HealthCheckError, MessageSendError
from tests.http_messengers import message, messenger
from tests.servers import HTTPSink
from tests.services import Authority, make_authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def sink() -> Iterator[HTTPSink]:
    with HTTPSink() as sink:
        yield sink


def test_a_certificate_of_our_authority_is_trusted(authority: Authority) -> None:
    with HTTPSink(tls=authority.server_context()) as sink:
        response = messenger(sink.url, ca_certificate=authority.ca).send_message(message())

    assert response.status is ResponseStatus.SUCCESS


def test_an_environment_variable_does_not_replace_our_authority(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_authority(tmp_path / "other")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca))

    with HTTPSink(tls=authority.server_context()) as sink:
        response = messenger(sink.url, ca_certificate=authority.ca).send_message(message())

    assert response.status is ResponseStatus.SUCCESS


def test_an_unknown_certificate_is_a_send_error(authority: Authority) -> None:
    with (
        HTTPSink(tls=authority.server_context()) as sink,
        pytest.raises(MessageSendError) as raised,
    ):
        messenger(sink.url).send_message(message())

    assert "certificate is not trusted" in str(raised.value.why)
    assert "ca_certificate" in str(raised.value.help)
    assert sink.requests == []


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_can_be_switched_off_by_name(authority: Authority) -> None:
    with HTTPSink(tls=authority.server_context()) as sink:
        response = messenger(sink.url, verify=False).send_message(message())

    assert response.status is ResponseStatus.SUCCESS


def test_a_client_certificate_lets_us_in(authority: Authority) -> None:
    with HTTPSink(tls=authority.server_context(ask_client=True)) as sink:
        response = messenger(
            sink.url,
            ca_certificate=authority.ca,
            client_certificate=authority.client,
            client_key=authority.client_key,
        ).send_message(message())

    assert response.status is ResponseStatus.SUCCESS


def test_without_a_client_certificate_nothing_is_delivered(authority: Authority) -> None:
    with HTTPSink(tls=authority.server_context(ask_client=True)) as sink:
        sender = messenger(sink.url, ca_certificate=authority.ca)

        # TLS 1.3 refuses after the request is out: how far it came is a matter of chance.
        with suppress(MessageSendError):
            assert sender.send_message(message()).status is ResponseStatus.FAILED
        with pytest.raises(HealthCheckError):
            sender.check()

    assert sink.requests == []


def test_tls_with_a_server_that_speaks_none_is_a_send_error(sink: HTTPSink) -> None:
    with pytest.raises(MessageSendError) as raised:
        messenger(sink.url.replace("http:", "https:"), timeout=0.5).send_message(message())

    assert "TLS" in str(raised.value.why)


def test_a_missing_certificate_file_is_named() -> None:
    sender = messenger("https://localhost/in", ca_certificate=Path("/nowhere/ca.pem"))

    with pytest.raises(MessageSendError) as raised:
        sender.send_message(message())

    assert raised.value.message == 'cannot read ca_certificate "/nowhere/ca.pem".'


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("hello")

    with pytest.raises(HealthCheckError) as raised:
        messenger("https://localhost/in", ca_certificate=path).check()

    assert "is not a PEM file" in raised.value.message
