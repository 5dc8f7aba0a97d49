"""Finding programs, and saying what is wrong with them."""

import logging

import pytest

from acoupi.errors import InvalidProgramError, NotConfiguredError, ProgramNotFoundError
from acoupi.stack.configured import read_program_name, read_steadily
from acoupi.stack.loading import available_programs, load_config_schema
from acoupi.system import Settings, load_program, load_program_class, setup_program
from tests.unit.system.conftest import WriteModule

HEAD = """
from pydantic import BaseModel
from acoupi.programs import AcoupiProgram

class Config(BaseModel):
    site: str = "heath"

"""


def program(name: str, base: str = "AcoupiProgram") -> str:
    return f"class {name}({base}):\n    config_schema = Config\n"


def test_a_program_is_found_by_its_module(program_name: str) -> None:
    assert load_program_class(program_name).__name__ == "Program"


def test_a_program_is_found_by_its_installed_name() -> None:
    assert load_program_class("test").__module__ == "acoupi.programs.test"
    assert list(available_programs()) == sorted(available_programs())


def test_a_class_can_be_named(write_module: WriteModule) -> None:
    name = write_module("two_programs", HEAD + program("First") + program("Second"))

    assert load_program_class(f"{name}:First").__name__ == "First"


@pytest.mark.parametrize("name", ["no.such.module", "nothing", "a b", "", "x/y", "..", ":Program"])
def test_a_program_that_does_not_exist_is_said_not_to(name: str) -> None:
    with pytest.raises(ProgramNotFoundError) as caught:
        load_program_class(name)

    assert caught.value.lines()[0] == f'Error: cannot find the program "{name}".'
    assert len(caught.value.lines()) == 3


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(ProgramNotFoundError) as caught:
        load_program_class("defalt")

    assert caught.value.help == "acoupi setup --program default"


def test_a_missing_dependency_is_named_with_how_to_install_it(write_module: WriteModule) -> None:
    name = write_module("needy_program", "import tensorflow_of_dreams.lite\n")

    with pytest.raises(ProgramNotFoundError) as caught:
        load_program_class(name)

    assert 'needs "tensorflow_of_dreams"' in (caught.value.why or "")
    assert caught.value.help == "python -m pip install tensorflow_of_dreams"


@pytest.mark.parametrize("text", ["1 / 0", "def broken(:", "raise RuntimeError('no device')"])
def test_a_program_whose_import_fails_says_how(write_module: WriteModule, text: str) -> None:
    name = write_module("failing_program", text)

    with pytest.raises(ProgramNotFoundError, match="cannot load") as caught:
        load_program_class(name)

    assert "importing it failed" in (caught.value.why or "")


def test_a_module_without_a_program_is_said_to_have_none(write_module: WriteModule) -> None:
    name = write_module("plain_module", HEAD)

    with pytest.raises(InvalidProgramError) as caught:
        load_program_class(name)

    assert "holds no such class" in (caught.value.why or "")


def test_a_class_that_is_no_program_is_refused(program_name: str) -> None:
    with pytest.raises(InvalidProgramError) as caught:
        load_program_class(f"{program_name}:Config")

    assert "its programs are: Program" in (caught.value.why or "")


def test_the_most_derived_program_is_taken_even_under_the_name_of_its_base(
    write_module: WriteModule,
) -> None:
    write_module("template_program", HEAD + program("Program"))
    name = write_module(
        "derived_program",
        HEAD + "import template_program\n" + program("Program", "template_program.Program"),
    )

    assert load_program_class(name).__module__ == name


def test_of_several_programs_one_is_taken_and_that_is_told(
    write_module: WriteModule, caplog: pytest.LogCaptureFixture
) -> None:
    name = write_module("three_programs", HEAD + program("Program") + program("A") + program("B"))

    with caplog.at_level(logging.WARNING):
        chosen = load_program_class(name)

    assert chosen.__name__ == "Program"
    assert "Program, A, B" in caplog.text
    assert f"{name}:NAME" in caplog.text


def test_an_unfinished_program_says_what_is_missing(write_module: WriteModule) -> None:
    name = write_module(
        "unfinished_program",
        HEAD
        + "from abc import abstractmethod\n"
        + program("Program")
        + "    @abstractmethod\n    def configure_model(self, config): ...\n",
    )

    with pytest.raises(InvalidProgramError, match="not finished") as caught:
        load_program_class(name)

    assert "configure_model" in (caught.value.why or "")


def test_a_program_that_a_package_imports_is_found(write_module: WriteModule) -> None:
    write_module("real_program", HEAD + program("Sensor"))
    name = write_module("front_door", "from real_program import Sensor\n")

    assert load_program_class(name).__name__ == "Sensor"


def test_a_task_on_a_queue_that_nobody_listens_to_is_refused(
    write_module: WriteModule, settings: Settings
) -> None:
    name = write_module(
        "lost_task",
        HEAD
        + "from acoupi.programs import DEFAULT_WORKER_CONFIG\n"
        + program("Program")
        + "    worker_config = DEFAULT_WORKER_CONFIG\n"
        + "    def setup(self, config):\n"
        + "        self.add_task(print, schedule=1, queue='nowhere', name='lost')\n",
    )

    with pytest.raises(InvalidProgramError, match="cannot be set up") as caught:
        setup_program(settings, name)

    assert "nowhere" in (caught.value.why or "")
    assert not settings.home.exists()


def test_without_a_setup_there_is_no_program(settings: Settings) -> None:
    with pytest.raises(NotConfiguredError) as caught:
        load_program(settings)

    assert len(caught.value.lines()) == 3


def test_a_configured_program_is_built_with_its_configuration(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name, ["--site", "moor"])

    assert load_program(settings).config.site == "moor"
    assert load_config_schema(settings).__name__ == "Config"


def test_a_setup_in_the_middle_of_a_reading_is_noticed(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name)
    names: list[str] = []

    def read() -> tuple[str, str]:
        names.append(read_program_name(settings))
        if len(names) == 1:
            setup_program(settings, "default", environ={})
        return names[-1], settings.program_config_file.read_text()

    name, config = read_steadily(settings, read)

    assert names == [program_name, "default"]
    assert name == "default"
    assert '"recording"' in config


def test_a_reading_that_fails_between_two_setups_is_repeated(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name)
    readings: list[int] = []

    def read() -> str:
        readings.append(len(readings))
        if len(readings) == 1:
            setup_program(settings, "default", environ={})
            raise InvalidProgramError(program_name)
        return read_program_name(settings)

    assert read_steadily(settings, read) == "default"
    with pytest.raises(InvalidProgramError):
        read_steadily(settings, lambda: load_program_class("typing").__name__)
