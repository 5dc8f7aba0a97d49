"""How fast a hub takes in what sensors report, and reads ten million detections.

Needs PostgreSQL (Debian's). What takes in and its database share one core; who sends has another,
if there is one. The database waits for its disk.
"""

import gzip
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import requests

sys.path.insert(0, str(Path(__file__).parents[2]))

from acoupi import data
from acoupi.hub.database import HubDatabase
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.reports import DeploymentReport, OutputReport, RecordingReport, Report
from tests.postgres import running_postgres
from tests.services import eventually, free_port

START = datetime(2024, 6, 1, 21, tzinfo=UTC)
SPECIES = 60
# What is taken in
SENDERS, REPORTS, RECORDINGS, DETECTIONS = 4, 12, 200, 5
LEAST_PER_S = 5000
# What is read
SENSORS, NIGHTS, MINUTES = 50, 84, 480
LONGEST_LIST_S, LONGEST_NIGHT_S = 1.0, 2.0
SERVER = "-c shared_buffers=256MB -c max_wal_size=8GB -c maintenance_work_mem=256MB"


def run(runs: int) -> dict[str, Any]:
    """Return detections taken in per second, and the seconds of commands over 10 million."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])  # what starts now stays there: the server, and its workers
    with running_postgres(SERVER) as postgres:
        server = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
        taken = _taken_in(postgres.new_database("taking"), cores, server)
        os.sched_setaffinity(0, cores)
        url = postgres.new_database("reading")
        rows = _fill(url)
        read = {
            name: _command(url, runs, words, goal, server)
            for name, (words, goal) in COMMANDS.items()
        }
    return {"taken_in": taken, "read_rows_count": rows, **read}


# Taking in


def _taken_in(url: str, cores: Sequence[int], server: int) -> dict[str, Any]:
    with closing(HubDatabase(url)) as database:
        tokens = [_token(database, f"sensor-{n}") for n in range(SENDERS)]
    bodies = [list(_bodies()) for _ in range(SENDERS)]
    with _serving(url) as (address, process):
        os.sched_setaffinity(0, cores[-1:])
        senders = [
            threading.Thread(target=_send, args=(address, token, own))
            for token, own in zip(tokens, bodies, strict=True)
        ]
        began, used = time.perf_counter(), _cpu_s(server) + _cpu_s(process)
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        seconds = time.perf_counter() - began
        used = _cpu_s(server) + _cpu_s(process) - used
        memory = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096
    with closing(HubDatabase(url)) as database, database.reading() as connection:
        (stored,) = connection.one("SELECT count(*) FROM detection")
    wanted = SENDERS * REPORTS * RECORDINGS * DETECTIONS
    if stored != wanted:
        raise SystemExit(f"{stored} detections are stored, not {wanted}")
    rate = stored / seconds
    print(
        f"{rate:.0f} detections/s taken in, {stored / used:.0f} a second of the core's time",
        file=sys.stderr,
    )
    return {
        "detections_count": stored,
        "senders_count": SENDERS,
        "detections_per_s": {
            "value": rate, "unit": "1/s", "goal": f"≥ {LEAST_PER_S}", "is_met": rate >= LEAST_PER_S,
        },
        "detections_per_s_of_core_time": {"value": stored / used, "unit": "1/s"},
        "recordings_per_s": {"value": rate / DETECTIONS, "unit": "1/s"},
        "serve_rss_mb": memory / 1e6,
    }  # fmt: skip


def _cpu_s(process: int) -> float:
    """Return the seconds of a processor that a process and its children used so far."""
    whole = psutil.Process(process)
    times = [whole.cpu_times(), *(one.cpu_times() for one in whole.children(recursive=True))]
    ended = times[0].children_user + times[0].children_system
    return ended + sum(one.user + one.system for one in times)


def _token(database: HubDatabase, name: str) -> str:
    add_sensor(database, name)
    return make_token(database, name)


def _bodies() -> Iterator[bytes]:
    """Yield the reports of a sensor as they travel: first its deployment, then recordings."""
    site = data.Deployment(name="bench", started_on=START, latitude=51.5, longitude=0.0)
    for report in range(REPORTS):
        recordings = [_recording(site, report * RECORDINGS + n) for n in range(RECORDINGS)]
        deployments = [] if report else [DeploymentReport(deployment=site)]
        sent = Report(deployments=deployments, recordings=recordings)
        yield gzip.compress(sent.model_dump_json().encode())


def _recording(site: data.Deployment, number: int) -> RecordingReport:
    began = START + timedelta(minutes=number)
    sound = data.Recording(
        path=Path(f"{number}.wav"), duration=3, samplerate=256_000, created_on=began,
        deployment=site,
    )  # fmt: skip
    found = [
        data.Detection(
            location=data.BoundingBox.from_coordinates(n / 2, 20_000, n / 2 + 0.1, 60_000),
            detection_score=0.5 + n / 20,
            tags=[data.PredictedTag(data.Tag("species", f"species {(number + n) % SPECIES}"), 0.8)],
        )
        for n in range(DETECTIONS)
    ]
    output = OutputReport(id=sound.id, model="bench", ran_on=began, detections=found)
    return RecordingReport(
        id=sound.id, deployment=site.id, reported_on=began, created_on=began, duration_s=3,
        samplerate_hz=256_000, audio_channels=1, name=f"{number}.wav",
        state=data.RecordingState.KEPT, outputs=[output],
        analyses=[data.Analysis(
            recording_id=sound.id, name_model="bench", state=data.AnalysisState.DONE, attempts=1,
            updated_on=began,
        )],
    )  # fmt: skip


@contextmanager
def _serving(url: str) -> Iterator[tuple[str, int]]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("acoupi")), "hub", "serve", "--port", str(port)]
    environment = {**os.environ, "ACOUPI_HUB_DATABASE": url}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(address), "the hub")
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(60)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/v1/health", timeout=20).ok
    except requests.RequestException:
        return False


def _send(address: str, token: str, bodies: list[bytes]) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Encoding": "gzip"}
    with requests.Session() as session:
        for body in bodies:
            session.post(
                f"{address}/v1/reports", data=body, headers=headers, timeout=300
            ).raise_for_status()


# Reading

_NIGHT = (START + timedelta(days=NIGHTS // 2)).date()
_NEXT = _NIGHT + timedelta(days=1)
_SITE = ("--deployment", "Site 7")
COMMANDS = {
    "list": (("list",), LONGEST_LIST_S),
    "list_of_sensor_and_night": (
        ("list", *_SITE, "--from", f"{_NIGHT} 12:00", "--to", f"{_NEXT} 12:00"), LONGEST_NIGHT_S,
    ),
    "count_of_sensor_by_night": (("count", "--by", "night", *_SITE), LONGEST_NIGHT_S),
    "list_of_rare_species": (("list", "--species", "species 59"), LONGEST_LIST_S),
    "list_of_sure": (("list", "--min-score", "0.99"), LONGEST_LIST_S),
    "list_of_right": (("list", "--verdict", "right"), LONGEST_LIST_S),
}  # fmt: skip

_FILL = (
    "SET synchronous_commit = off",
    "SET session_replication_role = replica",  # rows fit: nothing is checked
    """INSERT INTO sensor (row, id, added_on_us)
        SELECT n, 'sensor-' || n, 0 FROM generate_series(1, {sensors}) n""",
    """INSERT INTO deployment (row, id, sensor_row, name, started_on_us)
        SELECT n, uuid_send(gen_random_uuid()), n, 'Site ' || n, {start}
        FROM generate_series(1, {sensors}) n""",
    """INSERT INTO tag (row, key, value)
        SELECT n, 'species', 'species ' || n FROM generate_series(1, {species}) n""",
    """INSERT INTO recording (row, id, deployment_row, path, created_on_us, duration_s,
            samplerate_hz, audio_channels, time_expansion, state, reported_on_us)
        SELECT n, uuid_send(gen_random_uuid()), n % {sensors} + 1, n || '.wav',
            {start} + (n / {sensors} / {minutes})::bigint * 86400000000
                + (n / {sensors} % {minutes})::bigint * 60000000 + n % {sensors} * 1000000,
            3, 256000, 1, 1, 'kept', 0
        FROM generate_series(1, {recordings}) n""",
    """INSERT INTO analysis (recording_row, name_model, state, attempts, updated_on_us)
        SELECT n, 'bench', 'done', 1, 0 FROM generate_series(1, {recordings}) n""",
    """INSERT INTO model_output (row, id, recording_row, name_model, created_on_us)
        SELECT n, uuid_send(gen_random_uuid()), n, 'bench', 0
        FROM generate_series(1, {recordings}) n""",
    """INSERT INTO detection (row, id, output_row, prediction_type, location_type, start_time_s,
            low_freq_hz, end_time_s, high_freq_hz, score)
        SELECT n, uuid_send(gen_random_uuid()), (n - 1) / {each} + 1, 'event', 'BoundingBox',
            n % {each} * 0.5, 20000, n % {each} * 0.5 + 0.1, 60000, random()
        FROM generate_series(1, {recordings} * {each}) n""",
    # The commonest species has half of all, the rarest some thousands.
    """INSERT INTO predicted_tag (detection_row, position, tag_row, confidence)
        SELECT n, 0, 1 + floor({species} * pow(random(), 6)), 0.8
        FROM generate_series(1, {recordings} * {each}) n""",
)


# Those that are no constraints are made last, which is faster.
_INDEXES = """
    SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace = 'public'::regnamespace AND NOT i.indisunique
"""


def _fill(url: str) -> int:
    """Fill a database with ten million detections; return how many there are."""
    names = {
        "sensors": SENSORS, "minutes": MINUTES, "species": SPECIES, "each": DETECTIONS,
        "start": data.to_microseconds(START), "recordings": SENSORS * NIGHTS * MINUTES,
    }  # fmt: skip
    with closing(HubDatabase(url)) as database:
        with database.writing() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            indexes = connection.execute(_INDEXES).fetchall()
            dropped = [f"DROP INDEX {name}" for name, _ in indexes]
            made = [definition for _, definition in indexes]
            for statement in (*dropped, *_FILL, *made):
                began = time.perf_counter()
                connection.plain.execute(statement.format(**names))
                took = time.perf_counter() - began
                print(f"{took:.0f} s: {statement[:60]!r}", file=sys.stderr)
        with database.writing() as connection:
            connection.plain.execute("ANALYZE")
            (count,) = connection.one("SELECT count(*) FROM detection")
    return int(count)


def _command(url: str, runs: int, words: Sequence[str], goal: float, server: int) -> dict[str, Any]:
    """Return the median seconds of a whole command, its start included, and of a processor."""
    command = [str(Path(sys.executable).with_name("acoupi")), "detections", *words, "--hub", url]
    seconds, used = [], []
    for _ in range(runs):
        began, before = time.perf_counter(), _cpu_s(server) + _children_s()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
        seconds.append(time.perf_counter() - began)
        used.append(_cpu_s(server) + _children_s() - before)
    print(f"{' '.join(words)}: {seconds} s, {used} s of a processor", file=sys.stderr)
    return {
        "whole": {"value": statistics.median(seconds), "unit": "s", "goal": goal},
        "processor_s": statistics.median(used),
    }


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
