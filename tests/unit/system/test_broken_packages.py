"""Packages that bring a part of a sensor that cannot be used: named at setup, and no harm later."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.config.sensor import check_sensor, load_sensor, sensor_schema
from acoupi.errors import AcoupiError
from acoupi.services.construction import load_program
from acoupi.stack.extra_services import extra_service_names
from acoupi.stack.loading import load_program_class
from acoupi.system import Settings, setup_program, target_for
from acoupi.targets import find_target
from tests.packages import install

SECTION = '''
from pydantic import BaseModel
class Part(BaseModel):
    """A part."""
    level: int = 3
def service(settings):
    from acoupi.stack.extra_services import extra_service
    return extra_service(settings, "part", __name__)
'''
GROUPS = ("acoupi.programs", "acoupi.targets", "acoupi.services", "acoupi.sensor")


@pytest.fixture(autouse=True)
def _no_sections_are_remembered() -> Iterator[None]:
    sensor_schema.cache_clear()
    yield
    sensor_schema.cache_clear()


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


def set_up(settings: Settings, program: str = "demo", *options: str) -> None:
    setup_program(settings, program, list(options), target="process", environ={})


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nothing_like_it", "nothing_like_it"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise RuntimeError('not on\\n this machine')", "not on this machine"),
        ("", "Part"),
    ],
)
def test_setup_names_what_cannot_be_imported(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    group: str,
    text: str,
    why: str,
) -> None:
    module = f"broken_{abs(hash((group, text)))}"
    places = {group: {"pigeon": f"{module}:Part"}}
    install(monkeypatch, tmp_path / "package", places, {f"{module}.py": text})

    with pytest.raises(AcoupiError) as caught:
        set_up(settings, "pigeon" if group == "acoupi.programs" else "demo")

    assert len(caught.value.lines()) == 3
    assert "pigeon" in caught.value.lines()[0]
    assert why in caught.value.lines()[1]
    assert not settings.home.exists()


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("acoupi.programs", "demo"),
        ("acoupi.targets", "process"),
        ("acoupi.sensor", "web"),
        ("acoupi.programs", "pigeon"),
        ("acoupi.targets", "pigeon"),
        ("acoupi.sensor", "pigeon"),
        ("acoupi.services", "pigeon"),
    ],
)
def test_setup_names_what_has_the_name_of_another(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, name: str
) -> None:
    """Of two packages, or of one and acoupi; nobody would know which one runs."""
    module = f"twice_{group[7:]}_{name}"
    for number in range(1 if name != "pigeon" else 2):
        own = f"{module}_{number}"
        places = {group: {name: f"{own}:{'service' if group == 'acoupi.services' else 'Part'}"}}
        package = f"acoupi-{own.replace('_', '-')}"
        install(monkeypatch, tmp_path / own, places, {f"{own}.py": SECTION}, name=package)

    with pytest.raises(AcoupiError) as caught:
        set_up(settings, name if group == "acoupi.programs" else "demo")

    assert len(caught.value.lines()) == 3
    assert (name if group != "acoupi.services" else "part") in caught.value.lines()[0]
    assert "two" in str(caught.value) or "another section has that name" in str(caught.value.why)
    assert not settings.home.exists()


def test_one_that_breaks_later_takes_nothing_else_with_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody upgrades a package: the recorder goes on, and the sensor can be stopped."""
    places = {
        "acoupi.sensor": {"part": "breaks_later:Part"},
        "acoupi.services": {"part": "breaks_later:service"},
    }
    folder = install(monkeypatch, tmp_path / "one", places, {"breaks_later.py": SECTION})
    options = ("--sensor.part.level", "7", "--sensor.recorder.microphone_patience", "600")
    set_up(settings, "demo", *options)
    assert load_sensor(settings).part.level == 7

    for text in ("raise RuntimeError", SECTION.replace("level", "height")):
        (folder / "breaks_later.py").write_text(text)
        sys.modules.pop("breaks_later", None)
        importlib.invalidate_caches()
        sensor_schema.cache_clear()

        sensor = load_sensor(settings)
        assert sensor.recorder.microphone_patience == 600
        assert not hasattr(sensor, "part"), "it is not taken for one with the usual settings"
        assert extra_service_names(settings) == ["part"], "it is known to be missing"
        assert [one.state for one in target_for(settings).status()] == ["stopped"] * 5
        load_program(settings)
        with pytest.raises(AcoupiError, match="part"):
            check_sensor(settings)


@pytest.mark.parametrize("group", ["acoupi.programs", "acoupi.targets"])
def test_what_others_have_twice_does_not_matter_to_a_sensor_that_runs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    set_up(settings)
    for number in range(2):
        places = {group: {"pigeon": f"nobody_{number}:Part", "demo": f"nobody_{number}:Part"}}
        install(monkeypatch, tmp_path / f"{number}", places, name=f"acoupi-nobody-{number}")

    assert load_program_class("demo").__module__ == "acoupi.programs.demo"
    assert find_target("process").name == "process"
    assert target_for(settings).name == "process"
