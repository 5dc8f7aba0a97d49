"""``acoupi setup --web``, and ``acoupi web``."""

import json
import sys
from pathlib import Path

import pytest

from acoupi.config.page_keys import read_keys
from acoupi.config.sensor import load_sensor
from acoupi.stack.web import keys_file
from acoupi.system import Settings
from tests.cli.support import Run, lines_of


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


def test_the_page_is_off_until_it_is_asked_for(run: Run, settings: Settings) -> None:
    assert run("setup", "--program", "default", "--no-prompt").exit_code == 0
    assert not settings.sensor_config_file.exists()

    assert run("setup", "--web", "--no-prompt").exit_code == 0
    assert load_sensor(settings).web.enabled
    names = [one["name"] for one in json.loads(settings.manifest_file.read_text())["services"]]
    assert "web" in names

    assert run("setup", "--no-prompt").exit_code == 0
    assert load_sensor(settings).web.enabled, "a later setup keeps it"
    assert run("setup", "--no-web", "--no-prompt").exit_code == 0
    assert not load_sensor(settings).web.enabled


def test_a_page_open_to_the_world_is_refused_until_somebody_can_log_in(
    run: Run, settings: Settings
) -> None:
    run("setup", "--program", "default", "--no-prompt", "--web")
    before = settings.sensor_config_file.read_text()
    open_to_all = ("setup", "--no-prompt", "--sensor.web.host", "0.0.0.0")

    refused = run(*open_to_all)

    assert refused.exit_code == 2
    assert lines_of(refused)[0].startswith("Error: the page is not served at 0.0.0.0")
    assert "acoupi web token" in refused.output
    assert settings.sensor_config_file.read_text() == before
    run("web", "token")
    assert run(*open_to_all).exit_code == 0


def test_a_page_whose_libraries_are_missing_is_refused_where_it_would_run(
    run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed

    refused = run("setup", "--program", "default", "--no-prompt", "--web")

    assert refused.exit_code == 2
    assert lines_of(refused) == [
        "Error: the page cannot be served here.",
        "  Why: it needs the library uvicorn, which is not installed.",
        '  Try: pip install "acoupi[web]"',
    ]
    assert not settings.sensor_config_file.exists()
    elsewhere = run("setup", "--program", "default", "--no-prompt", "--web", "--target", "balena")
    assert elsewhere.exit_code == 0, elsewhere.output


def test_a_token_is_printed_once_and_opens_the_page(run: Run, settings: Settings) -> None:
    run("setup", "--program", "default", "--no-prompt", "--web")

    said = run("web", "token")

    token = said.stdout.strip()
    keys = read_keys(keys_file(settings))
    assert keys is not None
    assert keys.key_of(token)
    assert token not in keys_file(settings).read_text()
    assert "http://127.0.0.1:8080/login" in said.stderr
    run("web", "token")
    again = read_keys(keys_file(settings))
    assert again is not None
    assert again.key_of(token) is None, "the one before opens nothing any more"
    assert again.mark != keys.mark, "and its sessions have ended"


def test_where_nothing_waits_nothing_is_applied(run: Run) -> None:
    run("setup", "--program", "default", "--no-prompt")

    assert "No changes are waiting" in run("web", "apply").output
