"""``acoupi review``: what people say of detections, one key each, and what follows from it."""

import base64
import csv
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acoupi import data
from acoupi.cli.listening import inline_picture
from acoupi.clips import ClipSettings
from acoupi.components import SqliteStore
from acoupi.heard import Verdict, VerdictRow
from acoupi.sampling import Sampling
from acoupi.services.construction import load_program
from acoupi.stack.settings import Settings
from tests.cli.support import Run, data_of
from tests.cli.test_heard import write_tone
from tests.services import DEADLINE, eventually
from tests.stores import at, detection, output, recording

BAT, BIRD = "Myotis nattereri", "Turdus merula"


def metadata(sensor: Path) -> SqliteStore:
    paths = json.loads((sensor / "config" / "program.json").read_text())["paths"]
    return SqliteStore(Path(paths["db_metadata"]))


def add(
    sensor: Path, store: SqliteStore, minute: int, *found: data.Detection, file: bool = True
) -> data.Recording:
    """Store a recording of 2 s, and what was found in it."""
    sound = sensor / "data" / "recordings" / f"{minute}.wav"
    one = recording(None, 60 * minute, duration=2, samplerate=48_000)
    store.store_recording(one)
    made = output(one, *found)
    store.store_model_output(made)
    if file:
        write_tone(sound)
        store.update_recording_path(one, sound)
    else:
        store.end_recording(one, data.RecordingState.DELETED)
    store.sample_recording(one, [made])
    return one


def bat(score: float) -> data.Detection:
    box = data.BoundingBox.from_coordinates(0.25, 3_000, 0.75, 5_000)
    return detection(score, ("species", BAT, score), location=box)


@pytest.fixture
def found(sensor: Path) -> list[data.Detection]:
    """Three detections that have files, the oldest first, and one without."""
    detections = [bat(0.9), bat(0.7), detection(0.6, ("species", BIRD, 0.6))]
    store = metadata(sensor)
    for minute, one in enumerate(detections):
        add(sensor, store, minute, one)
    add(sensor, store, 3, bat(0.8), file=False)
    store.close()
    return detections


Found = list[data.Detection]


def verdicts(run: Run, *options: str) -> list[dict[str, Any]]:
    return data_of(run("review", "list", "--json", *options))


def test_clips_are_reviewed_with_one_key_each_the_newest_first(found: Found, run: Run) -> None:
    result = run("review", "next", "--reviewer", "Ana", input="rwoTurdus viscivorus\n")

    assert result.exit_code == 0, result.stderr
    assert "1/3" in result.stdout
    assert "3 of 3 clips reviewed" in result.stdout
    assert [(one["detection_id"], one["verdict"], one["verdict_species"], one["reviewer"])
            for one in verdicts(run)] == [
        (str(found[2].id), "right", None, "Ana"),
        (str(found[1].id), "wrong", None, "Ana"),
        (str(found[0].id), "other", "Turdus viscivorus", "Ana"),
    ]  # fmt: skip
    assert "nothing left" in run("review", "next").stdout


def test_a_clip_can_be_skipped_and_a_verdict_undone_without_being_erased(
    found: Found, run: Run
) -> None:
    result = run("review", "next", input="swzruq")

    assert "2 of 3 clips reviewed" in result.stdout
    given = [(one["detection_id"], one["verdict"]) for one in verdicts(run)]
    assert given == [
        (str(found[1].id), "wrong"),
        (str(found[1].id), "withdrawn"),
        (str(found[1].id), "right"),
        (str(found[0].id), "unsure"),
    ]
    left = data_of(run("detections", "list", "--verdict", "none", "--state", "kept", "--json"))
    assert [one["detection_id"] for one in left] == [str(found[2].id)]
    assert "✓" in run("detections", "list", "--verdict", "right").stdout


def test_an_unknown_key_explains_the_keys_and_the_end_of_the_input_ends_it(
    found: Found, run: Run
) -> None:
    result = run("review", "next", input="x")

    assert result.stdout.count("another species") == 2
    assert "0 of 3 clips reviewed" in result.stdout
    assert verdicts(run) == []


def test_each_clip_is_drawn_to_a_file(found: Found, run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "clip.png"
    result = run("review", "next", "--picture", str(picture), input="rq")

    assert str(picture) in result.stdout
    assert picture.read_bytes()[:4] == b"\x89PNG"
    missing = tmp_path / "none" / "clip.png"
    assert "cannot write" in run("review", "next", "--picture", str(missing)).stderr


def test_a_terminal_that_can_show_pictures_gets_them() -> None:
    png = bytes(range(256)) * 40
    kitty = inline_picture(png, {"TERM": "xterm-kitty"}) or ""
    parts = re.findall(r"\x1b_G(.*?);(.*?)\x1b\\", kitty)

    assert base64.b64decode("".join(part for _, part in parts)) == png
    assert [head for head, _ in parts] == ["a=T,f=100,m=1", "m=1", "m=1", "m=0"]
    iterm = inline_picture(png, {"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}) or ""
    assert base64.b64decode(iterm.rpartition(":")[2].rstrip("\a")) == png
    assert inline_picture(png, {"TERM": "xterm-256color"}) is None


def test_a_machine_without_a_sound_output_says_so_and_the_review_continues(
    found: Found, run: Run
) -> None:
    result = run("review", "next", "--slow", "0.1", input="pr")

    assert "1 of 3 clips reviewed" in result.stdout


def test_a_verdict_is_given_by_options_where_there_is_no_terminal(found: Found, run: Run) -> None:
    id_ = str(found[0].id)
    result = run(
        "review", "set", id_[:13], "other", "--species", BIRD, "--note", "a\tsong",
        "--reviewer", "Bo",
    )  # fmt: skip

    assert result.exit_code == 0, result.stderr
    (one,) = verdicts(run)
    assert one["note"] == "a\tsong"
    assert one["given_time"].endswith("Z")
    assert "other Turdus merula by Bo: a" in run("detections", "show", id_).stdout
    assert "Turdus merula" in run("review", "list").stdout
    (row,) = csv.DictReader(io.StringIO(run("review", "list", "--csv").stdout))
    assert row["detection_id"] == id_


def test_a_whole_recording_has_a_verdict_too(found: Found, run: Run) -> None:
    (one, *_) = data_of(run("recordings", "list", "--json"))
    run("review", "set", one["recording_id"], "wrong", "--species", BAT)

    (said,) = verdicts(run)
    assert (said["recording_id"], said["detection_id"]) == (one["recording_id"], None)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["12345678", "right"], "no detection"),
        (["{id}", "rihgt"], "it is one of right"),
    ],
)
def test_what_cannot_be_said_is_refused(
    found: Found, run: Run, arguments: list[str], why: str
) -> None:
    result = run("review", "set", *(one.format(id=found[0].id) for one in arguments))

    assert result.exit_code == 2
    assert why in result.stderr
    assert verdicts(run) == []


# The sample


def test_the_sample_comes_first_one_of_each_kind_and_recordings_without_detections_too(
    sensor: Path, run: Run
) -> None:
    store = metadata(sensor)
    add(sensor, store, 0, bat(0.5))  # before there was a sample
    store.sampling = Sampling(size=2, quiet_per_night=1)
    for minute in range(1, 9):
        add(sensor, store, minute, bat(0.95))
    add(sensor, store, 9, detection(0.6, ("species", BIRD, 0.6)))
    quiet = add(sensor, store, 10)
    store.close()

    assert len(data_of(run("detections", "list", "--sample", "--json"))) == 3
    assert len(data_of(run("recordings", "list", "--sample", "--json"))) == 4
    assert len(data_of(run("recordings", "list", "--json"))) == 11
    result = run("review", "next", input=f"rrw{BAT}\nr")

    assert "4 of 4 clips reviewed" in result.stdout
    shown = [line for line in result.stdout.splitlines() if "/4 " in line]
    kinds = ["nothing" if "nothing" in one else BIRD if BIRD in one else BAT for one in shown]
    assert sorted(kinds[:3]) == [BAT, BIRD, "nothing"]
    assert kinds[3] == BAT
    assert [one["verdict_species"] for one in verdicts(run) if one["detection_id"] is None] == [BAT]
    assert [one["recording_id"] for one in verdicts(run) if one["detection_id"] is None] == [
        str(quiet.id)
    ]
    assert "in the sample" in run("review", "next").stdout
    assert "/7" in run("review", "next", "--all", input="q").stdout


def test_the_settings_of_the_sample_reach_the_store_of_the_program(sensor: Path, run: Run) -> None:
    assert run("config", "set", "sensor.review.sample_size", "3").exit_code == 0
    program: Any = load_program(Settings(home=sensor))
    one = recording(None, 0)
    program.store.store_recording(one)

    assert program.store.sample_recording(one, [output(one, bat(0.5))])
    assert not program.store.sample_recording(one, [output(one)])


def test_the_settings_of_clips_reach_the_store_of_the_program(sensor: Path, run: Run) -> None:
    before = load_program(Settings(home=sensor))
    assert run("config", "set", "sensor.clips.enabled", "true").exit_code == 0
    assert run("config", "set", "sensor.clips.after", "2.5").exit_code == 0
    program: Any = load_program(Settings(home=sensor))

    assert not before.store.clips.are_on
    assert program.store.clips == ClipSettings(True, 1.0, 2.5)


# Calibration


@pytest.fixture
def reviewed(sensor: Path, run: Run) -> None:
    """Sixty bats, right with a chance that grows with the score, and two birds."""
    random = np.random.default_rng(3)
    store = metadata(sensor)
    for number in range(62):
        score = 0.9 if number >= 60 else round(0.3 + 0.7 * number / 60, 3)
        found = bat(score) if number < 60 else detection(score, ("species", BIRD, score))
        one = add(sensor, store, number, found, file=False)
        is_right = random.random() < 1 / (1 + np.exp(6 - 10 * score))
        said = Verdict.RIGHT if is_right else Verdict.WRONG
        store.add_verdict(VerdictRow(one.id, found.id, said, None, "Ana", "", at(0)))
    store.close()


def test_calibrate_tells_precision_and_score_and_the_next_command(
    reviewed: None, sensor: Path, run: Run, tmp_path: Path
) -> None:
    assert run("setup", "--program", "demo", "--target", "fake").exit_code == 0
    result = run("review", "calibrate", "-o", str(tmp_path / "calibration.csv"))

    assert result.exit_code == 0, result.stderr
    assert f"{BAT} (bats)" in result.stdout
    assert "reviewed    60" in result.stdout
    assert "dicts are needed" in result.stdout
    value = json.loads((sensor / "config" / "program.json").read_text())["detections"]["threshold"]
    assert f"from the current threshold, {value:g}, up" in result.stdout
    command = result.stdout.rpartition("Next: acoupi ")[2].split()
    assert command[:3] == ["config", "set", "detections.threshold"]
    assert run(*command).exit_code == 0
    assert (tmp_path / "calibration.csv").read_text().startswith("species,model,n,right,")

    (bats, birds) = data_of(run("review", "calibrate", "--json"))
    assert bats["precision"]["low"] < bats["precision"]["value"] < bats["precision"]["high"]
    assert 0.7 < bats["threshold90"]["value"] <= float(command[3])
    assert birds["n"] == 2
    assert "precision" not in birds


def test_a_program_without_a_threshold_is_told_so(reviewed: None, run: Run) -> None:
    result = run("review", "calibrate")

    assert "of all detections" in result.stdout
    assert "no setting for its lowest score" in result.stdout
    assert "config set" not in result.stdout


def test_too_few_verdicts_are_refused(found: Found, run: Run) -> None:
    run("review", "next", input="rrr")
    result = run("review", "calibrate")

    assert result.exit_code == 1
    assert "needs 20 verdicts" in result.stderr
    assert "the most for any species is 2" in result.stderr
    assert "acoupi review next" in result.stderr


# On a terminal


class Terminal:
    """A person at a terminal: reads until something is shown, and presses keys."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = b""

    def wait_for(self, text: str) -> str:
        """Return what was shown, up to a text."""
        end = time.monotonic() + 60
        while text.encode() not in self._shown:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} is not in {self._shown.decode()!r}"
            if select.select([self._descriptor], [], [], left)[0]:
                self._shown += os.read(self._descriptor, 65_536)
        before, _, self._shown = self._shown.partition(text.encode())
        return before.decode()

    def press(self, key: str) -> None:
        """Press a key once it is waited for: what is typed earlier is lost, as getchar does it."""
        eventually(lambda: not self._waits_for_lines(), f"{key!r} is waited for")
        os.write(self._descriptor, key.encode())

    def type(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())

    def _waits_for_lines(self) -> bool:
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ICANON)


@contextmanager
def on_terminal(*words: str) -> Iterator[Terminal]:
    """Run the command line on a terminal of its own; it ends well."""
    ours, theirs = pty.openpty()
    command = [Path(sys.executable).with_name("acoupi"), *words]
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(ours)
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
            os.close(ours)


def test_ten_clips_are_walked_through_on_a_terminal(sensor: Path, run: Run, tmp_path: Path) -> None:
    store = metadata(sensor)
    for minute in range(10):
        add(sensor, store, minute, bat(0.9 - minute / 100))
    store.close()
    picture = tmp_path / "clip.png"

    with on_terminal("review", "next", "--reviewer", "Ana", "--picture", str(picture)) as terminal:

        def see(place: int) -> None:
            terminal.wait_for(f"{place}/10")
            terminal.wait_for("q quit")
            assert picture.read_bytes().startswith(b"\x89PNG")

        for place, key in enumerate("rrwu", 1):
            see(place)
            terminal.press(key)
        see(5)
        terminal.press("z")  # back to the last one, which is wrong
        terminal.wait_for("withdrawn")
        see(4)
        terminal.press("w")
        for place, key in enumerate("rsorrr", 5):
            see(place)
            terminal.press(key)
            if key == "o":
                terminal.wait_for("Which species")
                terminal.type("Turdus viscivorus")
        terminal.wait_for("9 of 10 clips reviewed")

    said = " ".join(one["verdict"] for one in verdicts(run))
    assert said == "right right wrong unsure withdrawn wrong right other right right right"
    left = run("review", "next", "--reviewer", "Ana", "--picture", str(picture), input="q")
    assert "1/1" in left.stdout
