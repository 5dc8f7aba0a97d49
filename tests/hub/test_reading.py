"""What a hub says of many sensors: its views, and the commands that read it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acoupi.cli.app import app
from acoupi.components.stores import SqliteStore
from acoupi.components.stores.views import METADATA_VIEWS
from acoupi.hub.database import HubDatabase
from tests.stores import deployment, detection, output, recording

Say = Callable[..., Any]


def a_sensor(folder: Path, site: str, *scores: float) -> Path:
    """Return the store of a sensor that heard a bat with each of these scores, a minute apart."""
    folder.mkdir()
    store, place = SqliteStore(folder / "metadata.db"), deployment(name=site)
    for minute, score in enumerate(scores):
        sound = recording(f"{site}{minute}.wav", 60 * minute, deployment=place)
        store.store_recording(sound)
        found = detection(score, ("species", "Myotis nattereri", score))
        store.store_model_output(output(sound, found))
    store.close()
    return folder / "metadata.db"


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, url: str) -> Say:
    """Run a command that knows the database from a variable."""
    monkeypatch.setenv("ACOUPI_HUB_DATABASE", url)

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture
def two_sensors(say: Say, tmp_path: Path) -> None:
    for name, site, scores in (("oak-1", "Oak", (0.9, 0.4)), ("elm-2", "Elm", (0.7,))):
        store = a_sensor(tmp_path / name, site, *scores)
        say("hub", "import", str(store), "--sensor", name)
        told = say("hub", "import", str(store), "--sensor", name)
        assert f"all of {name}: 1 deployment, {len(scores)} recordings" in told


@pytest.mark.usefixtures("two_sensors")
def test_the_commands_of_a_sensor_read_all_sensors(say: Say, tmp_path: Path) -> None:
    found = json.loads(say("detections", "list", "--json"))
    assert {(one["deployment_name"], one["score"]) for one in found} == {
        ("Oak", 0.4), ("Elm", 0.7), ("Oak", 0.9),
    }  # fmt: skip
    assert len(json.loads(say("recordings", "list", "--json", "--deployment", "Elm"))) == 1
    counted = json.loads(say("detections", "count", "--by", "deployment", "--json"))
    assert counted == [
        {"deployment": "Oak", "detections": 2, "recordings": 2},
        {"deployment": "Elm", "detections": 1, "recordings": 1},
    ]
    effort = json.loads(say("effort", "--deployment", "Oak", "--json"))
    assert effort["deployment"]["name"] == "Oak"
    say("export", "csv", "-o", str(tmp_path / "out"))
    with (tmp_path / "out" / "detections.csv").open() as file:
        assert {row["deployment_name"] for row in csv.DictReader(file)} == {"Oak", "Elm"}


@pytest.mark.usefixtures("two_sensors")
def test_the_views_of_a_hub_are_those_of_a_sensor_with_the_sensor(url: str) -> None:
    database = HubDatabase(url)
    with database.reading() as connection:
        for view in METADATA_VIEWS:
            cursor = connection.execute(f"SELECT * FROM {view.name}")
            named = [column.name for column in cursor.description or ()]
            assert named == ["sensor_id", *(one.name for one in view.columns)]
        found = connection.execute(
            "SELECT sensor_id, deployment_name, species, score, start_time, detection_id, tags "
            "FROM v_detection ORDER BY score"
        ).fetchall()
    database.close()
    assert [row[:4] for row in found] == [
        ("oak-1", "Oak", "Myotis nattereri", 0.4),
        ("elm-2", "Elm", "Myotis nattereri", 0.7),
        ("oak-1", "Oak", "Myotis nattereri", 0.9),
    ]
    assert found[0][4].endswith(":00.000000Z")
    assert len(found[0][5]) == 36
    assert found[0][6] == "species=Myotis nattereri"


@pytest.mark.usefixtures("two_sensors")
def test_sensors_are_listed(say: Say) -> None:
    found = json.loads(say("hub", "sensors", "--json"))

    assert [(one["name"], one["recordings"]) for one in found] == [("elm-2", 1), ("oak-1", 2)]
    token = say("hub", "add-sensor", "oak-1").strip()
    assert len(token) > 40
    listed = say("hub", "sensors")
    assert "oak-1" in listed
    assert "+00:00" not in listed
    say("hub", "withdraw", "oak-1")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("hub", "import", "nowhere", "--sensor", "oak-1"), "there is no sensor in"),
        (("hub", "add-sensor", "oak 1"), "cannot be called"),
        (("hub", "withdraw", "oak-9"), "has no sensor"),
        (("review", "next"), "one sensor only"),
    ],
)
def test_what_cannot_be_done_is_said(
    say: Say, words: tuple[str, ...], what: str, tmp_path: Path
) -> None:
    if words[0] == "review":
        say("hub", "import", str(a_sensor(tmp_path / "s", "Oak", 0.5)), "--sensor", "oak-1")
    result = CliRunner().invoke(app, list(words))

    assert result.exit_code != 0
    assert what in str(getattr(result.exception, "message", result.output))
