"""Metrics for Prometheus: what is published, who accepts it, and who asks for it."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from acoupi import data
from acoupi.alarms.episodes import Alarm
from acoupi.alarms.facts import Facts
from acoupi.cli.app import app
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.config.sensor import load_sensor
from acoupi.errors import ConfigurationError, DeviceError
from acoupi.services.construction import load_program
from acoupi.services.metrics import FAMILIES, PREFIX, SensorState, metrics
from acoupi.services.sensor_state import StateFinder
from acoupi.services.sensor_tasks import metrics_file
from acoupi.services.space_state import DiskState, GivenUpState, SpaceState
from acoupi.space import FileClass
from acoupi.stack.pulse import Pulse, PulseFile
from acoupi.stack.settings import Settings
from acoupi.system import Sensor, setup_program
from acoupi.system.page import PageSensor
from tests.services import require_program
from tests.unit.alarms.field_sound import health, heard

ROOT = Path(__file__).parent.parent.parent
MONITORING = ROOT / "compose" / "monitoring"
NOW = datetime(2024, 6, 20, 12, tzinfo=UTC)
SAMPLE = re.compile(r"(acoupi_\w+)(?:\{([^}]*)\})? (\S+)")
LABELS = {
    *("alarm", "class", "device", "folder", "kind", "messenger", "model", "program", "result"),
    *("service", "state", "version"),
}


def ask(*command: str | Path, **more: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program of others."""
    program, *arguments = command
    return subprocess.run(
        [require_program(str(program)), *arguments],
        check=False,
        capture_output=True,
        text=True,
        **more,
    )


def pulse(name: str) -> Pulse:
    return Pulse(name=name, pid=1, started_on=NOW, pulse_on=NOW, state="ready", done=7, failed=1)


FULL = SensorState(
    facts=Facts(
        now=NOW,
        cannot_record="",
        missing_s=0,
        planned_s=3600,
        recorded_s=3000,
        effort=dict.fromkeys(data.EffortState, 10.0),
        heard=(heard(NOW, -61, is_stuck=True),),
        floor_limit=-72.5,
        free_bytes=1e9,
        disk_hours=float("inf"),
        oldest_message_s=5,
        oldest_recording_s=0,
        clock_is_set=True,
        restarts={"beat": 2},
        down={"beat": "stopped"},
        temperature_celsius=51.2,
        has_low_voltage=False,
    ),
    pulses={"beat": pulse("beat"), "recording": pulse("recording")},
    alarms=[Alarm("microphone_stuck", NOW)],
    info={"version": "1", "program": "connected", "device": "7"},
    deployment=data.Deployment(name="oak", started_on=NOW),
    last_recording=data.Recording(
        path=None,
        duration=3,
        samplerate=48_000,
        deployment=data.Deployment(name="oak", started_on=NOW),
        created_on=NOW,
    ),
    recordings=dict.fromkeys(data.RecordingState, 3),
    analyses=dict.fromkeys(data.AnalysisState, 2),
    detections={'a "model"\\\nof two lines': 12},
    messages={"mqtt:hub:1883/acoupi": {"pending": 1, "dead": 2}},
    disks={Path("/home/data"): (5e9, 3e10)},
    clock_error_s=0.02,
    space=SpaceState(
        disks=[
            DiskState(
                folder=Path("/home/data"),
                free_bytes=5_000_000_000,
                total_bytes=30_000_000_000,
                reserve_bytes=500_000_000,
                acts_below_bytes=4_500_000_000,
                acts_until_bytes=6_000_000_000,
                hours_left=2.5,
            )
        ],
        given_up={
            FileClass.UNREMARKABLE: GivenUpState(recordings=3, seconds=9, bytes=12, last_on=NOW)
        },
        on_full="stop",
        is_full=False,
    ),
)


def samples(text: str) -> dict[tuple[str, str], float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = [SAMPLE.fullmatch(line) for line in lines]
    assert None not in found
    return {(one[1], one[2] or ""): float(one[3]) for one in found if one}


def test_promtool_accepts_all_that_is_published() -> None:
    done = ask("promtool", "check", "metrics", input=metrics(FULL))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_would_say_what_is_wrong() -> None:
    text = metrics(FULL).replace("# HELP acoupi_planned_seconds", "# about acoupi_planned_seconds")

    done = ask("promtool", "check", "metrics", input=text)

    assert done.returncode == 3


def test_families_are_few_and_labels_are_bounded() -> None:
    found = samples(metrics(FULL))
    names = {name for name, _ in found}

    assert len(FAMILIES) <= 60
    assert {one.name + ("_total" if one.kind == "counter" else "") for one in FAMILIES} == {
        name.removeprefix(PREFIX) for name in names
    }
    labels = {label for _, text in found for label in re.findall(r'(\w+)="', text)}
    assert labels == LABELS


def test_figures_are_those_of_the_sensor() -> None:
    found = samples(metrics(FULL))

    assert found["acoupi_service_up", 'service="beat"'] == 0
    assert found["acoupi_service_up", 'service="recording"'] == 1
    assert found["acoupi_alarm_active", 'alarm="microphone_stuck"'] == 1
    assert found["acoupi_alarm_active", 'alarm="disk_low"'] == 0
    assert found["acoupi_microphone_fault", 'kind="stuck"'] == 1
    assert found["acoupi_disk_full_in_seconds", ""] == float("inf")
    assert found["acoupi_disk_left_seconds", 'folder="/home/data"'] == 9000
    assert found["acoupi_given_up_bytes_total", 'class="unremarkable"'] == 12
    assert found["acoupi_effort_seconds", 'state="disk_full"'] == 10
    assert found["acoupi_last_recording_timestamp_seconds", ""] == NOW.timestamp()


def test_what_is_not_known_is_not_published() -> None:
    nothing = SensorState(Facts(now=NOW), {}, None, {"version": "1"})

    names = {name for name, _ in samples(metrics(nothing))}

    assert names == {
        "acoupi_build_info",
        "acoupi_state_timestamp_seconds",
    }


# Of a home


@pytest.fixture
def sensor(home: Path) -> Settings:
    settings = Settings(home=home)
    setup_program(
        settings,
        "connected",
        [
            *("--sensor.alarms.enabled", "true", "--messaging.file.path", "data/out.jsonl"),
            *("--sensor.metrics.textfile", "data/metrics/acoupi.prom"),
        ],
    )
    return settings


def record(settings: Settings, count: int) -> None:
    store = SqliteStore(settings.home / "data" / "metadata.db")
    begun = data.utc_now() - timedelta(minutes=5)
    deployment = data.Deployment(name="oak", started_on=begun)
    store.store_deployment(deployment)
    for number in range(count):
        report = data.CaptureReport(
            stream_id=uuid4(),
            first_frame=0,
            frames=144_000,
            samplerate_measured=None,
            clock_synchronised=True,
            clock_error_s=None,
            health=health(-61),
        )
        recording = data.Recording(
            path=settings.home / "data" / f"{number}.wav",
            duration=3,
            samplerate=48_000,
            deployment=deployment,
            created_on=begun + timedelta(seconds=3 * number),
            capture=report,
        )
        store.store_recording(recording)
        found = data.Detection(detection_score=0.9)
        output = data.ModelOutput(name_model="oak", recording=recording, detections=[found])
        store.store_model_output(output)


def test_the_command_prints_the_state_of_a_sensor(sensor: Settings) -> None:
    record(sensor, 4)
    outbox = SqliteMessageStore(sensor.home / "data" / "messages.db")
    outbox.store_message(data.Message(content="{}"))
    file = load_program(sensor).messengers[0]
    outbox.release_messages(file.name, outbox.claim_messages(file.name))
    PulseFile(sensor.run_dir, "recording").write()
    PulseFile(sensor.run_dir / "beat", "beat").write()  # as a container has it
    before = sorted((sensor.home / "data").iterdir())

    done = CliRunner().invoke(app, ["metrics"])

    assert done.exit_code == 0, done.output
    found = samples(done.stdout)
    assert found["acoupi_recordings", 'state="captured"'] == 4
    assert found["acoupi_detections_total", 'model="oak"'] == 4
    assert found["acoupi_effort_seconds", 'state="recorded"'] == pytest.approx(12)
    assert found["acoupi_microphone_noise_floor_dbfs", ""] == -61
    assert found["acoupi_messages", f'messenger="{file.name}",state="pending"'] == 1
    assert {text for name, text in found if name == "acoupi_service_up"} == {
        'service="recording"',
        'service="beat"',
    }
    assert [one for one in sorted((sensor.home / "data").iterdir()) if one not in before] == []


def test_the_worker_writes_the_text_file(sensor: Settings) -> None:
    record(sensor, 2)
    path = metrics_file(sensor, load_sensor(sensor))
    program = load_program(sensor)

    program.tasks["metrics_task"].function()

    assert path == sensor.home / "data" / "metrics" / "acoupi.prom"
    assert samples(path.read_text())["acoupi_recordings", 'state="captured"'] == 2
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in path.parent.iterdir()] == ["acoupi.prom"]


def test_with_a_page_that_has_metrics_they_are_beside_the_pulse_of_the_worker(home: Path) -> None:
    settings = Settings(home=home)
    options = ["--sensor.web.enabled", "true", "--sensor.web.metrics", "true"]
    setup_program(settings, "connected", options)
    page = PageSensor(settings)
    with pytest.raises(DeviceError, match="no metrics yet"):
        page.metrics()

    load_program(settings).tasks["metrics_task"].function()

    assert any(name == "acoupi_build_info" for name, _ in samples(page.metrics()))
    assert metrics_file(settings, load_sensor(settings)) == settings.run_dir / "acoupi.prom"
    page.close()


def test_without_the_setting_there_is_no_such_task(home: Path) -> None:
    settings = Settings(home=home)
    setup_program(settings, "connected", [])

    assert "metrics_task" not in load_program(settings).tasks


def test_a_text_file_that_nobody_would_read_is_refused(home: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        setup_program(
            Settings(home=home), "connected", ["--sensor.metrics.textfile", "metrics.txt"]
        )
    assert "must end with .prom" in str(raised.value.why)
    assert str(raised.value.help).endswith("--sensor.metrics.textfile data/metrics/acoupi.prom")


def test_the_page_is_one_of_the_services(home: Path) -> None:
    settings = Settings(home=home)
    setup_program(settings, "default", ["--sensor.web.enabled", "true"])
    for name in ("web", "beat"):
        PulseFile(settings.run_dir, name).write()
    limits: Any = Sensor.read(settings).own_config

    state = StateFinder(load_program(settings), settings, "default", limits.alarms)()

    assert set(state.pulses) == {"web", "beat"}


# Who reads them


def dashboard() -> Any:
    return json.loads((MONITORING / "acoupi.json").read_text())


def test_the_dashboard_asks_for_what_is_published() -> None:
    published = {name for name, _ in samples(metrics(FULL))}
    panels = dashboard()["panels"]

    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"acoupi_\w+", target["expr"])
    }

    assert asked <= published
    assert len(asked) > 25
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"acoupi"}


def test_promtool_understands_what_the_dashboard_asks_for(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{panel['id']}:{number}", "expr": target["expr"]}
        for panel in dashboard()["panels"]
        for number, target in enumerate(panel["targets"])
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    done = ask("promtool", "check", "rules", path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


HOWTO = (ROOT / "acoupi" / "docs" / "howto" / "grafana.md").read_text()


def test_prometheus_answers_for_each_of_many_sensors(tmp_path: Path) -> None:
    """Grafana itself is not to be had where tests run; this is what it asks Prometheus."""
    fills = FULL._replace(facts=replace(FULL.facts, disk_hours=10))
    published = {**samples(metrics(fills)), ("up", ""): 0.0}
    series = [
        {
            "series": f'{name}{{job="acoupi",instance="{sensor}"{labels and ","}{labels}}}',
            "values": f"{value}+{int(name.endswith('_total'))}x70",
        }
        for (name, labels), value in published.items()
        for sensor in ("oak", "pond")
    ]
    on_panels = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    on_page = re.findall(r"^\| [^|`]+ \| `(.+)` \|$", HOWTO, re.MULTILINE)
    answers = [
        {
            "expr": f"count(count by (instance) ({expr.replace('$instance', 'oak|pond')}))",
            "eval_time": "65m",
            "exp_samples": [{"labels": "{}", "value": 1 if "sum(" in expr else 2}],
        }
        for expr in [*on_panels, *on_page]
    ]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": answers}]
    path = tmp_path / "tests.yml"
    path.write_text(json.dumps({"tests": tests}))

    done = ask("promtool", "test", "rules", path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(on_page) == 5


def test_promtool_accepts_the_configuration_of_prometheus() -> None:
    done = ask("promtool", "check", "config", MONITORING / "prometheus.yml")

    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_on_the_page(tmp_path: Path) -> None:
    shown = re.search(r"^```yaml\n(.*?)^```$", HOWTO, re.MULTILINE | re.DOTALL)
    assert shown
    path = tmp_path / "prometheus.yml"
    path.write_text(shown[1])

    done = ask("promtool", "check", "config", path)

    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_are_those_of_the_sensor_and_of_one_that_is_silent(tmp_path: Path) -> None:
    series = [
        {"series": 'acoupi_alarm_active{instance="oak",alarm="disk_low"}', "values": "0x4 1x10"},
        {"series": 'acoupi_state_timestamp_seconds{instance="oak"}', "values": "0+60x3 180x30"},
    ]
    known = {"instance": "oak", "alertname": "AcoupiAlarm", "alarm": "disk_low"}
    told = [
        {"eval_time": "4m", "alertname": "AcoupiAlarm", "exp_alerts": []},
        {
            "eval_time": "6m",
            "alertname": "AcoupiAlarm",
            "exp_alerts": [{"exp_labels": known, "exp_annotations": {"summary": "oak: disk_low"}}],
        },
        {"eval_time": "12m", "alertname": "AcoupiSilent", "exp_alerts": []},
        {
            "eval_time": "15m",
            "alertname": "AcoupiSilent",
            "exp_alerts": [
                {
                    "exp_labels": {"instance": "oak", "alertname": "AcoupiSilent"},
                    "exp_annotations": {"summary": "oak has said nothing for 12m 0s"},
                }
            ],
        },
    ]
    tests = [{"interval": "1m", "input_series": series, "alert_rule_test": told}]
    path = tmp_path / "tests.yml"
    path.write_text(json.dumps({"rule_files": [str(MONITORING / "alerts.yml")], "tests": tests}))

    done = ask("promtool", "test", "rules", path)

    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_accepts_the_overlay_beside_a_bundle(home: Path) -> None:
    setup_program(Settings(home=home), "connected", [], target="compose")
    shutil.copy(ROOT / "compose" / "monitoring.yml", home)
    shutil.copytree(MONITORING, home / "monitoring")

    done = ask(
        *("docker", "compose", "-f", "docker-compose.yml", "-f", "monitoring.yml"),
        *("config", "--format", "json"),
        cwd=home,
    )

    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    added = {"grafana", "node-exporter", "prometheus"}
    assert added < set(services)
    for name in added:
        assert set(services[name]["networks"]) == {"monitoring"}
        assert services[name]["cap_drop"] == ["ALL"]
        sources = [one["source"] for one in services[name]["volumes"] if one["type"] == "bind"]
        assert all(
            one.startswith((f"{home}/monitoring", f"{home}/data/metrics")) for one in sources
        )
    assert not any(added & set(one.get("networks") or {}) for one in services.values())
