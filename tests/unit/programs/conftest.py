"""Celery apps for programs: one that runs tasks in place, one with the embedded broker."""

import datetime
from pathlib import Path

import pytest
from celery import Celery

from acoupi.programs.templates import AudioConfiguration


@pytest.fixture
def app() -> Celery:
    """An app that runs tasks where they are sent, through JSON as a worker would."""
    app = Celery("test", set_as_current=False, broker="memory://")
    app.conf.update(task_always_eager=True, task_eager_propagates=True, accept_content=["json"])
    return app


@pytest.fixture
def queued(tmp_path: Path) -> Celery:
    """An app whose messages wait in files."""
    folder = tmp_path / "broker"
    folder.mkdir()
    app = Celery("test", set_as_current=False, broker="filesystem://")
    app.conf.broker_transport_options = {
        "data_folder_in": str(folder),
        "data_folder_out": str(folder),
        "control_folder": str(folder),
    }
    return app


@pytest.fixture
def all_day() -> AudioConfiguration:
    return AudioConfiguration(schedule_start=datetime.time(0), schedule_end=datetime.time(0))
