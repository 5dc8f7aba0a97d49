"""The task of a sensor that is set up with a hub, as its worker runs it."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from acoupi.components import SqliteStore
from acoupi.hub.database import HubDatabase
from acoupi.programs.templates.digests import section_digests, settings_digest
from acoupi.services.construction import load_program
from acoupi.system import Settings
from tests.cli.support import Run
from tests.hub.reporting import Hub
from tests.postgres import Postgres
from tests.stores import recording


@pytest.fixture
def hub(postgres: Postgres, tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    hub = Hub(postgres.new_database("task"), tmp_path / "hub")
    hub.start()
    yield hub
    hub.stop()


def test_the_hub_gets_what_runs_and_the_sound_that_is_set(hub: Hub, run: Run, sensor: Path) -> None:
    section = {"url": hub.url, "token": hub.token, "audio": "all"}
    result = run("config", "set", "--json", "sensor.hub", json.dumps(section))
    assert result.exit_code == 0, result.output
    program = load_program(Settings(home=sensor))
    (sensor / "a.wav").write_bytes(b"sound")
    with closing(SqliteStore(sensor / "data" / "metadata.db")) as store:
        sound = recording("a.wav")
        store.store_recording(sound)
        store.update_recording_path(sound, sensor / "a.wav")

    program.tasks["hub_task"].function()

    with closing(HubDatabase(hub.database)) as database, database.reading() as connection:
        told = connection.one("SELECT configuration, sections FROM settings_in_force")
        kept = connection.one("SELECT id, bytes FROM audio")
    assert told == (settings_digest(program.config), json.dumps(section_digests(program.config)))
    assert kept == (sound.id.bytes, 5)
    assert program.store.hub_audio == "all"
