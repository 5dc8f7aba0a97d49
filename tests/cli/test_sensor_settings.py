"""Settings of the sensor itself, not of its program: one file, and all the ways into it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acoupi.config import Question
from acoupi.config.sensor import load_sensor, sensor_schema, setting_trees
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.stack.loading import load_program_class
from acoupi.system import Settings, setup_program
from tests.cli.support import Run, data_of, lines_of

PAGE = '''
"""A package that has settings of its own."""

from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from acoupi.programs.core import NoUserPrompt


class Page(BaseModel):
    """A page that shows what was heard."""

    port: int = Field(default=8080, gt=0, description="Where it listens.")
    title: str = "Sensor"
    password: SecretStr | None = None
    workers: Annotated[int, NoUserPrompt] = 1


class Needs(BaseModel):
    token: str


class Odd(BaseModel):
    lists: list[list[int]] = []


NUMBER = 1
'''


class Package:
    """A package of its own, installed as pip does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "acoupi_page.py").write_text(PAGE)
        self.info = folder / "acoupi_page-1.0.dist-info"
        self.info.mkdir()
        (self.info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: acoupi-page\nVersion: 1\n"
        )

    def install(self, section: str = "page = acoupi_page:Page") -> None:
        (self.info / "entry_points.txt").write_text(f"[acoupi.sensor]\n{section}\n")
        sensor_schema.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield Package(folder)
    sys.modules.pop("acoupi_page", None)
    sensor_schema.cache_clear()


def written(home: Path) -> Any:
    return json.loads((home / "config" / "sensor.json").read_text())


# ---- without anything said


def test_there_is_no_file_until_something_is_not_as_usual(run: Run, sensor: Path) -> None:
    assert not (sensor / "config" / "sensor.json").exists()
    assert load_sensor(Settings(home=sensor)).recorder.microphone_patience is None
    assert "sensor" not in data_of(run("config", "get"))

    run("config", "set", "sensor.recorder.microphone_patience", "30")
    assert written(sensor) == {"recorder": {"microphone_patience": 30}}

    run("config", "set", "sensor.recorder.microphone_patience", "none")
    assert written(sensor) == {}


# ---- the ways in


def test_options_variables_and_a_file_come_together(
    run: Run, home: Path, tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.install()
    file = tmp_path / "given.yaml"
    file.write_text("recording: {duration: 5}\nsensor:\n  page: {port: 1, title: file}\n")
    monkeypatch.setenv("ACOUPI_SENSOR__PAGE__TITLE", "variable")

    result = run(
        *("setup", "--program", "default", "--target", "process", "--config", str(file)),
        *("--sensor.recorder.microphone_patience=60", "--recording.interval", "50"),
    )

    assert result.exit_code == 0, result.stderr
    page = {"port": 1, "title": "variable"}
    assert written(home) == {"page": page, "recorder": {"microphone_patience": 60}}
    assert data_of(run("config", "get", "recording"))["duration"] == 5
    monkeypatch.delenv("ACOUPI_SENSOR__PAGE__TITLE")
    run("setup", "--sensor.page.port", "2")
    assert data_of(run("config", "get", "sensor.page"))["title"] == "variable"
    assert data_of(run("config", "get"))["sensor"]["page"] == {"port": 2, "title": "variable"}


def test_a_secret_is_kept_apart_under_its_own_name(
    run: Run, sensor: Path, package: Package
) -> None:
    package.install()

    result = run("config", "set", "sensor.page.password", "hunter2")

    assert result.exit_code == 0, result.stderr
    secret = "ACOUPI_SENSOR__PAGE__PASSWORD"
    assert written(sensor)["page"]["password"] == {"$secret": secret}
    assert f"{secret}=hunter2" in (sensor / "config" / "secrets.env").read_text()
    assert load_sensor(Settings(home=sensor)).page.password.get_secret_value() == "hunter2"
    assert "hunter2" not in run("config", "get").stdout


def test_setup_asks_for_what_is_to_be_asked(home: Path, package: Package) -> None:
    package.install()
    asked: list[str] = []

    def ask(question: Question) -> Any:
        asked.append(question.name)
        answers = {"sensor.page": True, "sensor.page.port": "81"}
        return answers.get(question.name, question.default)

    setup_program(Settings(home=home), "test", [], True, ask=ask, environ={})

    assert [name for name in asked if name.startswith("sensor")] == [
        *("sensor.page", "sensor.page.port", "sensor.page.title", "sensor.page.password")
    ]
    assert written(home) == {"page": {"port": 81}}


def test_all_settings_are_listed_with_those_of_the_program(run: Run, sensor: Path) -> None:
    listed = run("config", "schema").stdout

    assert "--sensor.recorder.microphone_patience" in listed
    assert "--recording.duration" in listed


def test_the_settings_of_a_section_are_listed_alone(run: Run, sensor: Path) -> None:
    listed = run("config", "schema", "recording").stdout
    alone = run("config", "schema", "recording.duration").stdout
    unknown = run("config", "schema", "record")

    assert "--recording.duration" in listed
    assert "--microphone" not in listed
    assert "--recording_saving" not in listed
    assert "--recording.duration" in alone
    assert "--recording.interval" not in alone
    assert unknown.exit_code == 2
    assert "microphone, recording," in unknown.stderr


def test_what_get_prints_can_be_set_again(run: Run, sensor: Path) -> None:
    run("config", "set", "sensor.recorder.microphone_patience", "30")
    document = run("config", "get").stdout
    run("config", "set", "sensor.recorder.microphone_patience", "9")

    assert run("config", "set", document).exit_code == 0
    assert run("config", "get").stdout == document


# ---- what is wrong


@pytest.mark.parametrize(
    ("args", "named", "why", "advice"),
    [
        (
            ["--sensor.recorder.microphone_patience", "0"],
            '--sensor.recorder.microphone_patience cannot be "0"',
            "greater than 0",
            "--sensor.recorder.microphone_patience VALUE",
        ),
        (
            ["--sensor.recorder.microphone_patienc", "1"],
            "--sensor.recorder.microphone_patienc",
            "the settings of sensor.recorder are microphone_patience",
            "--sensor.recorder.microphone_patience",
        ),
        (
            ["--sensor.x", "1"],
            "--sensor.x",
            "the settings of sensor are alarms, analysis, backlog, clips, disk, hub, metrics",
            "config schema",
        ),
    ],
)
def test_a_wrong_option_is_named_in_full(
    run: Run, home: Path, args: list[str], named: str, why: str, advice: str
) -> None:
    result = run("setup", "--program", "default", *args)

    assert result.exit_code == 2
    lines = lines_of(result)
    assert named in lines[0]
    assert why in lines[1]
    assert advice in lines[2]
    assert not home.exists()


@pytest.mark.parametrize("text", ['{"hub": {"zzz": 4}}', '{"hub": "x"}'])
def test_what_is_wrong_with_a_section_is_told_with_the_command_that_lists_it(
    run: Run, sensor: Path, text: str
) -> None:
    (sensor / "config" / "sensor.json").write_text(text)

    lines = lines_of(run("config", "get"))

    assert "sensor.hub" in lines[0]
    assert lines[2] == "  Try: acoupi config schema sensor.hub"
    assert run(*lines[2].split()[2:]).exit_code == 0


def test_a_section_that_lacks_a_setting_is_told_with_the_command_that_sets_it(
    run: Run, sensor: Path
) -> None:
    setting = ("config", "set", "sensor.hub.url", "https://hub.example.org")
    lines = lines_of(run(*setting))

    assert lines[0] == "Error: sensor.hub.token is missing."
    assert "a hub needs a token" in lines[1]
    assert lines[2] == "  Try: acoupi config set sensor.hub.token VALUE"
    assert run(*lines[2].removeprefix("  Try: acoupi ").split()).exit_code == 0
    assert run(*setting).exit_code == 0


@pytest.mark.parametrize("name", ["messaging.hub.url", "hub.url", "connected.messaging.hub.url"])
def test_a_setting_of_the_sensor_that_is_sought_in_the_program_is_named(
    run: Run, sensor: Path, name: str
) -> None:
    for words in (["set", name, "https://hub.example.org"], ["get", name]):
        lines = lines_of(run("config", *words))

        assert f'there is no setting "{name}"' in lines[0]
        assert "not of the program" in lines[1]
        assert lines[2] == "  Try: sensor.hub.url"


@pytest.mark.parametrize("option", ["--messaging.hub.url", "--hub.url=a", "--hub.ca-certificate"])
def test_an_option_of_the_sensor_that_is_given_to_the_program_is_named(
    run: Run, target: object, home: Path, option: str
) -> None:
    result = run("setup", "--program", "connected", "--target", "fake", "--no-prompt", option, "a")

    lines = lines_of(result)
    assert "not of the program" in lines[1]
    last = option.partition("hub")[2].partition("=")[0].replace("-", "_")
    assert lines[2] == f"  Try: --sensor.hub{last}"
    assert not (home / "config").exists()


def test_a_name_that_the_program_has_elsewhere_is_still_taken_for_that(
    run: Run, sensor: Path
) -> None:
    lines = lines_of(run("config", "set", "messaging.url", "https://hub.example.org"))

    assert "sensor" not in lines[2]


def test_a_wrong_line_in_a_file_is_named(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "given.json"
    file.write_text('{"sensor": {"recorder": {"microphone_patience": -1}}}')

    lines = lines_of(run("setup", "--program", "default", "--config", str(file)))

    assert f'"sensor.recorder.microphone_patience" in {file}' in lines[0]

    file.write_text('{"sensor": 5}')
    lines = lines_of(run("setup", "--program", "default", "--config", str(file)))
    assert f'"sensor" in {file} is not a section' in lines[0]


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("recorder = acoupi_page:Page", "another section has that name"),
        ("page.x = acoupi_page:Page", "that is not a name"),
        ("page = acoupi_page:Nothing", "AttributeError"),
        ("page = acoupi_nothing:Page", "ModuleNotFoundError"),
        ("page = acoupi_page:NUMBER", "it is not a pydantic model"),
        ("page = acoupi_page:Needs", "token has no default"),
        ("page = acoupi_page:Odd", "lists is list[list[int]]"),
    ],
)
def test_a_package_that_cannot_be_used_is_named_at_setup(
    home: Path, package: Package, section: str, why: str
) -> None:
    package.install(section)

    with pytest.raises(ConfigurationError) as caught:
        setup_program(Settings(home=home), "test", [], environ={})

    assert section in caught.value.message
    assert why in (caught.value.why or "")
    assert len(caught.value.lines()) == 3
    assert not home.exists()


def test_settings_of_a_package_that_is_gone_keep_nothing_from_starting(
    run: Run, sensor: Path, package: Package
) -> None:
    package.install()
    run("config", "set", "sensor.page.port", "9")
    package.install("")

    assert load_sensor(Settings(home=sensor)).recorder.microphone_patience is None

    (sensor / "config" / "sensor.json").write_text('{"recorder": {"patience": 1}}')
    with pytest.raises(AcoupiError, match=r"sensor\.recorder\.patience"):
        load_sensor(Settings(home=sensor))


def test_settings_of_a_package_that_is_gone_are_kept_until_it_is_back(
    run: Run, sensor: Path, package: Package
) -> None:
    package.install()
    run("config", "set", "sensor.page.password", "hunter2")
    package.install("")

    run("config", "set", "sensor.recorder.microphone_patience", "30")
    assert run("setup", "--no-prompt").exit_code == 0
    assert 'reads the section "page"' in run("check").stderr

    package.install()
    assert load_sensor(Settings(home=sensor)).page.password.get_secret_value() == "hunter2"
    assert load_sensor(Settings(home=sensor)).recorder.microphone_patience == 30
    assert "reads the section" not in run("check").stderr


def test_a_misspelt_section_is_kept_and_named(run: Run, sensor: Path) -> None:
    (sensor / "config" / "sensor.json").write_text('{"dsik": {"high_percent": 70}}')

    result = run("check")
    run("setup", "--no-prompt")

    assert 'reads the section "dsik"' in result.stderr
    assert '(there is "disk")' in result.stderr
    assert written(sensor) == {"dsik": {"high_percent": 70}}


# ---- a program that has a section of that name

OWN = """
from pydantic import BaseModel
from acoupi.programs import AcoupiProgram

class Section(BaseModel):
    height: int = 1

class Config(BaseModel):
    sensor: Section = Section()

class Program(AcoupiProgram[Config]):
    config_schema = Config
    def setup(self, config):
        pass
"""


def test_a_programs_own_section_of_that_name_stays_its_own(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with_sensor.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("ACOUPI_SENSOR__RECORDER__MICROPHONE_PATIENCE", "3")

    run("setup", "--program", "with_sensor", "--target", "process", "--sensor.height", "2")
    run("config", "set", "sensor.height", "4")

    assert data_of(run("config", "get")) == {"sensor": {"height": 4}}
    assert written(home) == {"recorder": {"microphone_patience": 3}}
    assert len(setting_trees(load_program_class("with_sensor").get_config_schema())) == 1
    sys.modules.pop("with_sensor")


COUNTED = """
import collections, json, os, sys
home, counts = os.environ["ACOUPI_HOME"], collections.Counter()
def count(event, args):
    if event == "open" and isinstance(args[0], str) and args[0].startswith(home):
        counts[os.path.relpath(args[0], home)] += 1
sys.addaudithook(count)
from acoupi.cli import main
try:
    main()
finally:
    print(json.dumps(counts), file=sys.stderr)
"""


def test_the_state_of_a_sensor_is_told_without_reading_its_settings_again_and_again(
    home: Path,
) -> None:
    setup_program(Settings(home=home), "default", ["--sensor.clips.enabled"], environ={})
    command = [sys.executable, "-c", COUNTED, "status"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    reads = json.loads(done.stderr.splitlines()[-1])
    assert "recording" in done.stdout
    # Its answers as they stand, validated, and looked through for damage.
    assert reads["config/program.json"] <= 3
    assert reads["config/sensor.json"] <= 2
    assert reads[".generated.json"] <= 3
