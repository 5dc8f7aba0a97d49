"""Passwords and tokens that travel in clear are said, at setup and by check."""

from pathlib import Path

import pytest

from acoupi.config.plain_credentials import plain_credentials
from tests.cli.support import Run, data_of

SETUP = ("setup", "--program", "connected", "--no-prompt", "--microphone.device_name", "any")
HTTP = ("--messaging.http.token", "geheim", "--messaging.http.base_url")
MQTT = ("--messaging.mqtt.username", "bat", "--messaging.mqtt.password", "geheim")


def said(run: Run, *options: str) -> list[str]:
    result = run(*SETUP, *options)
    assert result.exit_code == 0, result.stderr
    assert "geheim" not in result.output
    return [line for line in result.stderr.splitlines() if "without encryption" in line]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ((*HTTP, "http://example.org/in"), "messaging.http.token goes to example.org"),
        ((*MQTT, "--messaging.mqtt.host", "hub"), "messaging.mqtt.password goes to hub"),
        (("--broker", "redis://:geheim@hub:6379/0"), "broker_url goes to hub"),
    ],
)
def test_setup_says_what_anyone_in_between_can_read(
    run: Run, home: Path, options: tuple[str, ...], word: str
) -> None:
    (line,) = said(run, *options)

    assert word in line
    notes = [note for one in data_of(run("check", "--json"))["checks"] for note in one["notes"]]
    assert any(word in note for note in notes)


@pytest.mark.parametrize(
    "options",
    [
        (*HTTP, "https://example.org/in"),
        (*HTTP, "http://127.0.0.1:8000/in"),
        ("--messaging.http.base_url", "http://example.org/in"),
        (*MQTT, "--messaging.mqtt.host", "hub", "--messaging.mqtt.use_tls"),
        (*MQTT, "--messaging.mqtt.host", "localhost"),
        ("--broker", "redis://hub:6379/0"),
    ],
)
def test_nothing_is_said_of_what_nobody_can_read(
    run: Run, home: Path, options: tuple[str, ...]
) -> None:
    assert said(run, *options) == []


def test_every_address_with_a_login_counts() -> None:
    data = {"a": [{"url": "http://me:secret@example.org/"}, {"url": "https://me:x@example.org/"}]}

    assert list(plain_credentials(data)) == [("a.0.url", "example.org")]
    assert list(plain_credentials({"url": "http://[broken"})) == []
