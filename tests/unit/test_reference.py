"""The reference is complete: whatever the code has is on its page, and as the code says it."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
import typer

import acoupi
from acoupi import data, errors
from acoupi.alarms.episodes import Alarm
from acoupi.alarms.rules import RULES
from acoupi.audio.guano import (
    CLIP_OF,
    FIELDS,
    MISSING_AFTER,
    MISSING_BEFORE,
    guano_of_recording,
)
from acoupi.cli.app import app
from acoupi.cli.handler import INTERRUPTED
from acoupi.components import (
    DetectionThresholdMessageBuilder,
    FullModelOutputMessageBuilder,
    StatisticsDetectionsSummariser,
    ThresholdsDetectionsSummariser,
)
from acoupi.config.names import CELERY, SENSOR
from acoupi.config.sensor import sensor_schema
from acoupi.config.tree import describe
from acoupi.devices.metrics import get_free_memory
from acoupi.services.metrics import FAMILIES, PREFIX
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.loading import load_program_class
from acoupi.stack.variables import COMMAND_VARIABLES, SERVICE_VARIABLES, VARIABLES
from acoupi.tasks import generate_heartbeat_task
from acoupi.tasks.alarms import alarm_message
from acoupi.testing import InMemoryStore, ListMessenger, make_deployment, make_recording

ROOT = Path(__file__).parents[2]
PACKAGE = Path(acoupi.__path__[0])
REFERENCE = PACKAGE / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def rows(name: str) -> set[str]:
    """What is in the first column of the tables of a page."""
    found = re.findall(r"^\| `([^`]+)`", page(name), re.MULTILINE)
    return {one.replace("\\|", "|") for one in found}


def test_the_reference_is_what_the_code_says() -> None:
    ask = [sys.executable, ROOT / "scripts" / "reference.d", "--check"]

    done = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


# --- commands ---


def commands(group: Any = None, path: tuple[str, ...] = ("acoupi",)) -> Iterator[tuple[str, Any]]:
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        yield " ".join((*path, name)), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=str)
def test_every_command_is_there_with_its_options(path: str, command: Any) -> None:
    section = page("commands").partition(f"## {path}\n")[2].partition("\n## ")[0]

    wanted = [name for one in command.params if not getattr(one, "hidden", False)
              for name in (*one.opts, *one.secondary_opts) if name.startswith("--")]  # fmt: skip

    assert section
    assert [name for name in wanted if name != "--help" and name not in section] == []


# --- settings and variables ---


@pytest.mark.parametrize("program", ["default", "connected", "demo", "test"])
def test_every_setting_of_a_program_is_there(program: str) -> None:
    tree = describe(load_program_class(program).get_config_schema())

    assert {node.name for node in tree.walk() if not node.is_section} <= rows("all-settings")


@pytest.mark.parametrize(
    "tree", [describe(sensor_schema(), SENSOR), describe(CelerySettings, CELERY)], ids=str
)
def test_every_setting_beside_the_program_is_there(tree: Any) -> None:
    assert {node.name for node in tree.walk() if not node.is_section} <= rows("all-settings")


def test_every_setting_has_a_meaning() -> None:
    table = page("all-settings")

    assert re.findall(r"^\| (`[^`]+`) .*\|  \|$", table, re.MULTILINE) == []


def test_every_variable_that_the_code_names_is_there() -> None:
    named = {
        word
        for path in PACKAGE.rglob("*.py")
        for word in re.findall(r"""["'](ACOUPI_[A-Z_]*[A-Z])["']""", path.read_text())
    }
    known = {one.name for one in VARIABLES} | set(COMMAND_VARIABLES)
    begins = tuple(one.name for one in VARIABLES if one.is_prefix)

    assert {word for word in named if not word.startswith(begins)} <= known
    assert {name.rstrip("…") for name in rows("variables")} == known | {
        f"{name}NAME" for name in SERVICE_VARIABLES
    }


# --- messages ---


def output() -> data.ModelOutput:
    box = data.BoundingBox.from_coordinates(0.01, 20_000, 0.02, 40_000)
    tag = data.PredictedTag(data.Tag("species", "Myotis"), 0.8)
    found = data.Detection(location=box, detection_score=0.9, tags=[tag])
    recording = make_recording(deployment=make_deployment(latitude=51.5, longitude=-0.1))
    made = data.Provenance(model="bats", model_version="1", weights="5f70", image="sha256:1")
    return data.ModelOutput(
        name_model="bats", recording=recording, detections=[found], provenance=made
    )


def summaries() -> Iterator[data.Message]:
    store, found = InMemoryStore(), output()
    store.store_recording(found.recording)
    store.store_model_output(found)
    for kind in (StatisticsDetectionsSummariser, ThresholdsDetectionsSummariser):
        made = kind(store, timedelta(hours=1)).build_summary(
            found.recording.created_on + timedelta(minutes=1)
        )
        assert isinstance(made, data.Message)
        yield made


def heartbeats() -> Iterator[data.Message]:
    messenger = ListMessenger()
    generate_heartbeat_task([messenger], metrics=[get_free_memory])()
    yield from messenger.sent


def alarms() -> Iterator[data.Message]:
    began = datetime(2024, 8, 1, tzinfo=UTC)
    alarm = Alarm(key=RULES[0].key, since=began, detail="no microphone", ended_on=began)
    for state in ("raised", "cleared"):
        yield alarm_message(alarm, state, "oak")  # type: ignore[arg-type]


def detections() -> Iterator[data.Message]:
    yield FullModelOutputMessageBuilder().build_message(output())
    unknown = output().model_copy(update={"provenance": None})
    part = DetectionThresholdMessageBuilder(0.5).build_message(unknown)
    assert part is not None
    yield part


MESSAGES = {
    "detection": detections,
    "summary": summaries,
    "heartbeat": heartbeats,
    "alarm": alarms,
}


def fields_of(content: Any, kind: str, before: str = "") -> Iterator[str]:
    """Every field of a message, as the page names it."""
    if isinstance(content, list):
        for one in content:
            yield from fields_of(one, kind, before.removesuffix(".") + "[].")
    elif isinstance(content, dict):
        for name, value in content.items():
            yield before + name
            if (kind, name) != ("summary", "tags"):  # below it are the tags that were heard
                yield from fields_of(value, kind, f"{before}{name}.")


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_holds_what_the_page_and_its_schema_say(kind: str) -> None:
    schema = json.loads((REFERENCE / f"{kind}.schema.json").read_text())
    section = page("message-fields").partition(f"## {kind.capitalize()}\n")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `([^`]+)` \| [^|]* \| (.*) \|$", section, re.MULTILINE))
    contents = [json.loads(one.content) for one in MESSAGES[kind]()]

    for content in contents:
        jsonschema.validate(content, schema, jsonschema.Draft202012Validator)
    sent = {name for content in contents for name in fields_of(content, kind)}

    assert contents
    assert sent <= set(told)
    assert set(told) - sent <= {"not_analysed"}  # none failed
    assert [name for name, meaning in told.items() if not meaning] == []


def test_every_kind_of_message_that_is_made_is_there() -> None:
    schemas = {path.name.removesuffix(".schema.json") for path in REFERENCE.glob("*.schema.json")}

    assert schemas == set(MESSAGES)
    assert schemas <= {one.value for one in data.MessageType}


def test_a_message_without_a_field_would_be_noticed() -> None:
    schema = json.loads((REFERENCE / "alarm.schema.json").read_text())
    content = json.loads(next(alarms()).content)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: content[name] for name in content if name != "since"}, schema)


# --- files, effort, exit codes, metrics, names ---


OF_CLIPS = {CLIP_OF, MISSING_BEFORE, MISSING_AFTER}
"""Written by `acoupi.audio.cutting` alone."""


def test_every_field_of_acoupi_itself_is_named_in_one_place() -> None:
    named = {
        word.rstrip("|")
        for path in PACKAGE.rglob("*.py")
        for word in re.findall(r""""(Acoupi\|[^"]+)\"""", path.read_text())
        if path.name != "guano.py"
    }

    assert named == set()


def test_every_guano_field_that_is_written_is_there() -> None:
    report = data.CaptureReport(
        stream_id=uuid4(),
        first_frame=100,
        frames=800,
        samplerate_measured=8000.1,
        clock_synchronised=True,
        clock_error_s=0.01,
        boot_clock=data.BootClock(boot_id=uuid4(), offset_s=1.0),
        clock_corrected_s=2.0,
        overruns=[data.Overrun(110, 5)],
        gap_before_frames=7,
        incomplete=data.IncompleteReason.DEVICE_LOST,
        incomplete_detail="it was unplugged",
        health=data.MicrophoneHealth(
            rms_dbfs=-30, peak_dbfs=-3, clipped_share=0, dc_offset=0, is_silent=False,
            is_stuck=False, noise_floor_dbfs=-60,
        ),
    )  # fmt: skip
    deployment = make_deployment(latitude=51.5, longitude=-0.1)
    recording = make_recording(deployment=deployment, capture=report, time_expansion=10)

    written = guano_of_recording(recording, serial="oak")

    assert set(written) | OF_CLIPS == set(FIELDS)
    assert rows("guano") == set(FIELDS)


def test_every_effort_state_is_there() -> None:
    assert rows("effort-states") == {one.value for one in data.EffortState}


def test_every_exit_code_and_every_error_is_there() -> None:
    found = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    codes = {str(getattr(errors, name).exit_code) for name in found} | {"0", str(INTERRUPTED)}

    assert found <= rows("exit-codes")
    assert codes <= set(re.findall(r"^\| (\d+) \|", page("exit-codes"), re.MULTILINE))


def test_every_metric_is_there() -> None:
    names = {PREFIX + one.name for one in FAMILIES}

    assert {name.removesuffix("_total") for name in rows("metric-families")} == names


PUBLIC = re.findall(r"^## (acoupi[\w.]*)$", page("api"), re.MULTILINE)


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_there(module: str) -> None:
    section = page("api").partition(f"## {module}\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^- `(\w+)", section, re.MULTILINE))

    assert told == set(importlib.import_module(module).__all__)


def test_the_modules_that_published_programs_import_are_there() -> None:
    assert {
        "acoupi.data",
        "acoupi.components",
        "acoupi.components.types",
        "acoupi.devices",
        "acoupi.programs",
        "acoupi.programs.templates",
        "acoupi.system",
        "acoupi.tasks",
    } <= set(PUBLIC)
