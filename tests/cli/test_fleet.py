"""``acoupi compose render --target balena`` and ``acoupi setup --target balena``."""

from pathlib import Path

import pytest

from tests.cli.support import Run


def test_a_folder_is_rendered_without_a_home(run: Run, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fleet"

    result = run("compose", "render", "--target", "balena", "-o", str(folder))

    assert result.exit_code == 0, result.stderr
    assert f"Next: cd {folder} && balena push FLEET" in result.stdout
    assert (folder / "docker-compose.yml").is_file()
    assert not home.exists() or not any(home.iterdir())


def test_it_is_of_the_program_and_settings_of_the_home(
    run: Run, home: Path, tmp_path: Path
) -> None:
    words = ("setup", "--program", "connected", "--target", "balena", "--no-prompt")
    first = run(*words, "--recording.duration", "5")
    assert f"Next: cd {home}/balena && balena push FLEET" in first.stdout

    result = run("compose", "render", "--target", "balena", "-o", str(tmp_path / "fleet"))

    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "fleet" / "docker-compose.yml").read_text()
    assert text == (home / "balena" / "docker-compose.yml").read_text()
    assert 'ACOUPI_CONFIG__RECORDING__DURATION: "5.0"' in text


@pytest.mark.parametrize("answer", [(), ("--timezone", "Asia/Tokyo")])
def test_the_time_zone_of_this_machine_is_not_carried_and_an_answer_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TZ", "America/Lima")
    run("setup", "--program", "default", "--target", "process", "--no-prompt", *answer)

    result = run("compose", "render", "--target", "balena", "-o", str(tmp_path / "fleet"))

    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "fleet" / "docker-compose.yml").read_text()
    assert "America/Lima" not in text
    assert ("ACOUPI_CONFIG__TIMEZONE: Asia/Tokyo" in text.replace('"', "")) is bool(answer)


@pytest.mark.parametrize(
    "words",
    [
        ("--target", "balena"),
        ("-o", "somewhere"),
        ("--target", "systemd", "-o", "somewhere"),
        ("--program", "demo"),
    ],
)
def test_a_folder_needs_its_target_and_its_name(run: Run, words: tuple[str, ...]) -> None:
    result = run("compose", "render", *words)

    assert result.exit_code == 2
    assert "acoupi compose render --target balena -o DIR" in result.stderr


def test_compose_does_not_run_a_fleet(run: Run, home: Path) -> None:
    run("setup", "--program", "default", "--target", "balena", "--no-prompt")

    result = run("compose", "up")

    assert result.exit_code == 1
    assert "balena" in result.stderr
