"""The HTTP messenger against a real HTTP server, and against what is none."""

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from acoupi import devices
from acoupi.components.messengers import HTTPConfig, HTTPMessenger
from acoupi.data import ResponseStatus
from acoupi.errors import ConfigurationError, HealthCheckError, MessageSendError
from acoupi.tasks import generate_send_messages_task
from acoupi.testing import InMemoryMessageStore
from tests.clocks import RunningClock
from tests.http_messengers import message, messenger
from tests.servers import HTTPSink, endless_server, silent_port
from tests.services import DEADLINE, eventually, free_port

SECRET = "s3cr3t-pipistrelle"


@pytest.fixture
def sink() -> Iterator[HTTPSink]:
    with HTTPSink() as sink:
        yield sink


# --- delivered ---


def test_a_message_arrives_as_it_was_written(sink: HTTPSink) -> None:
    sent = message('{"species":  "Großes Mausohr"}')

    response = messenger(sink.url).send_message(sent)

    assert response.status is ResponseStatus.SUCCESS
    assert response.message == sent
    assert response.content == "thank you"
    assert sink.posts[0].body == sent.content.encode()  # type: ignore[union-attr]
    assert sink.posts[0].path == "/in"
    assert sink.posts[0].headers["Content-Type"] == "application/json"
    assert sink.posts[0].headers["Accept"] == "application/json"
    assert sink.posts[0].headers["Idempotency-Key"] == str(sent.id)
    assert sink.posts[0].headers["Acoupi-Device-Id"] == devices.get_device_id()


def test_json_as_bytes_arrives(sink: HTTPSink) -> None:
    response = messenger(sink.url).send_message(message(b"[1, 2]"))

    assert response.status is ResponseStatus.SUCCESS
    assert sink.posts[0].json() == [1, 2]


def test_parameters_and_headers_go_with_every_message(sink: HTTPSink) -> None:
    config = HTTPConfig(
        base_url=sink.url, base_params={"site": "pond"}, headers={"X-Key": SecretStr(SECRET)}
    )

    HTTPMessenger.from_config(config).send_message(message())

    assert sink.posts[0].path == "/in?site=pond"
    assert sink.posts[0].headers["X-Key"] == SECRET


def test_other_content_types_are_sent_as_they_are(sink: HTTPSink) -> None:
    sender = messenger(sink.url, content_type="application/octet-stream")

    response = sender.send_message(message(b"\xff\x00"))

    assert response.status is ResponseStatus.SUCCESS
    assert sink.posts[0].body == b"\xff\x00"


def test_a_form_holds_the_fields_of_the_json(sink: HTTPSink) -> None:
    sender = messenger(sink.url, content_type="application/x-www-form-urlencoded")

    sender.send_message(message('{"a": 1, "b": [2, 3]}'))

    assert sink.posts[0].body == b"a=1&b=%5B2%2C+3%5D"


def test_messages_share_one_connection(sink: HTTPSink) -> None:
    sender = messenger(sink.url)

    for _ in range(5):
        sender.send_message(message())

    assert len(sink.posts) == 5
    assert sink.connections == 1


def test_threads_share_a_messenger(sink: HTTPSink) -> None:
    sender = messenger(sink.url)
    statuses: list[ResponseStatus] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.extend(sender.send_message(message()).status for _ in range(10))
        )
        for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    sender.close()

    assert statuses == [ResponseStatus.SUCCESS] * 40
    assert len({post.headers["Idempotency-Key"] for post in sink.posts}) == 40


def test_a_closed_messenger_opens_again(sink: HTTPSink) -> None:
    sender = messenger(sink.url)
    sender.send_message(message())

    sender.close()

    assert sender.send_message(message()).status is ResponseStatus.SUCCESS
    assert sink.connections == 2


def test_a_server_that_comes_back_is_found_again() -> None:
    port = free_port()
    sender = messenger(f"http://localhost:{port}/in")
    with HTTPSink(port=port):
        first = sender.send_message(message())
    with pytest.raises(MessageSendError):
        sender.send_message(message())

    with HTTPSink(port=port):
        again = sender.send_message(message())

    assert first.status is again.status is ResponseStatus.SUCCESS


# --- refused ---


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_a_refused_message_is_an_error(sink: HTTPSink, status: int) -> None:
    sink.status, sink.answer = status, "no such field"

    response = messenger(sink.url).send_message(message())

    assert response.status is ResponseStatus.ERROR
    assert response.content == f"HTTP {status}: no such field"
    assert response.is_access_refused is (status in (401, 403, 404))


def test_a_week_with_an_expired_token_costs_little_and_loses_nothing(
    sink: HTTPSink, running_clock: RunningClock
) -> None:
    sink.token = "renewed"
    store = InMemoryMessageStore()
    expired = generate_send_messages_task(store, [messenger(sink.url, token="old")])
    for _ in range(4 * 7):
        store.store_message(message())
        expired()
        running_clock.step(6 * 3600)

    refusals, asked = store.get_refusals(), len(sink.posts)
    generate_send_messages_task(store, [messenger(sink.url, token="renewed")])()
    running_clock.step(3600)  # those that were tried last rest for so long
    generate_send_messages_task(store, [messenger(sink.url, token="renewed")])()

    assert "HTTP 401" in refusals[0].error
    assert asked <= 3 * 4 * 7
    assert store.get_dead_letters() == store.get_unsent_messages() == store.get_refusals() == []
    assert len({post.headers["Idempotency-Key"] for post in sink.posts}) == 4 * 7


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507])
def test_a_server_that_cannot_now_is_worth_another_try(sink: HTTPSink, status: int) -> None:
    sink.status = status

    assert messenger(sink.url).send_message(message()).status is ResponseStatus.FAILED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_taken_for_delivery(sink: HTTPSink, status: int) -> None:
    sink.status, sink.headers = status, {"Location": f"{sink.url}/login"}

    response = messenger(sink.url).send_message(message())

    assert response.status is ResponseStatus.FAILED
    assert [request.method for request in sink.requests] == ["POST"]


@pytest.mark.parametrize("content", ["bats!", b"\xff\xfe", "", '{"a": 1'])
def test_what_can_never_be_sent_is_an_error_and_not_sent(
    sink: HTTPSink, content: str | bytes
) -> None:
    response = messenger(sink.url).send_message(message(content))

    assert response.status is ResponseStatus.ERROR
    assert "never" in str(response.content)
    assert sink.requests == []


def test_a_form_without_fields_is_an_error(sink: HTTPSink) -> None:
    sender = messenger(sink.url, content_type="application/x-www-form-urlencoded")

    assert sender.send_message(message("[1]")).status is ResponseStatus.ERROR


# --- unreachable, silent, broken ---


def test_nobody_there_is_a_send_error() -> None:
    with pytest.raises(MessageSendError) as raised:
        messenger(f"http://localhost:{free_port()}/in").send_message(message())

    assert "refused" in str(raised.value.why)


def test_an_unknown_name_is_a_send_error() -> None:
    with pytest.raises(MessageSendError) as raised:
        messenger("http://no-such-host.invalid/in").send_message(message())

    assert "name is unknown" in str(raised.value.why)


def test_a_server_that_reads_and_says_nothing_is_a_timeout(sink: HTTPSink) -> None:
    sink.stall = True

    response = messenger(sink.url, timeout=0.5).send_message(message())

    assert response.status is ResponseStatus.TIMEOUT
    assert len(sink.posts) == 1


def test_a_silent_port_is_a_timeout() -> None:
    with silent_port() as port:
        response = messenger(f"http://localhost:{port}/in", timeout=0.5).send_message(message())

    assert response.status is ResponseStatus.TIMEOUT


def test_a_connection_that_breaks_before_the_answer_is_worth_another_try(sink: HTTPSink) -> None:
    sink.hang_up = True

    response = messenger(sink.url).send_message(message())

    assert response.status is ResponseStatus.FAILED
    assert "may have arrived" in str(response.content)


def test_an_answer_without_end_does_not_hold_the_sensor_up(sink: HTTPSink) -> None:
    sink.drip = True

    response = messenger(sink.url, timeout=2).send_message(message())

    assert response.status is ResponseStatus.SUCCESS


ENDLESS = {
    "headers": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "1xx": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "status": (b"", b"H"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_server_that_never_ends_its_headers_is_left_at_the_deadline(what: str) -> None:
    with endless_server(*ENDLESS[what]) as port:
        sender = messenger(f"http://localhost:{port}/in", timeout=0.3)

        response = sender.send_message(message())
        with pytest.raises(HealthCheckError, match="did not answer"):
            sender.check()

    assert response.status is ResponseStatus.TIMEOUT
    assert "no complete answer within 0.6 s" in str(response.content)
    eventually(lambda: not [one for one in threading.enumerate() if one.name == "acoupi-http"])


def test_an_early_hint_is_no_answer() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    with endless_server(hint, hint) as port:
        sender = messenger(f"http://localhost:{port}/in", timeout=0.5)

        assert sender.send_message(message()).status is ResponseStatus.FAILED
        with pytest.raises(HealthCheckError, match="did not answer"):
            sender.check()


def test_a_body_without_end_after_a_status_is_an_answer() -> None:
    first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with endless_server(first, b"0") as port:
        response = messenger(f"http://localhost:{port}/in", timeout=2).send_message(message())

    assert response.status is ResponseStatus.SUCCESS


def test_a_handshake_without_end_is_left_at_the_deadline() -> None:
    with endless_server(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb", b"a") as port:
        sender = messenger(f"https://localhost:{port}/in", timeout=0.3)
        assert sender.send_message(message()).status is ResponseStatus.TIMEOUT
        eventually(lambda: not [one for one in threading.enumerate() if one.name == "acoupi-http"])


def test_after_a_deadline_the_next_message_takes_a_new_connection(sink: HTTPSink) -> None:
    sender = messenger(sink.url, timeout=0.3)
    sink.stall = True
    assert sender.send_message(message()).status is ResponseStatus.TIMEOUT
    sink.stall, sender.timeout = False, DEADLINE

    assert sender.send_message(message()).status is ResponseStatus.SUCCESS


def test_a_long_answer_is_cut(sink: HTTPSink) -> None:
    sink.answer = "x" * 100_000

    response = messenger(sink.url).send_message(message())

    assert len(str(response.content)) == 4096


# --- who we are ---


def test_the_token_lets_us_in() -> None:
    with HTTPSink(token=SECRET) as sink:
        config = HTTPConfig(base_url=sink.url, token=SecretStr(f"{SECRET}\n"))

        response = HTTPMessenger.from_config(config).send_message(message())
        without = messenger(sink.url).send_message(message())

    assert response.status is ResponseStatus.SUCCESS
    assert without.status is ResponseStatus.ERROR


def test_a_netrc_file_does_not_replace_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login other password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    with HTTPSink(token=SECRET) as sink:
        response = messenger(sink.url, token=SECRET).send_message(message())

    assert response.status is ResponseStatus.SUCCESS


def test_user_name_and_password_let_us_in() -> None:
    with HTTPSink(credentials=f"bät:{SECRET}") as sink:
        response = messenger(sink.url, username="bät", password=SECRET).send_message(message())

    assert response.status is ResponseStatus.SUCCESS


def test_credentials_in_the_address_let_us_in_and_are_shown_nowhere() -> None:
    with HTTPSink(credentials=f"bat:{SECRET}") as sink:
        url = sink.url.replace("//", f"//bat:{SECRET}@")
        config = HTTPConfig(base_url=url)
        sender = HTTPMessenger.from_config(config)

        response = sender.send_message(message())

    assert response.status is ResponseStatus.SUCCESS
    assert config.base_url == sink.url
    assert SECRET not in repr(config) + config.model_dump_json() + sender.name + sender.base_url


def test_no_secret_is_in_an_error_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="acoupi")
    url = f"http://bat:{SECRET}@localhost:{free_port()}/in?key={SECRET}"
    sender = messenger(url, headers={"X-Key": SECRET}, base_params={"apikey": SECRET})

    with pytest.raises(MessageSendError) as raised:
        sender.send_message(message())
    with pytest.raises(HealthCheckError) as unhealthy:
        sender.check()

    shown = repr(sender) + sender.name + repr(vars(sender)["_auth"]) + caplog.text
    for error in (raised.value, unhealthy.value):
        shown += "".join(error.lines()) + repr(error) + str(error.__cause__)
    assert SECRET not in shown


@pytest.mark.parametrize("secret", [f"{SECRET}\r\nX-Evil: 1", f"{SECRET}☃", ""])
def test_a_header_that_cannot_be_sent_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        HTTPMessenger("http://localhost/in", headers={"X-Key": secret})

    assert SECRET not in "".join(raised.value.lines())
    assert 'header "X-Key"' in raised.value.message


# --- check ---


@pytest.mark.parametrize("status", [200, 204, 400, 405, 415, 501])
def test_a_server_that_answers_is_well(sink: HTTPSink, status: int) -> None:
    sink.options_status = status

    messenger(sink.url).check()

    assert [request.method for request in sink.requests] == ["OPTIONS"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "rejects the credentials"),
        (403, "forbids this sensor"),
        (404, "nothing at this address"),
        (407, "proxy"),
        (500, "cannot serve"),
        (503, "cannot serve"),
    ],
)
def test_a_server_that_would_not_take_messages_says_why(
    sink: HTTPSink, status: int, words: str
) -> None:
    sink.options_status = status

    with pytest.raises(HealthCheckError) as raised:
        messenger(sink.url).check()

    assert words in str(raised.value.why)
    assert str(status) in raised.value.message
    assert raised.value.help


def test_a_redirection_is_told(sink: HTTPSink) -> None:
    sink.status, sink.headers = 301, {"Location": "https://example.org/in?session=1"}

    with pytest.raises(HealthCheckError) as raised:
        messenger(sink.url).check()

    assert "https://example.org/in:" in str(raised.value.why)


def test_an_address_that_takes_no_post_is_told(sink: HTTPSink) -> None:
    sink.options_status, sink.headers = 405, {"Allow": "GET, HEAD"}

    with pytest.raises(HealthCheckError) as raised:
        messenger(sink.url).check()

    assert "GET, HEAD" in str(raised.value.why)


def test_the_check_shows_our_token() -> None:
    with HTTPSink(token=SECRET) as sink:
        messenger(sink.url, token=SECRET).check()

        with pytest.raises(HealthCheckError):
            messenger(sink.url, token="another").check()


def test_the_check_of_a_silent_server_ends() -> None:
    with silent_port() as port, pytest.raises(HealthCheckError) as raised:
        messenger(f"http://localhost:{port}/in", timeout=0.5).check()

    assert "no answer within 0.5 s" in str(raised.value.why)


def test_the_check_of_nobody_fails() -> None:
    with pytest.raises(HealthCheckError) as raised:
        messenger(f"http://localhost:{free_port()}/in").check()

    assert "refused" in str(raised.value.why)


# --- configuration ---


def test_making_a_messenger_touches_nothing(home: Path) -> None:
    messenger("https://nowhere.invalid/in", client_certificate=Path("/nowhere/c.pem"))

    assert not home.exists()


def test_the_name_tells_places_apart_and_holds_no_secret() -> None:
    sender = messenger(f"https://bat:{SECRET}@sink.example.org:8080/in/?key={SECRET}")

    assert sender.name == "http:sink.example.org:8080/in"


def test_given_headers_win_whatever_their_case(sink: HTTPSink) -> None:
    sender = messenger(sink.url, headers={"content-type": "application/vnd.bat+json"})

    sender.send_message(message())

    assert sender.content_type == "application/vnd.bat+json"
    assert sink.posts[0].headers["Content-Type"] == "application/vnd.bat+json"
    assert sink.posts[0].headers["Accept"] == "application/vnd.bat+json"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "sink.example.org"}, "http://"),
        ({"base_url": "ftp://sink.example.org"}, "http://"),
        ({"base_url": "http://"}, "http://"),
        ({"base_url": "http://a:99999/"}, "base_url"),
        ({"timeout": 0}, "greater than 0"),
        ({"token": SECRET, "username": "bat"}, "not both"),
        ({"password": SECRET}, "username"),
        ({"client_key": "k.pem"}, "client_certificate"),
        ({"base_url": "http://a/in", "ca_certificate": "ca.pem"}, "https://"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        HTTPConfig.model_validate({"base_url": "https://sink.example.org/in", **settings})

    assert words in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_wrong_address_is_refused_by_the_messenger_too() -> None:
    with pytest.raises(ValueError, match="http://"):
        HTTPMessenger("sink.example.org")
    with pytest.raises(ValueError, match="timeout"):
        HTTPMessenger("http://sink.example.org", timeout=0)


def test_secrets_are_masked_in_the_configuration() -> None:
    config = HTTPConfig(
        base_url="https://a/in", token=SecretStr(SECRET), headers={"X-Key": SecretStr(SECRET)}
    )

    assert SECRET not in repr(config)
    assert SECRET not in json.dumps(config.model_dump(mode="json"))


# --- a server that says "not now" ---

NOW = "Sat, 01 Jun 2024 20:00:00 GMT"
"""By the clock of the server, which is not that of the board."""


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("600", 600),
        (" 0 ", 0),
        ("Sat, 01 Jun 2024 20:10:00 GMT", 600),
        ("Saturday, 01-Jun-24 20:10:00 GMT", 600),
        ("Sat, 01 Jun 2024 19:00:00 GMT", 0),
        ("9" * 400, 999_999_999_999),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_the_time_to_come_back_is_read_in_both_forms(
    sink: HTTPSink, status: int, text: str, seconds: float | None
) -> None:
    sink.status, sink.headers = status, {"Date": NOW, "Retry-After": text}

    response = messenger(sink.url).send_message(message())

    assert response.status is ResponseStatus.FAILED
    assert response.retry_after == seconds


def test_a_message_that_is_too_large_holds_up_no_other(sink: HTTPSink) -> None:
    sink.status, sink.headers = 413, {"Retry-After": "600"}

    response = messenger(sink.url).send_message(message())

    assert (response.status, response.retry_after) == (ResponseStatus.ERROR, None)


@pytest.mark.parametrize(("headers", "posts"), [({}, 3), ({"Retry-After": "600"}, 1)])
def test_a_backlog_does_not_all_go_to_a_busy_server(
    sink: HTTPSink, headers: dict[str, str], posts: int
) -> None:
    store = InMemoryMessageStore()
    for _ in range(20):
        store.store_message(message())
    sink.status, sink.headers = 429, headers
    task = generate_send_messages_task(store, [messenger(sink.url)])

    task()
    assert len(sink.posts) == posts

    sink.status = 200
    task()
    assert len(sink.posts) == (1 if headers else 20)
