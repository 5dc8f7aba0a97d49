"""A program tried on recordings: what it finds, keeps and would send, and its speed."""

import resource
import shutil
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import acoupi
from acoupi import data
from acoupi.audio import foreign, formats
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.errors import AcoupiError, AudioError, InvalidProgramError
from acoupi.home import using_home
from acoupi.programs import AcoupiProgram
from acoupi.stack.loading import load_program_class
from acoupi.stack.settings import Settings
from acoupi.system.home_files import configured_path
from acoupi.system.lifecycle import set_up
from acoupi.system.planning import SetupRequest
from acoupi.system.sensor import Sensor
from acoupi.system.tasks import get_task_list, run_task, takes_recording

__all__ = ["Trial", "TriedFile", "microphone_options", "program_trial"]

ACOUPI = Path(acoupi.__path__[0])
MANAGEMENT = "file_management_task"


@dataclass
class TriedFile:
    """What a program did with one recording."""

    path: Path
    """The file that was given."""
    copy: Path | None = None
    """The copy that the program processed; it may have deleted it."""
    recording: data.Recording | None = None
    outputs: list[data.ModelOutput] = field(default_factory=list)
    seconds: float = 0.0
    """Seconds that its tasks took."""
    is_kept: bool | None = None
    """Whether its saving filters keep it; None: the program manages no files, or failed."""
    error: str | None = None
    where: str = ""
    """The program's lines of the traceback."""

    @property
    def speed(self) -> float | None:
        """Seconds of sound analysed per second; None if it was not analysed."""
        if self.recording is None or self.error or not self.seconds:
            return None
        return self.recording.duration / self.seconds


@dataclass
class Trial:
    """A program in a temporary home, which is removed afterwards."""

    program: AcoupiProgram[Any]
    settings: Settings
    files: list[TriedFile] = field(default_factory=list)

    def run(self, paths: Sequence[Path]) -> Iterator[TriedFile]:
        """Run the program on files, one after the other; a failure does not stop the others.

        The files are copied first: the program may move or delete its recordings.
        """
        tasks = [one for one in get_task_list(self.program) if takes_recording(self.program, one)]
        for number, path in enumerate(paths):
            tried = TriedFile(path)
            self.files.append(tried)
            try:
                self._run_on(tried, tasks, number)
            except AudioError as error:
                tried.error = error.message
            except Exception as error:  # noqa: BLE001 - a model may raise anything
                tried.error = f"{type(error).__name__}: {error}"
                tried.where = _own_lines(error)
            yield tried

    def _run_on(self, tried: TriedFile, tasks: Sequence[str], number: int) -> None:
        store = self._store()
        spool = self.settings.home / "data" / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        tried.copy = spool / f"{number:06d}_{tried.path.name}"
        shutil.copyfile(tried.path, tried.copy)
        recording = _described(tried.path).model_copy(update={"path": tried.copy})
        tried.recording = recording
        store.store_recording(recording)
        for task in tasks:
            began = data.monotonic()
            run_task(self.program, task, recording)
            tried.seconds += data.monotonic() - began
        tried.outputs = store.get_recording_model_outputs(recording)

    def decide(self) -> None:
        """Let the program keep or delete the recordings, and note the result."""
        if MANAGEMENT not in get_task_list(self.program):
            return
        run_task(self.program, MANAGEMENT)
        done = [one for one in self.files if one.error is None and one.recording is not None]
        found = self._store().get_recordings([one.recording.id for one in done if one.recording])
        paths = {recording.id: recording.path for recording, *_ in found}
        for one in done:
            assert one.recording is not None
            place = paths.get(one.recording.id)
            one.is_kept = place is not None and place.exists()

    def messages(self) -> list[data.Message]:
        """Return the messages that the program would send."""
        path = configured_path(self.settings, "messaging.messages_db")
        if path is None:
            return []
        store = SqliteMessageStore(path)
        try:
            return list(store.get_unsent_messages())
        finally:
            store.close()

    @property
    def memory(self) -> int:
        """The most memory that this process has used, bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def _store(self) -> Any:
        store = getattr(self.program, "store", None)
        if store is None:
            raise InvalidProgramError(
                type(self.program).__name__,
                "this program cannot be tried on recordings.",
                "extend one of acoupi.programs.templates",
                why="it has no store of recordings.",
            )
        return store


@contextmanager
def program_trial(program: str, args: Sequence[str] = ()) -> Iterator[Trial]:
    """Yield a program in a temporary home.

    Parameters
    ----------
    program
        As for `acoupi.stack.loading.load_program_class`.
    args
        Options of its configuration.

    Raises
    ------
    AcoupiError
        If it cannot be set up.
    """
    with tempfile.TemporaryDirectory(prefix="acoupi-trial-") as folder:
        settings = Settings(home=Path(folder) / "home")
        with using_home(settings.home):
            words = [*microphone_options(program, args), *args]
            set_up(settings, SetupRequest(program, words, target="process"))
            built = Sensor.read(settings).program
            yield Trial(built, settings)
            if (store := getattr(built, "store", None)) is not None and hasattr(store, "close"):
                store.close()


def microphone_options(program: str, args: Sequence[str]) -> list[str]:
    """Return options for a program's microphone settings; no microphone is used."""
    section = load_program_class(program).get_config_schema().model_fields.get("microphone")
    if section is None or not section.is_required():
        return []
    given = {word.partition("=")[0] for word in args}
    usual = {"--microphone.device_name": "default", "--microphone.samplerate": "48000"}
    return [word for name, value in usual.items() if name not in given for word in (name, value)]


def _own_lines(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not Path(one.filename).is_relative_to(ACOUPI)]
    return "".join(traceback.format_list(own or frames[-1:]))


def _described(path: Path) -> data.Recording:
    try:
        return formats.read_recording(path)
    except AcoupiError:
        return foreign.describe_file(path)
