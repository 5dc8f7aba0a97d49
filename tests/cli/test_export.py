"""``acoupi export``: what was heard, for other tools, from the command line."""

import csv
import json
from pathlib import Path

import pytest

from acoupi.components import SqliteStore
from tests.cli.support import Run, data_of
from tests.stores import at, deployment, detection, output, recording

BAT = "Myotis nattereri"


@pytest.fixture
def heard(sensor: Path) -> Path:
    """A sensor that heard a bat at a site that is known, and at one that is not."""
    paths = json.loads((sensor / "config" / "program.json").read_text())
    store = SqliteStore(Path(paths["paths"]["db_metadata"]))
    for name, seconds, place in (("Old oak", 0, (51.50741, -0.12785)), ("Pond", 1000, None)):
        fields = dict(zip(("latitude", "longitude"), place or (None, None), strict=True))
        ended = None if place is None else at(seconds + 60)
        site = deployment(name=name, started_on=at(seconds), ended_on=ended, **fields)
        sound = recording(None, seconds + 1, deployment=site)
        store.store_recording(sound)
        store.store_model_output(output(sound, detection(0.9, ("species", BAT, 0.9))))
    store.close()
    return sensor


def test_an_export_is_chosen_by_the_filters(heard: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("export", "csv", "-o", str(out), "--deployment", "Old oak", "--species", BAT)

    assert result.exit_code == 0
    assert "Old oak" in result.stdout
    assert "has not ended" not in result.output
    with (out / "detections.csv").open() as file:
        assert [row["deployment_name"] for row in csv.DictReader(file)] == ["Old oak"]
    assert {"effort.csv", "failures.csv"} < {one.name for one in out.iterdir()}


def test_a_deployment_that_has_not_ended_is_told(heard: Path, run: Run, tmp_path: Path) -> None:
    result = run("export", "csv", "-o", str(tmp_path / "out"))

    assert "'Pond' has not ended" in " ".join(result.output.split())


def test_sums_agree_with_the_effort_report(heard: Path, run: Run, tmp_path: Path) -> None:
    run("export", "csv", "-o", str(tmp_path / "out"), "--deployment", "Old oak")

    report = data_of(run("effort", "--deployment", "Old oak", "--json"))
    with (tmp_path / "out" / "effort.csv").open() as file:
        rows = list(csv.DictReader(file))
    for state, seconds in report["states_s"].items():
        total = sum(float(row["duration_s"]) for row in rows if row["state"] == state)
        assert total == pytest.approx(seconds, abs=1e-3)


def test_options_are_those_of_the_format(heard: Path, run: Run, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert run("export", "audacity", "-o", out, "--boxes").exit_code == 0

    for words, told in (
        (["csv", "--boxes"], "audacity"),
        (["bundle", "--audio"], "camtrap-dp --audio"),
        (["camtrap-dp", "--profile", "2.0"], "1.0.2"),
        (["darwin-core", "--occasion", "week"], "night"),
        (["rave"], "raven"),
        (["camtrap-dp"], "--latitude"),
        (["camtrap-dp", "--latitude", "5"], "--longitude"),
        (["csv", "--species", "Myotis naterreri"], BAT),
    ):
        result = run("export", *words, "-o", f"{out}-not")
        assert result.exit_code == 2, words
        lines = result.stderr.splitlines()
        assert [line.split(":")[0].strip() for line in lines] == ["Error", "Why", "Try"], words
        assert told in result.stderr, words
    assert not Path(f"{out}-not").exists()


def test_coordinates_are_given_or_rounded(heard: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    place = ["--latitude", "52.123", "--longitude", "0.456", "--coordinates-precision", "0.1"]
    result = run("export", "camtrap-dp", "-o", str(out), *place)

    assert result.exit_code == 0
    with (out / "deployments.csv").open() as file:
        found = {row["locationName"]: row["latitude"] for row in csv.DictReader(file)}
    assert found == {"Old oak": "51.5", "Pond": "52.1"}


def test_a_bundle_has_the_configuration_without_secrets(
    heard: Path, run: Run, tmp_path: Path
) -> None:
    server = {"base_url": "https://example.org", "token": "sesam"}
    server["content_type"] = "see https://ana:geheim@example.org"  # a text that anybody may write
    done = run("config", "set", "messaging.http", json.dumps(server))
    assert done.exit_code == 0, done.output
    out = tmp_path / "out"
    result = run("export", "bundle", "-o", str(out))

    assert result.exit_code == 0, result.output
    settings = json.loads((out / "configuration.json").read_text())
    assert "example.org" in json.dumps(settings)
    everything = b"".join(one.read_bytes() for one in out.rglob("*") if one.is_file())
    assert b"geheim" not in everything
    assert b"sesam" not in everything
