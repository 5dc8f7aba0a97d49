"""Which brokers are taken, how they are reached, and what is said of the others."""

import ssl

import pytest

from acoupi.errors import ConfigurationError
from acoupi.services.address import check_broker_url, is_own_redis
from acoupi.services.broker import make_app
from acoupi.services.external_broker import ExternalBroker
from acoupi.stack.celery_settings import CelerySettings
from acoupi.system import Settings


@pytest.mark.parametrize(
    "url",
    [
        "redis://hub",
        "rediss://user:secret@hub:6380/1?ssl_ca_certs=/etc/ca.pem",
        "redis+socket:///run/redis.sock?virtual_host=1",
        "amqp://guest@localhost//",
        "amqps://user:secret@hub:5671/sensors",
        "pyamqp://guest@localhost//",
        "amqp://",
    ],
)
def test_a_broker_that_celery_supports_is_taken(url: str) -> None:
    check_broker_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://hub:port/0",
        "redis://:pa/ss@hub:6379/0",
        "amqp://u:pa#ss@hub/0",
        "redis://hub:99999",
        "redis:/x",
        "redis://",
    ],
)
def test_what_is_no_url_of_a_broker_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot use the broker") as caught:
        check_broker_url(url)

    assert "ss@" not in "".join(caught.value.lines())
    assert len(caught.value.lines()) == 3


@pytest.mark.parametrize("scheme", ["http", "mqtt", "memory", "filesystem", "SQS2"])
def test_a_kind_that_does_not_exist_is_refused_with_those_that_do(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot use the broker") as caught:
        check_broker_url(f"{scheme}://user:hush@hub")

    text = "\n".join(caught.value.lines())
    assert len(caught.value.lines()) == 3
    assert "hush" not in text
    for valid in ("amqp://", "amqps://", "redis://", "rediss://", "sqs://", "redis+socket://"):
        assert valid in text
    assert "memory://" not in caught.value.lines()[1]


@pytest.mark.parametrize(
    ("scheme", "package"),
    [
        ("consul", "celery[consul]"),
        ("mongodb", "celery[mongodb]"),
        ("azureservicebus", "kombu[azureservicebus]"),
        ("gcpubsub", "celery[gcpubsub]"),
    ],
)
def test_a_kind_that_is_not_installed_is_refused_with_what_to_install(
    scheme: str, package: str
) -> None:
    with pytest.raises(ConfigurationError, match="cannot use the broker") as caught:
        check_broker_url(f"{scheme}://user:hush@hub")

    assert len(caught.value.lines()) == 3
    assert f'Try: pip install "{package}"' in caught.value.lines()[-1]
    assert "hush" not in "".join(caught.value.lines())


def test_the_redis_of_a_target_is_used_in_our_own_way_and_any_other_in_that_of_kombu(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "redis://hub:6379/0"
    elsewhere = make_app(settings, CelerySettings(broker_url=url))
    assert not is_own_redis(url)
    assert elsewhere.connection_for_read().transport_cls == "redis"

    monkeypatch.setenv("ACOUPI_BROKER", url)
    assert is_own_redis(url)
    assert "acoupi" in make_app(settings).connection_for_read().transport_cls


def test_certificates_are_checked_unless_that_is_switched_off() -> None:
    assert ExternalBroker.parse("redis://hub").tls is None
    assert ExternalBroker.parse("amqp://hub").tls is None
    assert ExternalBroker.parse("rediss://hub").tls == {"ssl_cert_reqs": "required"}
    assert ExternalBroker.parse("amqps://hub").tls == {"server_hostname": None}
    off = ExternalBroker.parse("amqps://hub/x?ssl_cert_reqs=CERT_NONE&heartbeat=20")
    assert off == ("amqps://hub/x?heartbeat=20", {"cert_reqs": ssl.CERT_NONE}, {})
    own = ExternalBroker.parse("amqps://hub?ssl_ca_certs=/ca.pem").tls
    assert own == {"ca_certs": "/ca.pem", "server_hostname": None}


def test_what_a_dead_worker_had_is_given_to_another_only_when_its_task_cannot_run_any_more() -> (
    None
):
    slow = ExternalBroker.parse("redis://hub", time_limit=7200).transport_options
    assert slow["visibility_timeout"] == 14_400
    assert ExternalBroker.parse("redis://hub").transport_options["visibility_timeout"] == 3600


def test_options_of_a_transport_stand_in_the_query() -> None:
    broker = ExternalBroker.parse("sqs://key:secret@?region=eu-west-1&wait_time_seconds=5")

    assert broker.url == "sqs://key:secret@"
    assert broker.transport_options["region"] == "eu-west-1"
    assert broker.transport_options["wait_time_seconds"] == 5
