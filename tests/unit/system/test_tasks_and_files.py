"""Running tasks by hand, and the published names for files."""

from pathlib import Path
from uuid import UUID

import pytest

from acoupi import data
from acoupi.errors import ParameterError
from acoupi.home import spool_dir
from acoupi.system import (
    Settings,
    delete_recording,
    get_task_list,
    get_temp_file_id,
    get_temp_files,
    load_program,
    move_recording,
    profile_task,
    run_task,
    setup_program,
)
from acoupi.system.tasks import takes_recording
from tests.unit.system.conftest import WriteModule

ID = "7b0cf52e-0b6b-5d3f-9c59-1a3c0f8d4e11"


@pytest.fixture
def recording(tmp_path: Path) -> data.Recording:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    return data.Recording(
        path=path,
        duration=1,
        samplerate=8000,
        created_on=data.utc_now(),
        deployment=data.Deployment(name="heath"),
    )


@pytest.fixture
def program(settings: Settings, program_name: str) -> object:
    setup_program(settings, program_name)
    return load_program(settings)


def test_tasks_are_listed_without_those_of_celery(program: object) -> None:
    names = ["broken_task", "detection_task", "recording_task", "tidy_task"]

    assert get_task_list(program) == names  # type: ignore[arg-type]
    assert "celery.backend_cleanup" in get_task_list(program, include_celery_tasks=True)  # type: ignore[arg-type]


def test_a_task_runs_here(program: object, recording: data.Recording) -> None:
    assert run_task(program, "tidy_task") == "tidy"  # type: ignore[arg-type]
    assert run_task(program, "detection_task", recording) is recording  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="broken"):
        run_task(program, "broken_task")  # type: ignore[arg-type]


def test_a_task_that_needs_a_recording_says_so(program: object) -> None:
    assert takes_recording(program, "detection_task")  # type: ignore[arg-type]
    assert not takes_recording(program, "tidy_task")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="needs a recording"):
        run_task(program, "detection_task")  # type: ignore[arg-type]


def test_an_unknown_task_gets_the_nearest_name(program: object) -> None:
    with pytest.raises(ParameterError) as caught:
        run_task(program, "tidy")  # type: ignore[arg-type]

    assert caught.value.help == "acoupi task run tidy_task"


def test_a_profile_says_where_the_time_went(program: object) -> None:
    stats = profile_task(program, "tidy_task")  # type: ignore[arg-type]

    assert any("tidy_task" in where[2] for where in stats.stats)  # type: ignore[attr-defined]


def test_recordings_in_the_spool_are_found(home: Path) -> None:
    spool_dir().mkdir(parents=True)
    (spool_dir() / f"20240101_000000_{ID}.wav").touch()
    (spool_dir() / ".hidden.wav").touch()

    (path,) = get_temp_files()

    assert get_temp_file_id(path) == get_temp_file_id(Path(f"{ID}.wav")) == UUID(ID)
    with pytest.raises(ValueError, match="badly formed"):
        get_temp_file_id(Path("no.wav"))


def test_a_recording_is_moved_and_deleted(recording: data.Recording, tmp_path: Path) -> None:
    taken = tmp_path / "kept" / "a.wav"
    taken.parent.mkdir()
    taken.write_bytes(b"another sound")

    moved = move_recording(recording, taken)

    assert moved == tmp_path / "kept" / "a_1.wav"
    assert taken.read_bytes() == b"another sound"
    delete_recording(recording.model_copy(update={"path": moved}))
    assert not moved.exists()


def test_a_recording_without_a_file_is_neither_moved_nor_deleted(
    recording: data.Recording, tmp_path: Path
) -> None:
    gone = recording.model_copy(update={"path": None})

    assert move_recording(gone, tmp_path / "x.wav") is None
    delete_recording(gone)


CALLBACKS = """
from dataclasses import dataclass
from pydantic import BaseModel
from acoupi import data
from acoupi.programs import AcoupiProgram

class Config(BaseModel):
    pass

@dataclass
class Count:
    number: int

def recording_task() -> data.Recording | None: ...
def annotated(sound: data.Recording): ...
def unannotated(thing): ...
def count_task() -> Count: ...
def report(count: Count): ...
def tell(thing): ...

class Program(AcoupiProgram[Config]):
    config_schema = Config

    def setup(self, config):
        self.add_task(recording_task, callbacks=[annotated, unannotated])
        self.add_task(count_task, callbacks=[report, tell])
"""


def test_only_what_processes_recordings_needs_one(
    settings: Settings, write_module: WriteModule
) -> None:
    setup_program(settings, write_module("with_callbacks", CALLBACKS))
    program = load_program(settings)

    needing = [name for name in get_task_list(program) if takes_recording(program, name)]

    assert needing == ["annotated", "unannotated"]
    with pytest.raises(ParameterError, match="cannot be run by hand"):
        run_task(program, "report")
