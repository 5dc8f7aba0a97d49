"""``acoupi deployment``: which deployment is running, and which were before."""

import json
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components import SqliteStore
from acoupi.system import Settings, start_deployment
from tests.cli.support import Calls, Run, data_of
from tests.stores import SITE, at, recording


@pytest.fixture
def store(sensor: Path) -> SqliteStore:
    return SqliteStore(sensor / "data" / "metadata.db")


def open_ones(store: SqliteStore) -> list[str]:
    return [one.name for one in store.get_deployments() if one.ended_on is None]


def test_what_is_recorded_without_a_name_is_shown(
    run: Run, store: SqliteStore, target: Calls
) -> None:
    unnamed = store.get_current_deployment()
    target.state = "ready"

    text = run("deployment", "status").stdout
    found = data_of(run("deployment", "status", "--json"))

    assert f"recording without a named place, as {unnamed.name}" in text
    assert 'To name it: acoupi start "Old oak"' in text
    assert found["deployment"] is None
    assert found["unnamed"]["id"] == str(unnamed.id)


def test_a_named_start_ends_it_at_that_moment(run: Run, store: SqliteStore) -> None:
    unnamed = store.get_current_deployment()

    started = data_of(run("deployment", "start", "--name", "Oak", "--no-check", "--json"))

    assert open_ones(store) == ["Oak"]
    [first, _] = store.get_deployments()
    assert (first.id, first.ended_on) == (
        unnamed.id,
        data.Deployment.model_validate(started).started_on,
    )


def test_a_stop_that_comes_after_one_that_was_cut_settles_the_store(
    run: Run, store: SqliteStore
) -> None:
    run("deployment", "start", "--name", "Oak", "--no-check")
    [oak] = store.get_deployments()
    run("deployment", "stop")
    store.store_deployment(oak)  # as if the command had been killed before this
    assert open_ones(store) == ["Oak"]

    result = run("deployment", "stop")

    assert result.exit_code != 0
    assert "there is no deployment" in result.stderr
    assert open_ones(store) == []


def test_a_stop_after_a_start_that_was_cut_ends_it(run: Run, store: SqliteStore) -> None:
    start_deployment(Settings(), "Oak", 51.5, 0)  # and no further

    result = run("deployment", "stop")

    assert result.exit_code == 0, result.stderr
    [oak] = store.get_deployments()
    assert (oak.name, oak.latitude, oak.ended_on is None) == ("Oak", 51.5, False)


def test_all_deployments_are_listed_also_of_a_store_set_aside(run: Run, store: SqliteStore) -> None:
    for name in ("Oak", "Elm"):
        run("deployment", "start", "--name", name, "--latitude", "51.5", "--longitude", "0",
            "--no-check")  # fmt: skip
        run("deployment", "stop")
    store.close()
    for file in store.db_path.parent.glob("metadata.db*"):
        file.unlink()
    run("deployment", "start", "--name", "Ash", "--no-check")

    lines = [line for line in run("deployment", "list").stdout.splitlines() if "20" in line]
    found = json.loads(run("deployment", "list", "--json").stdout)

    assert [line.split()[0] for line in lines] == ["Oak", "Elm", "Ash"]
    assert "51.5, 0" in lines[-3]
    assert "still running" in lines[-1]
    assert [one["name"] for one in found] == ["Oak", "Elm", "Ash"]
    assert [one["ended_on"] is None for one in found] == [False, False, True]


def test_the_effort_of_a_past_deployment_needs_no_program(
    run: Run, sensor: Path, store: SqliteStore
) -> None:
    store.store_deployment(SITE.model_copy(update={"ended_on": at(9)}))
    store.store_recording(recording("a.wav", 0))
    name = Settings().program_name_file
    name.write_text("not_installed_any_more")

    result = run("effort", "--deployment", SITE.name)

    assert result.exit_code == 0, result.stderr
    assert "not_installed_any_more" in result.stderr
    assert SITE.name in result.stdout
