"""Services that wait for a home to be set up, and notice when it is set up anew."""

from pathlib import Path

import pytest

from acoupi.errors import NotConfiguredError
from acoupi.provisioning.apply import provision
from acoupi.services.waiting import Watch, await_home
from acoupi.system import Settings, setup_program

WAITING = {"ACOUPI_PROGRAM": "default", "ACOUPI_SETUP_PATIENCE": "0.1"}


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


def test_a_home_that_does_not_set_itself_up_is_not_waited_for(settings: Settings) -> None:
    assert await_home(settings, "beat", environ={}) is None


def test_a_home_that_a_person_set_up_stays_as_it_is(settings: Settings) -> None:
    setup_program(settings, "default", ["--recording.duration", "7"], environ={})
    before = settings.program_config_file.read_text()

    assert await_home(settings, "recording", environ={"ACOUPI_PROGRAM": "connected"}) is None

    assert settings.program_config_file.read_text() == before
    assert settings.program_name_file.read_text() == "default\n"


def test_who_waits_in_vain_says_for_what(settings: Settings) -> None:
    with pytest.raises(NotConfiguredError) as caught:
        await_home(settings, "beat", environ=dict(WAITING))

    assert f"{settings.home / 'config'} to be set up" in (caught.value.why or "")


def test_who_waits_in_vain_says_what_is_wrong_with_the_sources(settings: Settings) -> None:
    provision(settings, {"ACOUPI_PROGRAM": "defualt"})

    with pytest.raises(NotConfiguredError) as caught:
        await_home(settings, "beat", environ=dict(WAITING))

    assert "defualt" in (caught.value.why or "")


def test_the_password_of_the_broker_is_waited_for(settings: Settings, tmp_path: Path) -> None:
    provision(settings, {"ACOUPI_PROGRAM": "default"})
    password = tmp_path / "password"
    environ = {**WAITING, "ACOUPI_BROKER_PASSWORD_FILE": str(password)}

    with pytest.raises(NotConfiguredError) as caught:
        await_home(settings, "beat", environ=environ)
    assert str(password) in (caught.value.why or "")

    password.write_text("geheim")
    assert await_home(settings, "beat", environ=environ) is not None


def test_settings_of_the_environment_do_not_reach_the_program(settings: Settings) -> None:
    provision(settings, {"ACOUPI_PROGRAM": "default"})
    environ = {**WAITING, "ACOUPI_CONFIG__RECORDING__DURATION": "x", "ACOUPI_LOG_LEVEL": "INFO"}

    await_home(settings, "beat", environ=environ)

    assert set(environ) == {*WAITING, "ACOUPI_LOG_LEVEL"}


def test_a_watch_notices_another_configuration_and_nothing_else(settings: Settings) -> None:
    provision(settings, {"ACOUPI_PROGRAM": "default"})
    watch = await_home(settings, "beat", environ=dict(WAITING))
    assert watch is not None

    provision(settings, {"ACOUPI_PROGRAM": "defualt"})
    assert watch.changed() is None
    provision(settings, {"ACOUPI_PROGRAM": "default", "ACOUPI_DEVICE_ID": "bats-07"})

    assert "configuration 2 is in force" in (watch.changed() or "")


def test_a_watch_notices_what_changed_before_it_began(settings: Settings) -> None:
    known, _ = provision(settings, {"ACOUPI_PROGRAM": "default"})
    provision(settings, {"ACOUPI_PROGRAM": "default", "ACOUPI_DEVICE_ID": "bats-07"})

    watch = Watch(settings.program_config_file.parent, known)

    assert "configuration 2 is in force" in (watch.changed() or "")


TOKEN = "ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN"
OF_SETUP = {
    "ACOUPI_PROGRAM": "connected",
    "ACOUPI_CONFIG__MESSAGING__HTTP__BASE_URL": "https://example.org",
    TOKEN: "geheim",
}


@pytest.mark.parametrize("program", ["connected", ""], ids=["of a fleet", "of a home"])
def test_a_secret_in_the_environment_of_who_needs_none_is_dropped_and_said(
    settings: Settings, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    provision(settings, OF_SETUP)
    environ = {"ACOUPI_PROGRAM": program, "ACOUPI_SECRETS": "withheld", TOKEN: "geheim"}

    await_home(settings, "recording", environ=environ)

    assert TOKEN not in environ
    assert f"{TOKEN} is a secret in the environment of recording" in caplog.text
    assert "geheim" not in caplog.text


def test_who_is_given_secrets_keeps_them_in_a_home_of_a_person(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {TOKEN: "geheim"}

    await_home(settings, "default", environ=environ)

    assert environ == {TOKEN: "geheim"}
    assert caplog.text == ""
