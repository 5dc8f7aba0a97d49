"""``acoupi recordings``: recordings, with and without detections."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import counting, listening
from acoupi.cli.checks import AsJson
from acoupi.cli.heard import (
    After,
    AsCsv,
    By,
    Heard,
    Limit,
    RecordingId,
    filtered,
    opened,
    print_more,
    print_rows,
    short,
    the_only,
)
from acoupi.cli.output import done, example, print_json, print_record, print_table, say
from acoupi.cli.table import group
from acoupi.telling import clock_words, place_of, shown_band

if TYPE_CHECKING:
    from acoupi.data import CaptureReport
    from acoupi.heard import DetectionRow, Filters, RecordingRow

__all__ = ["app"]

app = group("recordings")

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Of recordings.")]

COLUMNS = {
    "time": "time",
    "length": "length",
    "site": "site",
    "state": "file",
    "detections": "found",
    "id": "id",
}
FOUND_COLUMNS = {
    "start": "from",
    "end": "to",
    "species": "species",
    "score": "score",
    "band": "kHz",
    "model": "model",
    "id": "detection",
}


@app.command("list", epilog=example("acoupi recordings list --from yesterday --state kept"))
@filtered
def list_(
    heard: Heard,
    filters: "Filters",
    limit: Limit = 20,
    after: After = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """List recordings, the newest first. Times without a zone are those of the sensor."""
    from acoupi.exports.flat import flat_recording

    last = the_only("recording", after, heard.reader.ids_of_recordings) if after else None
    rows = heard.reader.recordings(filters, newest_first=True, after=last, limit=limit)
    if as_json or as_csv:
        flat = ({**flat_recording(one), "detection_count": one.detections} for one in rows)
        print_rows(flat, as_csv=as_csv)
        return
    found = list(rows)
    rows_shown = [_row(one, heard) for one in found]
    print_table(rows_shown, COLUMNS, empty="Nothing was recorded.", title=heard.title)
    print_more(found, limit)


def _row(row: "RecordingRow", heard: Heard) -> dict[str, Any]:
    return {
        "time": heard.shown(row.started_on),
        "length": f"{row.duration_s:.4g} s",
        "site": row.deployment.name,
        "state": row.state.value,
        "detections": row.detections,
        "id": short(row.id),
    }


@app.command(epilog=example("acoupi recordings show 7c10e4d2"))
def show(id_: RecordingId, as_json: AsJson = False) -> None:
    """Show everything about a recording: its capture, analyses and detections."""
    from acoupi.exports.flat import flat_clip, flat_detection, flat_recording

    with opened() as heard:
        row = heard.recording(id_)
        capture = heard.reader.capture(row.id)
        analyses = heard.reader.analyses(row.id)
        found = heard.reader.detections_in(row.id)
        given_up = _given_up(row, heard)
        if as_json:
            print_json(
                {
                    **flat_recording(row),
                    **({"given_up": given_up} if given_up else {}),
                    "clips": [flat_clip(one) for one in row.clips],
                    "capture": capture and capture.model_dump(mode="json"),
                    "analyses": [one.model_dump(mode="json") for one in analyses],
                    "detections": [flat_detection(one) for one in found],
                }
            )
            return
        record = {**_told(row, heard), **_captured(capture)}
        if given_up:
            record["given up"] = "{on}: {class}, because {reason}".format(**given_up)
        record["analysis"] = "; ".join(
            f"{one.name_model}: {one.state.value}" + (f", {one.error}" if one.error else "")
            for one in analyses
        )
        print_record({name: value for name, value in record.items() if value})
        print_table([_found(one) for one in found], FOUND_COLUMNS, empty="Nothing was found in it.")


def _given_up(row: "RecordingRow", heard: Heard) -> dict[str, str] | None:
    """Return why and when a recording's file was deleted for room; None if it was not."""
    from acoupi.components.stores import SqliteStore
    from acoupi.components.stores.database import stores_that_only_read
    from acoupi.system.reading import store_file

    if row.path is not None:
        return None
    with stores_that_only_read():
        found = SqliteStore(store_file(heard.settings)).why_given_up(row.id)
    if found is None:
        return None
    kind, reason, time = found
    return {"class": kind.value, "reason": reason, "on": time.isoformat(timespec="seconds")}


@app.command(epilog=example("acoupi recordings protect 7c10e4d2"))
def protect(
    ids: Ids,
    undo: Annotated[bool, typer.Option("--undo", help="No longer protect them.")] = False,
) -> None:
    """Keep the files of recordings even when the disk fills (see acoupi disk)."""
    from acoupi.system.reading import store_of

    with opened() as heard:
        found = [heard.recording(one).id for one in ids]
        store = store_of(heard.settings)
        try:
            (store.unprotect if undo else store.protect)(found)
        finally:
            store.close()
    done(f"{len(found)} recordings are {'no longer protected' if undo else 'protected'}.")


def _told(row: "RecordingRow", heard: Heard) -> dict[str, Any]:
    expansion = f", time-expanded {row.time_expansion:g} times in its file"
    return {
        "recording": str(row.id),
        "time": f"{heard.shown(row.started_on)} ({heard.zone_name})",
        "length": f"{row.duration_s:g} s",
        "sound": f"{row.samplerate_hz:g} Hz, {row.audio_channels or '?'} channels"
        + (expansion if row.time_expansion != 1 else ""),
        "site": place_of(row.deployment),
        "file": str(row.path) if row.path else f"none: {row.state.value}",
        "clips": "; ".join(
            f"{one.start_s:.3f} to {one.end_s:.3f} s in {one.path}" for one in row.clips
        ),
        "state": row.state.value,
    }


def _captured(report: "CaptureReport | None") -> dict[str, Any]:
    """Return how a recording was captured, in words."""
    told: dict[str, Any] = {"clock": clock_words(report)}
    if report is None:
        return told
    lost = sum(one.frames for one in report.overruns)
    told["lost within it"] = f"{lost} frames" if lost else None
    told["incomplete"] = report.incomplete_words
    if report.health is not None:
        faults = ", ".join(report.health.faults()) or "ok"
        told["microphone"] = f"{faults} ({report.health.rms_dbfs:.0f} dBFS)"
    return told


def _found(row: "DetectionRow") -> dict[str, Any]:
    return {
        "start": f"{row.start_s:.3f} s",
        "end": f"{row.end_s:.3f} s",
        "species": row.species and row.species.tag.value,
        "score": f"{row.score:.2f}",
        "band": shown_band(row),
        "model": row.provenance.words if row.provenance else row.model,
        "id": short(row.id),
    }


@app.command(epilog=example("acoupi recordings count --by hour --from 2024-06-01"))
@filtered
def count(
    heard: Heard,
    filters: "Filters",
    by: By = "night",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Count recordings; a night is from noon to noon, named by the date of its evening."""
    counting.count("recordings", by, heard, filters, as_json=as_json, as_csv=as_csv)


@app.command(epilog=example("acoupi recordings play 7c10e4d2 --slow 10"))
def play(id_: RecordingId, slow: listening.Slow = 1) -> None:
    """Play a recording, or what clips keep of it, through the sound output."""
    with opened() as heard:
        for row in listening.files_of(heard.recording(id_)):
            listening.play(row, slow, (0, row.duration_s))


@app.command(epilog=example("acoupi recordings picture 7c10e4d2 -o night.png"))
def picture(id_: RecordingId, output: listening.Output) -> None:
    """Draw a recording (its first minute) as a spectrogram, with a box for each detection.

    If the recording was given up, the first of its clips is drawn.
    """
    with opened() as heard:
        whole = heard.recording(id_)
        found, row = heard.reader.detections_in(whole.id), listening.files_of(whole)[0]
        found = [one.in_clip(whole.clips[0], row) for one in found] if whole.clips else found
        listening.draw(heard, row, found, (0, row.duration_s), output)
        if len(whole.clips) > 1:
            say(f"The first of {len(whole.clips)} clips; for others: acoupi detections picture ID")


@app.command(epilog=example("acoupi recordings copy --from yesterday --min-score 0.9 for-ana"))
@filtered
def copy(heard: Heard, filters: "Filters", words: listening.IdsAndFolder) -> None:
    """Copy recordings, by id or by filters, each with a .json file of its data."""
    ids, folder = listening.parted(words)
    rows = [heard.recording(one) for one in ids] if ids else heard.reader.recordings(filters)
    listening.copy(heard, rows, folder, named=bool(ids))
