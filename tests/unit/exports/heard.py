"""What a sensor heard, to be exported: two sites, files kept, deleted and expanded, odd names."""

import datetime
from pathlib import Path
from uuid import UUID

from acoupi import data
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.effort import CapturePlan
from acoupi.exports.format import Format
from acoupi.exports.packages import export
from acoupi.exports.source import Site
from acoupi.heard import Filters, Verdict, VerdictRow
from acoupi.provenance import Provenance
from tests.stores import at, deployment, detection, output, recording

BAT, BIRD = "Myotis nattereri", "Turdus merula"
ODD = 'Pond\t"at" the,\r\nDüne 🦇'
OAK = deployment(
    name=ODD, latitude=51.50741, longitude=-0.12785, started_on=at(0), ended_on=at(100)
)
LAKE = deployment(name="Lake", latitude=52.25, longitude=0.5, started_on=at(1000))
MADE_BY = Provenance(model="bats", model_version="bats 1.2", weights="5f" * 32, configuration="c0")
PLAN = CapturePlan(duration=3, interval=10)
REPORT = data.CaptureReport(
    stream_id=UUID(int=1), first_frame=0, frames=3 * 256_000, clock_error_s=0.004,
    samplerate_measured=256_000, clock_synchronised=True,
)  # fmt: skip
ODD_FILE = 'b "two"\tñ.wav'


def fill(path: Path) -> dict[UUID, data.Detection]:
    """Store six recordings; return the detections in them by id."""
    store = SqliteStore(path)
    store.note_plan(OAK, PLAN, OAK.started_on)
    store.note_plan(LAKE, PLAN, LAKE.started_on)
    found: dict[UUID, data.Detection] = {}
    rows = [
        ("a.wav", 0.125, OAK, {}, [(0.9, BAT, (0.5, 0.6015)), (0.6, BIRD, (2, 2.5))]),
        (ODD_FILE, 10.0, OAK, {}, [(0.31, 'odd\t"tag"\nname,', (1, 1.2))]),
        (None, 20.0, OAK, {}, [(0.8, BAT, None)]),
        ("x10.wav", 1000, LAKE, {"time_expansion": 10}, [(0.7, BAT, (0.25, 0.3))]),
        ("2/a.wav", 30.0, OAK, {}, [(0.5, BIRD, (0, 3))]),
        ("quiet.wav", 1020, LAKE, {}, []),
    ]
    for number, (name, seconds, site, fields, heard) in enumerate(rows):
        sound = recording(
            name, seconds, deployment=site, capture=REPORT, id=UUID(int=number + 1), **fields
        )
        store.store_recording(sound)
        made = [
            detection(
                score,
                ("species", species, score),
                location=_box(times),
                id=data.derived_id(number, species, times),
            )
            for score, species, times in heard
        ]
        found |= {one.id: one for one in made}
        made_by = MADE_BY if number else None
        store.store_model_output(
            output(sound, *made, provenance=made_by, id=data.derived_id("output", number))
        )
        if name is None:
            store.end_recording(sound, data.RecordingState.DELETED)
    store.close()
    return found


def _box(times: tuple[float, float] | None) -> data.BoundingBox | None:
    if times is None:
        return None
    return data.BoundingBox.from_coordinates(times[0], 20_000, times[1], 60_000)


def review(path: Path, id_: UUID, said: Verdict, species: str | None = None) -> None:
    """Store a person's verdict on a detection."""
    with SqliteReader(path) as reader:
        row = reader.detection(id_)
    assert row is not None
    store = SqliteStore(path)
    store.add_verdict(VerdictRow(row.recording.id, id_, said, species, "Ana", "", at(5000)))
    store.close()


def exported(
    path: Path,
    format_: Format,
    folder: Path,
    filters: Filters | None = None,
    *,
    precision: float | None = None,
    place: tuple[float, float] | None = None,
    audio: bool = False,
) -> list[Site]:
    """Export the store."""
    with SqliteReader(path) as reader:
        chosen = filters or Filters()
        files = (lambda row: row) if audio else None
        return export(
            format_, reader, chosen, folder, precision=precision, place=place, audio=files
        )


def utc(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
