"""``acoupi fleet status`` and ``diff``, from files."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.cli.tables import cells
from tests.cli.support import Run, data_of, lines_of
from tests.services import free_port

NAMES = ("device-of-oak-1", "device-of-elm-2", "device-of-ash-3")


def line(device: str, ago_h: float = 0, **fields: Any) -> str:
    now = data.utc_now() - timedelta(hours=ago_h)
    content = {
        "sent_on": now.isoformat(), "device_id": device, "status": "OK", "version": "2.0.0",
        "program": "acoupi.programs.connected", "configuration": "0123456789abcdef",
        "interval_s": 3600, **fields,
    }  # fmt: skip
    message = {"id": "1", "created_on": now.isoformat(), "message_type": "heartbeat"}
    return json.dumps({**message, "content": content}) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Messages of three sensors: one is well, one unwell, one silent."""
    folder = tmp_path / "sensors"
    folder.mkdir()
    metrics = [
        {"name": name, "value": value, "unit": "x"}
        for name, value in {
            "effort_recorded": 72_000, "effort_planned": 80_000, "disk_hours_left": 312,
            "recordings_waiting": 1, "messages_waiting": 4, "microphone_noise_floor": -61,
            "clock_set": 1,
        }.items()
    ]  # fmt: skip
    (folder / "a.jsonl").write_text(line(NAMES[0], metrics=metrics) + line(NAMES[1], 50))
    other = line(NAMES[2], status="the microphone is silent", configuration="ffff")
    (folder / "b.jsonl").write_text("no message\n" + other)
    return folder


def test_the_silent_and_the_unwell_are_on_top_and_the_exit_code_says_so(
    run: Run, folder: Path
) -> None:
    result = run("fleet", "status", "--messages", str(folder))

    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert [one.split()[:2] for one in lines[2:5]] == [
        [NAMES[1], "silent"],
        [NAMES[2], "unwell"],
        [NAMES[0], "well"],
    ]
    assert "no heartbeat for 2 d" in lines[2]
    assert "the microphone is silent" in lines[3]
    assert "2.0.0 connected 01234567 20.0 h, 90 % 312 h -61 dBFS 1 4 set -" in " ".join(
        lines[4].split()
    )
    assert lines[-1] == "3 sensors: 1 silent, 1 unwell, 1 well"
    assert "lines that are not messages were skipped: 1." in result.stderr


def test_a_fleet_that_is_well_ends_with_0(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(line("a"))

    assert run("fleet", "status", "--messages", str(tmp_path / "m.jsonl")).exit_code == 0
    late = run("fleet", "status", "--messages", str(tmp_path), "--silent-after", "0.01", "--json")
    assert data_of(late)["counts"] == {"silent": 0, "unwell": 0, "well": 1}


@pytest.mark.parametrize("width", range(60, 201, 20))
def test_no_line_is_wider_than_the_terminal(
    run: Run, folder: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))

    for command in ("status", "diff"):
        shown = run("fleet", command, "--messages", str(folder)).stdout
        blocks = [one for one in shown.splitlines() if one.startswith("    state: ")]
        assert blocks == []
        assert max(map(cells, shown.splitlines())) <= width
        assert all(name in shown for name in NAMES)


def test_as_json_every_figure_is_there(run: Run, folder: Path) -> None:
    found = data_of(run("fleet", "status", "--messages", str(folder), "--json"))

    assert (found["ok"], [one["state"] for one in found["sensors"]]) == (
        False,
        ["silent", "unwell", "well"],
    )
    assert found["sensors"][2]["coverage_percent"] == 90


def test_a_stranger_does_nothing_to_the_terminal(run: Run, tmp_path: Path) -> None:
    evil = "oak\x1b]0;owned\x07\r\n\u202e"
    (tmp_path / "m.jsonl").write_text(line(evil, status=evil, version=evil, program=evil))

    for words in (("status",), ("status", "--json"), ("diff",), ("diff", "--json")):
        result = run("fleet", *words, "--messages", str(tmp_path))
        assert result.exit_code in {0, 3}
        assert not set("\x1b\x07\r\u202e") & set(result.stdout)


def test_sensors_are_grouped_by_their_settings(run: Run, folder: Path) -> None:
    shown = run("fleet", "diff", "--messages", str(folder)).stdout.splitlines()
    found = data_of(run("fleet", "diff", "--messages", str(folder), "--json"))

    assert shown[2].split()[:4] == ["01234567", "connected", "2.0.0", "2"]
    assert [(one["configuration"], len(one["sensors"])) for one in found] == [
        ("0123456789abcdef", 2),
        ("ffff", 1),
    ]


def test_where_nothing_was_sent_that_is_said(run: Run, tmp_path: Path) -> None:
    result = run("fleet", "status", "--messages", str(tmp_path))

    assert (result.exit_code, result.stdout) == (3, "No sensor has sent a heartbeat.\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "it is not clear where to read"),
        (("--messages", "nowhere"), "cannot be read"),
        (("--mqtt", "http://x"), "begins with mqtt://"),
        (("--mqtt", "mqtt://a b/x"), "host cannot be the name"),
        (("--mqtt", "mqtt://h:99999/x"), "Port out of range"),
        (("--mqtt", "mqtt://h/a+b"), "must not hold"),
    ],
)
def test_a_wrong_source_is_named(run: Run, options: tuple[str, ...], said: str) -> None:
    result = run("fleet", "status", *options)

    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    "address", ["mqtt://127.0.0.1:{}/x", "mqtts://127.0.0.1:{}/x?ca=/nowhere.pem"]
)
def test_a_broker_that_cannot_be_reached_is_told_by_the_option(run: Run, address: str) -> None:
    result = run("fleet", "status", "--mqtt", address.format(free_port()))

    assert result.exit_code in (1, 2)
    assert lines_of(result)[2].startswith("  Try: check --mqtt mqtts://")
    assert "messaging." not in result.stderr


def test_a_password_of_the_broker_is_not_printed(run: Run) -> None:
    result = run("fleet", "status", "--mqtt", "mqtt://wood:secret@h h/x")

    assert "secret" not in result.stdout + result.stderr
