"""``acoupi backup`` and ``acoupi restore``, as a user types them."""

from pathlib import Path

import pytest

from acoupi.cli.backup import PASSWORD
from tests.cli.support import Run, data_of


def test_a_sensor_moves_to_another_folder(
    run: Run, sensor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    made = run("backup", str(stick))
    assert made.exit_code == 0, made.stderr
    assert "--with-secrets" in made.stdout
    (file,) = stick.iterdir()
    monkeypatch.setenv("ACOUPI_HOME", str(tmp_path / "new"))

    assert "is complete" in run("restore", str(file), "--check").stdout
    restored = run("restore", str(file))

    assert restored.exit_code == 0, restored.stderr
    assert "Next: acoupi check" in restored.stdout
    assert data_of(run("config", "get", "recording.duration")) == 1
    again = run("restore", str(file))
    assert again.exit_code == 2
    assert "there is a sensor" in again.stderr


def test_secrets_need_a_password(
    run: Run, sensor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "made.tar.gz")
    run("config", "set", "messaging.http", '{"base_url": "https://a.org", "token": "tok-one"}')
    asked = run("backup", file, "--with-secrets")
    assert asked.exit_code == 2
    assert PASSWORD in asked.stderr

    monkeypatch.setenv(PASSWORD, "horseshoe")
    assert data_of(run("backup", file, "--with-secrets", "--json"))["path"] == file
    monkeypatch.setenv("ACOUPI_HOME", str(tmp_path / "new"))
    monkeypatch.setenv(PASSWORD, "greater")
    wrong = run("restore", file)
    assert wrong.exit_code == 2
    assert "password" in wrong.stderr
    without = run("restore", file, "--without-secrets")
    assert without.exit_code == 0, without.stderr
    assert "acoupi setup names them" in without.stderr
    assert "token" in run("setup").stderr
