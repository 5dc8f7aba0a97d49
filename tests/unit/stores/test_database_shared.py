"""A database that threads, processes and forks share, and that is lost sight of."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.stores import SqliteStore
from tests.databases import SITE, count, in_child, recording
from tests.services import DEADLINE


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    sounds = [recording(f"/spool/{n}.wav") for n in range(120)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store.store_recording, sounds))
        found = list(pool.map(lambda sound: len(store.get_recordings([sound.id])), sounds))

    assert found == [1] * 120
    assert store.count_recordings()[data.RecordingState.CAPTURED] == 120


def test_processes_that_create_the_file_at_once_agree(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metadata.db"
    code = (
        "import sys; from pathlib import Path\n"
        "from acoupi.components.stores import SqliteStore\n"
        "sys.stdin.readline()\n"
        "print(SqliteStore(Path(sys.argv[1])).get_current_deployment().id)\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]

    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    answers = {child.communicate(timeout=DEADLINE)[0] for child in children}

    assert len(answers) == 1
    assert answers != {""}


def test_a_forked_process_works_on_and_so_does_its_parent(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    store.store_deployment(SITE)
    sound, later = recording("/spool/a.wav"), recording("/spool/b.wav")

    def work() -> int:
        store.store_recording(sound)
        return store.count_recordings()[data.RecordingState.CAPTURED]

    assert in_child(work) == 1
    store.store_recording(later)
    assert in_child(lambda: len(store.get_recordings([sound.id, later.id]))) == 2


def test_a_forked_process_inherits_no_open_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    store.store_deployment(SITE)

    def open_files() -> list[str]:
        descriptors = Path("/proc/self/fd").iterdir()
        names = [str(each.readlink()) for each in descriptors if each.is_symlink()]
        return [name for name in names if name.startswith(str(tmp_path))]

    assert in_child(open_files) == []


def test_a_fork_waits_for_the_work_of_other_threads(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    store.store_deployment(SITE)
    stop = threading.Event()

    def keep_writing() -> int:
        written = 0
        while not stop.is_set():
            store.store_recording(recording())
            written += 1
        return written

    def work() -> str:
        store.store_recording(recording())
        return "stored"

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(keep_writing) for _ in range(2)]
        answers = [in_child(work) for _ in range(10)]
        stop.set()
        written = sum(writer.result() for writer in writers)

    assert answers == ["stored"] * 10
    assert store.count_recordings()[data.RecordingState.CAPTURED] == written + 10
    store.close()
    connection = sqlite3.connect(store.db_path)
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()


def test_a_fork_within_a_transaction_harms_neither_side(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    inner = SqliteStore(tmp_path / "metadata.db")
    store.store_deployment(SITE)

    with store._database.reading():
        answer = in_child(lambda: inner.get_current_deployment().name)
        inner.store_recording(recording())

    assert answer == "Pond"
    assert store.count_recordings()[data.RecordingState.CAPTURED] == 1


def test_processes_never_claim_the_same_message(tmp_path: Path) -> None:
    store = SqliteMessageStore(tmp_path / "messages.db")
    messages = [data.Message(content=str(n)) for n in range(60)]
    for message in messages:
        store.store_message(message)

    def claim_all() -> list[Any]:
        claimed: list[Any] = []
        while found := store.claim_messages("http", limit=3):
            claimed += [message.id for message in found]
            for message in found:  # What a process leaves unsettled is due when it ends.
                done = data.Response(status=data.ResponseStatus.SUCCESS, message=message)
                store.settle_message("http", done)
        return claimed

    with ThreadPoolExecutor(3) as pool:
        claims = list(pool.map(lambda _: in_child(claim_all), range(3)))

    everything = [id_ for claim in claims for id_ in claim]
    assert len(everything) == 60
    assert set(everything) == {message.id for message in messages}


def test_what_was_stored_survives_the_death_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    code = (
        "import sys; from pathlib import Path; from acoupi import data\n"
        "from acoupi.components.stores import SqliteStore\n"
        "store = SqliteStore(Path(sys.argv[1])); site = data.Deployment(name='Pond')\n"
        "while True:\n"
        "    sound = data.Recording(duration=1, samplerate=1, deployment=site)\n"
        "    store.store_recording(sound); print(sound.id.hex, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(50)]
    child.kill()
    told += child.communicate(timeout=DEADLINE)[0].splitlines()

    stored = SqliteStore(path).count_recordings()[data.RecordingState.CAPTURED]

    whole = [line for line in told if len(line.strip()) == 32]
    assert stored - len(whole) in (0, 1)  # the last may be stored but not told


def test_a_file_that_is_moved_aside_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    store = SqliteStore(path)
    store.store_recording(recording())
    aside = tmp_path / "aside"
    aside.mkdir()
    for file in tmp_path.glob("metadata.db*"):
        file.rename(aside / file.name)

    store.store_recording(recording())

    assert store.count_recordings()[data.RecordingState.CAPTURED] == 1
    store.close()
    assert count(path, "recording") == 1
    assert count(aside / "metadata.db", "recording") == 1
