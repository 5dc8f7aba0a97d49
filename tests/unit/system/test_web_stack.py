"""The page as a service: what it sees, and its effect on the worker behind its door."""

from pathlib import Path
from typing import Any

import pytest

from acoupi.config.web import Web
from acoupi.errors import ConfigurationError
from acoupi.programs.core.workers import AcoupiWorker, WorkerConfig
from acoupi.programs.demo import Program
from acoupi.stack.doors import door_roles
from acoupi.stack.mounting import writes_only_its_own
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Port, Stack, stack_for
from acoupi.stack.web import check_reach, with_web

QUEUES = {"recording": ["recording"], "detection": ["detection"], "default": ["celery"]}
ON = Web(enabled=True)


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


def stack_of(settings: Settings, *names: str) -> Stack:
    class Parted(Program):
        worker_config = WorkerConfig(
            workers=[AcoupiWorker(name=one, queues=QUEUES[one]) for one in names]
        )

    config: Any = Program.get_config_schema()()
    return stack_for(Parted, config, settings, queues=["recording", "detection", "celery"])


def seen(stack: Stack, service: str, settings: Settings) -> dict[str, str]:
    return {
        str(one.source.relative_to(settings.home)): "read" if one.read_only else "write"
        for one in stack.service(service).mounts
    }


def test_off_it_changes_nothing(settings: Settings) -> None:
    stack = stack_of(settings, *QUEUES)

    assert with_web(stack, settings, Web()) is stack


def test_the_page_sees_no_store_and_no_recording(settings: Settings) -> None:
    stack = with_web(stack_of(settings, *QUEUES), settings, ON)
    service = stack.service("web")

    assert seen(stack, "web", settings) == {
        "config": "read",
        "log/web": "write",
        "run/web": "write",
        "run/door/web": "read",
        "waiting/web": "write",
        "run/live/recording": "read",
        "run/live/web": "write",
    }
    assert (service.devices, service.groups, service.secrets, service.network) == (
        (), (), False, False,
    )  # fmt: skip
    assert service.port == Port(8080, "127.0.0.1")
    assert writes_only_its_own(settings, "web", service.mounts), "so it can have a user of its own"


def test_only_who_answers_the_page_writes_the_configuration(settings: Settings) -> None:
    before = stack_of(settings, *QUEUES)
    stack = with_web(before, settings, ON)

    assert {one.name: seen(stack, one.name, settings)["config"] for one in stack.services} == {
        "recording": "read", "detection": "read", "default": "write", "beat": "read", "web": "read",
    }  # fmt: skip
    more = seen(stack, "default", settings).items() - seen(before, "default", settings).items()
    assert dict(more) == {
        "config": "write",
        "run/door/web": "write",
        "waiting/web": "write",
        **{f"{kind}/{name}": "read" for kind in ("log", "run")
           for name in ("recording", "detection", "beat")},
    }  # fmt: skip
    assert door_roles(stack) == {"detection": "model", "web": "web"}


def test_without_who_could_answer_there_is_no_page(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="page cannot be served"):
        with_web(stack_of(settings, "recording", "detection"), settings, ON)


@pytest.mark.parametrize(
    ("host", "has_keys", "is_refused"),
    [
        ("127.0.0.1", False, False),
        ("::1", False, False),
        ("0.0.0.0", False, True),
        ("192.168.1.4", False, True),
        ("0.0.0.0", True, False),
    ],
)
def test_an_address_open_to_the_world_needs_a_password(
    host: str, has_keys: bool, is_refused: bool
) -> None:
    def check(web: Web) -> bool:
        try:
            check_reach(web, has_keys=has_keys)
        except ConfigurationError as error:
            return error.help is not None and error.help.startswith("acoupi web token")
        return False

    assert check(Web(enabled=True, host=host)) is is_refused
    assert not check(Web(enabled=False, host=host))


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "everywhere"},
        {"port": 0},
        {"path_prefix": "oak"},
        {"path_prefix": "/oak/"},
        {"path_prefix": "/../x"},
        {"trusted_proxy": "*"},
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="for Web"):
        Web(**fields)
