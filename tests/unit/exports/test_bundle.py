"""The folder for a reviewer."""

import json
import subprocess
from pathlib import Path

from acoupi.components.stores import SqliteStore
from acoupi.exports.formats.bundle import MANIFEST, Bundle
from tests.stores import at, deployment
from tests.unit.exports.heard import MADE_BY, exported, fill


def test_a_bundle_holds_packages_effort_versions_and_checksums(tmp_path: Path) -> None:
    fill(tmp_path / "metadata.db")
    settings = {"configuration.json": '{"password": "***"}\n'}
    exported(tmp_path / "metadata.db", Bundle(settings), tmp_path / "out", precision=0.1)

    out = tmp_path / "out"
    names = {one.name for one in out.iterdir()}
    assert names == {
        "README.txt", "csv", "camtrap-dp", "darwin-core", "effort.csv", "failures.csv",
        "configuration.json", "versions.json", MANIFEST,
    }  # fmt: skip
    for package in ("csv", "camtrap-dp", "darwin-core"):
        assert (out / package / "effort.csv").read_bytes() == (out / "effort.csv").read_bytes()
    versions = json.loads((out / "versions.json").read_text())
    assert versions["models"] == [MADE_BY.model_dump(mode="json")]
    readme = (out / "README.txt").read_text()
    assert "has not ended" in readme
    assert "12.000 s recorded, 40.00 % of what was planned" in readme
    assert "6 times" in readme
    assert "0.1 degrees" in readme
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", MANIFEST], cwd=out, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    files = sum(one.is_file() for one in out.rglob("*"))
    assert checked.stdout.count(": OK") == files - 1


def test_without_coordinates_a_bundle_says_what_is_missing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    store.store_deployment(deployment(ended_on=at(60)))
    store.close()

    exported(tmp_path / "metadata.db", Bundle(), tmp_path / "out")

    assert "no coordinates" in (tmp_path / "out" / "README.txt").read_text()
    assert not (tmp_path / "out" / "camtrap-dp").exists()
