"""The fakes that programs test with."""

import gc
import os
from collections.abc import Callable

import pytest

from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.testing import InMemoryMessageStore, InMemoryStore


@pytest.mark.parametrize("make", [InMemoryStore, InMemoryMessageStore])
def test_a_store_in_memory_leaves_no_file_behind(
    make: Callable[[], SqliteStore | SqliteMessageStore],
) -> None:
    store, other = make(), make()
    folder = store.db_path.parent
    assert folder != other.db_path.parent

    del store
    gc.collect()

    assert not folder.exists()
    assert other.db_path.parent.exists()


def test_a_forked_process_takes_no_store_from_its_parent() -> None:
    store = InMemoryStore()
    deployment = store.get_current_deployment()

    pid = os.fork()
    if pid == 0:
        del store
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)

    assert store.get_current_deployment() == deployment
