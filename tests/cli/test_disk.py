"""``acoupi disk``: a policy is checked before it is kept; what went, and what goes, is told."""

import json
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.data import EffortState
from acoupi.services.construction import load_program
from acoupi.space import FileClass
from acoupi.stack.settings import Settings
from tests.cli.support import Run, data_of, lines_of
from tests.cli.test_review import metadata
from tests.stores import SITE, at, detection, output, recording

MEGABYTE = 1_000_000


def turn_on(run: Run, **settings: Any) -> None:
    """Turn the policy on, with a reserve that any disk here has."""
    for name, value in {"reserve_megabytes": 16, **settings, "enabled": True}.items():
        run("config", "set", f"sensor.disk.{name}", json.dumps(value))


def keep(sensor: Path, minute: int, *found: data.Detection) -> data.Recording:
    """Keep a recording of 2 s, with what was found in it."""
    store = metadata(sensor)
    one = recording(None, 60 * minute, duration=2, samplerate=48_000)
    store.store_recording(one)
    store.store_model_output(output(one, *found))
    path = sensor / "data" / "recordings" / f"{minute}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(8192))
    store.update_recording_path(one, path)
    return one


def give_up(sensor: Path, one: data.Recording) -> None:
    """Give a recording up, as the task does."""
    settings = Settings(home=sensor)
    store: Any = load_program(settings).store  # type: ignore[attr-defined]
    files = store.get_spare_files(FileClass.UNREMARKABLE, store.space)
    chosen = [(spare, 8192) for spare in files if spare.path.stem == str(minute_of(one))]
    store.give_up(chosen, FileClass.UNREMARKABLE, "1 GB of 64 GB were free, 2 GB should be")
    for spare, _ in chosen:
        spare.path.unlink()
        store.note_removed([spare.path])


def minute_of(one: data.Recording) -> int:
    return round((one.created_on - at(0)).total_seconds() / 60)


def test_a_sensor_without_a_policy_gives_nothing_up_and_says_how_to_have_one(
    run: Run, sensor: Path
) -> None:
    result = run("disk")

    assert result.exit_code == 2
    assert "acoupi config set sensor.disk.enabled true" in lines_of(result)[-1]
    assert not (sensor / "config" / "sensor.json").exists()
    names = json.loads((sensor / "config" / "schedule.json").read_text())
    assert "space_task" not in json.dumps(names)


def test_a_policy_that_cannot_hold_is_refused_by_name_and_changes_nothing(
    run: Run, sensor: Path, tmp_path: Path
) -> None:
    turn_on(run)
    before = (sensor / "config" / "sensor.json").read_bytes()
    one, other = str(tmp_path / "a"), str(tmp_path / "b")
    below = str(tmp_path / "a" / "c")
    for name, value, told in (
        ("reserve_megabytes", 10**9, "cannot stay free on the disk of"),
        ("quotas", {"unremarkable": 60, "review": 41}, "101 %"),
        ("order", [], "order"),
        ("folders", {one: 60, other: 50}, "110%"),
        ("folders", {one: 60, below: 10}, "is below"),
        ("folders", {one: 60}, f"no recordings below {one}"),
        ("mounts", [one], f"no disk is mounted at {one}"),
    ):
        result = run("config", "set", f"sensor.disk.{name}", json.dumps(value))

        assert result.exit_code == 2
        assert name in result.stderr
        assert told in " ".join(result.stderr.split())
        assert (sensor / "config" / "sensor.json").read_bytes() == before
    assert not list(tmp_path.glob("[abc]"))


def test_a_quota_is_of_a_folder_where_recordings_are_or_come(
    run: Run, sensor: Path, tmp_path: Path
) -> None:
    turn_on(run)
    program = json.loads((sensor / "config" / "program.json").read_text())
    (tmp_path / "before" / "2025").mkdir(parents=True)
    (tmp_path / "before" / "2025" / "a.WAV").write_bytes(b"RIFF")
    for folder in (
        program["paths"]["recordings"], f"{program['paths']['recordings']}/bats",
        str(sensor), str(tmp_path / "before"),
    ):  # fmt: skip
        assert run("config", "set", "sensor.disk.folders", json.dumps({folder: 90})).exit_code == 0


def test_a_second_disk_that_nobody_looks_after_is_refused(run: Run, sensor: Path) -> None:
    """With the policy off, the card was written where the disk was missing."""
    result = run("config", "set", "sensor.disk.mounts", '["/media/usb"]')

    assert result.exit_code == 2
    said = lines_of(result)
    assert "sensor.disk.mounts" in said[0]
    assert "sensor.disk.enabled true" in said[2]
    assert not (sensor / "config" / "sensor.json").exists()


def test_only_detections_cannot_be_kept_where_no_model_makes_them(
    run: Run, target: object, home: Path
) -> None:
    run("setup", "--program", "default", "--target", "fake")
    turn_on(run)

    result = run("config", "set", "sensor.disk.on_full", "detections_only")

    assert result.exit_code == 2
    assert "it has no model" in result.stderr


def test_the_reserve_is_by_default_an_hour_of_the_schedule(run: Run, sensor: Path) -> None:
    turn_on(run, reserve_megabytes=None)
    program = json.loads((sensor / "config" / "program.json").read_text())
    rate = program["microphone"]["samplerate"] * 2
    share = program["recording"]["duration"] / program["recording"]["interval"]
    keep(sensor, 0)

    (disk,) = data_of(run("disk", "--json"))["disks"]

    assert disk["reserve_bytes"] == max(500 * MEGABYTE, round(3600 * rate * share))


def test_it_tells_the_room_and_what_goes_next_and_why(run: Run, sensor: Path) -> None:
    turn_on(run)
    keep(sensor, 0)
    keep(sensor, 10, detection(0.8, ("species", "bat", 0.8)))

    told = data_of(run("disk", "--plan", "--json"))

    (disk,) = told["disks"]
    assert disk["free_bytes"] < disk["total_bytes"]
    assert disk["reserve_bytes"] == 16 * MEGABYTE
    assert disk["hours_left"] > 0
    counts = {one["class"]: one["files"] for one in told["classes"]}
    assert counts == {"refused": None, "unremarkable": 1, "beyond_best": 0, "review": 0}
    assert told["given_up"] == {}
    is_low = disk["free_bytes"] < disk["acts_below_bytes"]
    assert [one["class"] for one in told["plan"]] == ["unremarkable"] * is_low
    text = run("disk", "--plan").stdout
    assert "nothing was found in it" in text
    assert "Nothing was given up so far." in text


def test_a_plan_says_that_room_is_lacking_where_nothing_may_go(run: Run, sensor: Path) -> None:
    everything = {"high_percent": 0.02, "low_percent": 0.01}  # more is always in use
    run("config", "set", "sensor.disk", json.dumps({"reserve_megabytes": 16, **everything}))
    turn_on(run)

    told = " ".join(run("disk", "--plan").stdout.split())

    assert "Nothing may be deleted, although" in told
    assert "should be" in told


def test_what_went_is_told_by_every_command_and_stays_heard(run: Run, sensor: Path) -> None:
    turn_on(run)
    one = keep(sensor, 0)
    keep(sensor, 10)
    give_up(sensor, one)
    metadata(sensor).update_deployment(SITE.model_copy(update={"ended_on": at(3600)}))

    gone = data_of(run("disk", "--json"))["given_up"]["unremarkable"]
    assert (gone["recordings"], gone["seconds"], gone["bytes"]) == (1, 2.0, 8192)
    assert "unremarkable" in run("disk").stdout
    shown = data_of(run("recordings", "show", str(one.id), "--json"))
    assert shown["given_up"]["class"] == "unremarkable"
    assert "2 GB should be" in run("recordings", "show", str(one.id)).stdout
    effort = data_of(run("effort", "--json"))
    assert effort["given_up_for_room"]["unremarkable"]["seconds"] == 2.0
    assert effort["states_s"][EffortState.RECORDED.value] == 4.0
    assert "for room" in run("effort").stdout
    assert "1 files given up" in run("status").stdout
    metrics = run("metrics").stdout
    assert 'acoupi_given_up_recordings_total{class="unremarkable"} 1.0' in metrics
    assert 'acoupi_given_up_bytes_total{class="unremarkable"} 8192.0' in metrics
    assert "acoupi_disk_left_seconds{" in metrics
    assert "acoupi_disk_reserve_bytes{" in metrics
    assert "1 files given up" in run("deployment", "status").stdout
    assert data_of(run("deployment", "status", "--json"))["space"]["is_full"] is False


def test_a_protected_recording_is_not_spare(run: Run, sensor: Path) -> None:
    turn_on(run)
    one = keep(sensor, 0)

    def unremarkable() -> int:
        classes = data_of(run("disk", "--json"))["classes"]
        return int(next(each["files"] for each in classes if each["class"] == "unremarkable"))

    assert run("recordings", "protect", str(one.id)).exit_code == 0
    assert unremarkable() == 0
    assert run("recordings", "protect", "--undo", str(one.id)).exit_code == 0
    assert unremarkable() == 1
