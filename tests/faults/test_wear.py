"""What is forced to a disk beside the sound, and what a power cut then leaves."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.audio import files, formats
from acoupi.audio.counter import count_frames
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.components import SqliteMessageStore, SqliteStore, types
from acoupi.components.message_stores.outbox import OutboxLimits
from acoupi.tasks import generate_file_management_task
from acoupi.testing import InMemoryStore, make_recording, make_wav

RATE = 8000
BUDGET = OutboxLimits(bytes_per_day=1_000_000)


@pytest.fixture
def keep_closed() -> Iterator[ExitStack]:
    """Closes stores before their disk is taken away."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("kind", formats.FORMATS, ids=lambda kind: kind.NAME)
def test_the_end_of_a_recording_is_one_commit_of_the_file_system(
    disk: Any, kind: formats.SoundFormat
) -> None:
    recording = make_recording(duration=5, samplerate=RATE)
    path = disk.path / "spool" / f"{recording.id}.{kind.NAME}"
    guano = build_guano(guano_of_recording(recording))
    writer = kind.open_writer(path, RATE, 1, guano=guano)
    writer.write(count_frames(0, 5 * RATE).tobytes())
    before = disk.commits()

    writer.finish()

    assert disk.commits() == before + 1
    disk.cut()
    disk.unmount()
    disk.mount()
    assert formats.read_info(path).frames == 5 * RATE
    assert not writer.part.exists()


def test_what_is_kept_in_one_pass_is_one_commit_of_the_file_system(disk: Any) -> None:
    store = InMemoryStore()  # its own commits are not counted
    spool, kept = disk.path / "spool", disk.path / "kept"
    names = [f"{number}.wav" for number in range(5)]
    for name in names:
        store.store_recording(make_recording(path=make_wav(spool / name)))
    files.make_folder(kept)
    manage = generate_file_management_task(store, [Kept(kept)], tmp_path=spool)
    disk.force()
    before = disk.commits()

    manage()

    assert disk.commits() == before + 1
    assert files.list_recordings(spool) == []
    disk.cut()
    disk.unmount()
    disk.mount()
    assert [path.name for path in files.list_recordings(kept)] == names


class Kept(types.RecordingSavingManager):
    """Keeps every file under its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_recording(self, recording: data.Recording, _: Any = None) -> Path:
        """Return its place."""
        assert recording.path is not None
        return self.folder / recording.path.name


def test_an_analysis_that_has_ended_has_ended_after_a_power_cut(
    disk: Any, keep_closed: ExitStack
) -> None:
    store = SqliteStore(disk.path / "metadata.db")
    keep_closed.callback(store.close)
    recording = make_recording()
    store.store_recording(recording)
    analysis = store.begin_analysis(recording, "model")
    output = data.ModelOutput(name_model="model", recording=recording)
    store.store_model_output(output)
    ended = analysis.model_copy(update={"state": data.AnalysisState.DONE})
    store.end_analysis(ended)

    power_cut(disk, store)

    assert [one.id for one in store.get_recording_model_outputs(recording)] == [output.id]
    (found,) = store.get_analyses([recording])[recording.id]
    assert found.state is data.AnalysisState.DONE, "its file may be on its way out by then"


@pytest.mark.parametrize("outbox", [None, BUDGET], ids=["no budget", "a budget"])
def test_a_power_cut_takes_no_message_and_nothing_that_a_claim_may_cost(
    disk: Any, keep_closed: ExitStack, outbox: OutboxLimits | None
) -> None:
    store = SqliteMessageStore(disk.path / "messages.db")
    keep_closed.callback(store.close)
    message = data.Message(content="an owl")
    store.store_message(message)
    assert store.claim_messages("http", outbox=outbox)

    power_cut(disk, store)

    assert [one.id for one in store.claim_messages("http", outbox=outbox)] == [message.id]
    assert (store.get_bytes_sent().get("http", 0) > 0) == (outbox is not None)


def power_cut(disk: Any, store: Any) -> None:
    """Lose what is not on the disk, as its process and its power end."""
    disk.cut()
    store.close()
    disk.unmount()
    disk.mount()
