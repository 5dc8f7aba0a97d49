"""``acoupi detections``: what the models found."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from acoupi.cli import counting, listening
from acoupi.cli.checks import AsJson
from acoupi.cli.heard import (
    After,
    AsCsv,
    By,
    DetectionId,
    Heard,
    Limit,
    filtered,
    opened,
    print_more,
    print_rows,
    short,
    the_only,
)
from acoupi.cli.output import example, print_json, print_record, print_table
from acoupi.cli.table import group
from acoupi.telling import VERDICT_MARKS, around, clock_words, place_of, shown_band

if TYPE_CHECKING:
    from acoupi.heard import DetectionRow, Filters, MessageRow, RecordingRow

__all__ = ["app"]

app = group("detections")

COLUMNS = {"time": "time", "species": "species", "score": "score", "band": "kHz", "id": "id"}
COLUMNS_OF_SITES = {**COLUMNS, "band": "site"}
"""Columns where there are several sites: a row has 80 characters."""


@app.command("list", epilog=example("acoupi detections list --from yesterday --min-score 0.8"))
@filtered
def list_(
    heard: Heard,
    filters: "Filters",
    limit: Limit = 20,
    after: After = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """List detections, the newest first. Times without a zone are those of the sensor."""
    from acoupi.exports.flat import flat_detection

    last = after and the_only("detection", after, heard.reader.ids_of_detections)
    rows = heard.reader.detections(filters, newest_first=True, after=last or None, limit=limit)
    if as_json or as_csv:
        print_rows(map(flat_detection, rows), as_csv=as_csv)
        return
    found = list(rows)
    has_sites = len({one.recording.deployment.id for one in found}) > 1
    columns = COLUMNS_OF_SITES if has_sites else COLUMNS
    rows_shown = [_row(one, heard, has_sites=has_sites) for one in found]
    print_table(rows_shown, columns, empty="Nothing was found.", title=heard.title)
    print_more(found, limit)


def _row(row: "DetectionRow", heard: Heard, *, has_sites: bool) -> dict[str, Any]:
    mark = f" {VERDICT_MARKS[row.verdict.verdict.value]}" if row.verdict else ""
    site = row.recording.deployment.name
    return {
        "time": heard.shown(row.started_on),
        "species": row.species and row.species.tag.value,
        "score": f"{row.score:.2f}{mark}",
        "band": site if has_sites else shown_band(row),
        "id": short(row.id),
    }


@app.command(epilog=example("acoupi detections show 3f2a91c0"))
def show(id_: DetectionId, as_json: AsJson = False) -> None:
    """Show everything about a detection: how it was found, and what was sent."""
    from acoupi.exports.flat import flat_detection

    with opened() as heard:
        row = heard.detection(id_)
        messages = _messages(heard, row)
        capture = heard.reader.capture(row.recording.id)
        if as_json:
            said = capture and capture.model_dump(mode="json")
            print_json({**flat_detection(row), "capture": said, "messages": messages})
            return
        print_record({name: value for name, value in _told(row, heard).items() if value})
        print_table(
            messages, {"message_id": "message", "messenger": "messenger", "state": "delivery",
                       "attempts": "attempts", "last_error": "last answer"},
            empty="No message was made from it.",
        )  # fmt: skip


def _told(row: "DetectionRow", heard: Heard) -> dict[str, Any]:
    """Return everything about a detection in words."""
    recording, made_by, verdict = row.recording, row.provenance, row.verdict
    band = shown_band(row)
    return {
        "detection": str(row.id),
        "species": "; ".join(
            f"{one.tag.value} ({one.tag.key}) {one.confidence_score:.3f}" for one in row.tags
        ),
        "score": f"{row.score:.3f}",
        "time": f"{row.started_on.astimezone(heard.zone):%Y-%m-%d %H:%M:%S.%f}"[:-3]
        + f" ({heard.zone_name})",
        "clock": clock_words(heard.reader.capture(recording.id)),
        "in the recording": f"{row.start_s:.3f} to {row.end_s:.3f} s",
        "frequencies": band and f"{band} kHz",
        "recording": f"{recording.id}, {recording.state.value}",
        "file": str(recording.path) if recording.path else None,
        "clip": row.clip and f"{row.start_s - row.clip.start_s:.3f} s into {row.clip.path}",
        "site": place_of(recording.deployment),
        "model": made_by.words if made_by else f"{row.model} (by an earlier acoupi)",
        "weights": made_by and made_by.weights and f"sha256:{made_by.weights}",
        "configuration": made_by and made_by.configuration,
        "acoupi": made_by and made_by.acoupi,
        "image": made_by and made_by.image,
        "analysed": f"{heard.shown(row.analysed_on)} ({heard.zone_name})",
        "verdict": verdict
        and " ".join(
            filter(None, (verdict.verdict.value, verdict.species, f"by {verdict.reviewer}"))
        )
        + (verdict.note and f": {verdict.note}"),
    }


def _messages(heard: Heard, row: "DetectionRow") -> list[dict[str, Any]]:
    """Return the messages made from the output that a detection belongs to."""
    from acoupi.system.reading import message_reader_of

    reader = message_reader_of(heard.settings)
    found = reader.messages_about(row.output_id, row.analysed_on) if reader else []
    return [line for message in found for line in _deliveries(message)]


def _deliveries(message: "MessageRow") -> Iterator[dict[str, Any]]:
    told = {"message_id": str(message.id), "created_time": message.created_on}
    if not message.deliveries:
        yield {**told, "messenger": None, "state": "pending", "attempts": 0, "last_error": None}
    for one in message.deliveries:
        yield {
            **told,
            "messenger": one.messenger,
            "state": one.state,
            "attempts": one.attempts,
            "last_error": one.last_error,
        }


@app.command(epilog=example('acoupi detections count --by night --species "Myotis nattereri"'))
@filtered
def count(
    heard: Heard,
    filters: "Filters",
    by: By = "night",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Count detections; a night is from noon to noon, named by the date of its evening."""
    counting.count("detections", by, heard, filters, as_json=as_json, as_csv=as_csv)


@app.command(epilog=example("acoupi detections play 3f2a91c0 --slow 10"))
def play(id_: DetectionId, slow: listening.Slow = 1) -> None:
    """Play a detection, and half a second around it, through the sound output."""
    with opened() as heard:
        row = listening.in_its_file(heard.detection(id_))
        listening.play(row.recording, slow, around(row))


@app.command(epilog=example("acoupi detections picture 3f2a91c0 -o call.png"))
def picture(id_: DetectionId, output: listening.Output) -> None:
    """Draw a detection, and half a second around it, as a spectrogram."""
    with opened() as heard:
        found = heard.detection(id_)
        row, others = listening.in_its_file(found), listening.shown_with(heard, found)
        listening.draw(heard, row.recording, others, around(row), output)


@app.command(epilog=example("acoupi detections copy 3f2a91c0 for-ana"))
@filtered
def copy(heard: Heard, filters: "Filters", words: listening.IdsAndFolder) -> None:
    """Copy the recordings of detections, by id or by filters, each with a .json file."""
    ids, folder = listening.parted(words)
    named = [heard.detection(one).recording for one in ids]
    listening.copy(heard, _once(named) if ids else _of(heard, filters), folder, named=bool(ids))


def _of(heard: Heard, filters: "Filters") -> Iterator["RecordingRow"]:
    return _once(row.recording for row in heard.reader.detections(filters))


def _once(rows: "Any") -> Iterator["RecordingRow"]:
    seen = set()
    for row in rows:
        if row.id not in seen:
            seen.add(row.id)
            yield row
