"""The hooks of deployments that variables declare."""

import fcntl
import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acoupi.services import declared_deployments
from acoupi.services.declared_deployments import settle_deployments
from acoupi.stack.settings import Settings
from tests.services import DEADLINE
from tests.stores import deployment

STACK: Any = SimpleNamespace(
    workers=[SimpleNamespace(name="default", role="worker", network=True, queues=("celery",))]
)


class Program:
    """Notes which of its hooks are called."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.is_started = threading.Event()

    def on_start(self, deployment: Any) -> None:
        self.called.append(f"start {deployment.name}")
        self.is_started.set()


def test_no_hook_is_called_while_another_process_calls_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared_deployments, "LOCK_PATIENCE", 0.05)
    monkeypatch.setattr(declared_deployments, "RETRY_FIRST", 0.05)
    program: Any = Program()
    oak = deployment(name="Oak")
    notes = tmp_path / "data" / "deployments.json"
    notes.parent.mkdir()
    other = os.open(notes.parent, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)

    settle_deployments(Settings(home=tmp_path), "default", STACK, program, [oak])
    assert program.called == []

    fcntl.flock(other, fcntl.LOCK_UN)
    assert program.is_started.wait(DEADLINE)  # it is tried again
    fcntl.flock(other, fcntl.LOCK_EX)  # free once the call is noted
    os.close(other)
    settle_deployments(Settings(home=tmp_path), "default", STACK, program, [oak])
    assert program.called == ["start Oak"]
    assert json.loads(notes.read_text()) == {str(oak.id): ["start"]}
