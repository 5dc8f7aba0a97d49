"""``acoupi review``: people's verdicts on detections, and how often the model is right."""

import getpass
import math
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from acoupi import clock
from acoupi.cli import listening
from acoupi.cli.checks import AsJson
from acoupi.cli.heard import (
    AsCsv,
    Heard,
    Hub,
    Limit,
    TokenFile,
    filtered,
    opened,
    print_rows,
    short,
)
from acoupi.cli.output import done, example, print_json, print_table, say, warn
from acoupi.cli.table import group
from acoupi.errors import AcoupiError, DeviceError, ParameterError, RecordingFileError
from acoupi.telling import around, shown_band

if TYPE_CHECKING:
    from acoupi.exports.calibration import Calibration
    from acoupi.exports.reviewing import Clip
    from acoupi.heard import Filters, VerdictRow

__all__ = ["app"]

app = group("review")

KEYS = {"r": "right", "w": "wrong", "o": "other", "u": "unsure"}
HELP = "r right, w wrong, o another species, u unsure, s skip, z undo, p play, q quit"
HELP_QUIET = "r nothing in it, w something was missed, u unsure, s skip, z undo, p play, q quit"

Reviewer = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who gives the verdict; by default, your user name here."),
]
Slow = Annotated[
    float | None,
    typer.Option(
        min=0.1, max=100, metavar="TIMES", help="How many times slower to play; 10 for ultrasound."
    ),
]
Note = Annotated[str, typer.Option(metavar="TEXT", help="A remark, kept with the verdict.")]


class _Notebook(Protocol):
    """Where verdicts are kept: the store of the sensor, or a hub."""

    def add_verdict(self, verdict: "VerdictRow") -> Any: ...

    def close(self) -> None: ...


def _notebook(heard: Heard) -> _Notebook:
    from acoupi.system.reading import store_of

    return heard.remote or store_of(heard.settings)


def _reviewer(given: str | None, heard: Heard) -> str:
    if given and heard.remote is not None:
        raise ParameterError(
            given,
            "--reviewer cannot be given with --hub.",
            "the same without --reviewer",
            why="a hub knows the reviewer by the token.",
        )
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container has no name for its user
        return f"user {os.getuid()}"


@app.command("next", epilog=example('acoupi review next --species "Myotis nattereri"'))
@filtered
def next_(
    heard: Heard,
    filters: "Filters",
    limit: Limit = 50,
    every: Annotated[
        bool, typer.Option("--all", help="All detections, not only the sample; the newest first.")
    ] = False,
    slow: Slow = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to draw each clip (PNG; overwritten each time)."),
    ] = None,
    reviewer: Reviewer = None,
) -> None:
    """Review clips one after the other: one key says whether a detection is right.

    The sample kept for review comes first, if the sensor keeps one (sensor.review).
    """
    from acoupi.exports.reviewing import clips_of_sample, newest_clips

    clips = [] if every else clips_of_sample(heard.reader, filters, limit)
    if not clips and (every or not _has_sample(heard)):
        clips = newest_clips(heard.reader, filters, limit)
    if not clips:
        done("There is nothing left to review" + ("." if every else " in the sample. More: --all"))
        return
    with closing(_notebook(heard)) as store:
        _Session(heard, store, _reviewer(reviewer, heard), slow, picture).walk(clips)


def _has_sample(heard: Heard) -> bool:
    from acoupi.heard import Filters

    return any(heard.reader.recordings(Filters(are_sampled=True), limit=1))


class _Session:
    """One session of reviewing clips."""

    def __init__(
        self,
        heard: Heard,
        store: _Notebook,
        reviewer: str,
        slow: float | None,
        picture: Path | None,
    ) -> None:
        self.heard, self.store, self.reviewer = heard, store, reviewer
        self.slow, self.picture = slow, picture

    def walk(self, clips: Sequence["Clip"]) -> None:
        given: dict[int, VerdictRow] = {}
        place = 0
        while place < len(clips):
            self._show(clips[place], f"{place + 1}/{len(clips)}")
            key = self._key(clips[place])
            if key == "q":
                break
            if key == "z":
                place = max(0, place - 1)
                self._undo(clips[place], given.pop(place, None))
                continue
            if key != "s":
                given[place] = self._give(clips[place], KEYS[key])
            place += 1
        done(f"{len(given)} of {len(clips)} clips reviewed. Next: acoupi review calibrate")

    def _key(self, clip: "Clip") -> str:
        """Return the key of a verdict, or s, z or q; play the clip whenever asked."""
        keys = f"{''.join(KEYS)}szq" if _is_detection(clip) else "rwuszq"
        while True:
            key = _pressed()
            if key == "p":
                self._play(clip)
            elif key in keys:
                return key
            else:
                say(_help(clip))

    def _give(self, clip: "Clip", word: str) -> "VerdictRow":
        species = None
        if word == "other" or (word == "wrong" and not _is_detection(clip)):
            typer.echo("Which species (Enter: not known)? ", nl=False)
            species = sys.stdin.readline().strip() or None
        row = _verdict(clip, word, species, "", self.reviewer)
        self.store.add_verdict(row)
        say(f"  {' '.join(filter(None, (word, species)))}")
        return row

    def _undo(self, clip: "Clip", row: "VerdictRow | None") -> None:
        if row is not None:
            self.store.add_verdict(_verdict(clip, "withdrawn", None, "", self.reviewer))
            say("  withdrawn")

    def _show(self, clip: "Clip", place: str) -> None:
        say(f"\n{place}  {_described(clip, self.heard)}")
        try:
            sound = self.heard.with_file(_sound(clip))
        except RecordingFileError as error:
            say(f"  (no picture: {error.message})")
            say(f"  {_help(clip)}")
            return
        others = listening.shown_with(self.heard, clip)
        content, shown = listening.picture(self.heard, sound, others, _part(clip))
        inline = sys.stdout.isatty() and listening.inline_picture(content, os.environ)
        if self.picture is not None:
            _write(self.picture, content)
            say(f"  picture: {self.picture}")
        elif inline:
            typer.echo(inline)
        else:
            say("  (no picture in this terminal: --picture FILE)")
        if len(shown) > 1 and _is_detection(clip):
            say(f"  this detection is box {[one.id for one in shown].index(clip.id) + 1}")
        say(f"  {_help(clip)}")

    def _play(self, clip: "Clip") -> None:
        try:
            row = self.heard.with_file(_sound(clip))
            slow = self.slow or (10 if row.samplerate_hz > 100_000 else 1)
            listening.play(row, slow, _part(clip))
        except (DeviceError, RecordingFileError) as error:
            warn(f"{error}")


def _write(path: Path, content: bytes) -> None:
    from acoupi.writing import disk_error

    try:
        path.write_bytes(content)
    except OSError as error:
        raise disk_error("write", path, error) from error


def _is_detection(clip: "Clip") -> bool:
    from acoupi.heard import DetectionRow

    return isinstance(clip, DetectionRow)


def _sound(clip: Any) -> Any:
    """Return the recording or clip that still has a file."""
    return listening.in_its_file(clip).recording if _is_detection(clip) else clip


def _part(clip: Any) -> tuple[float, float]:
    if _is_detection(clip):
        return around(listening.in_its_file(clip))
    return 0.0, clip.duration_s


def _help(clip: "Clip") -> str:
    return HELP if _is_detection(clip) else HELP_QUIET


def _described(clip: Any, heard: Heard) -> str:
    time = heard.shown(clip.started_on)
    if not _is_detection(clip):
        return f"{time}  nothing was found in {clip.duration_s:g} s  {short(clip.id)}"
    name = clip.species.tag.value if clip.species else "without a tag"
    band = shown_band(clip)
    return f"{time}  {name}  {clip.score:.2f}" + (f"  {band} kHz" if band else "") + (
        f"  {short(clip.id)}"
    )  # fmt: skip


def _pressed() -> str:
    """Return a key; without a terminal, the next letter of the input."""
    if sys.stdin.isatty():
        return typer.getchar().lower()
    while (letter := sys.stdin.read(1)).isspace():
        pass
    return letter.lower() or "q"


def _verdict(clip: Any, word: str, species: str | None, note: str, reviewer: str) -> "VerdictRow":
    from acoupi.heard import Verdict, VerdictRow

    return VerdictRow(
        recording_id=(clip.recording if _is_detection(clip) else clip).id,
        detection_id=clip.id if _is_detection(clip) else None,
        verdict=Verdict(word),
        species=species,
        reviewer=reviewer,
        note=note,
        given_on=clock.utc_now(),
    )


@app.command("set", epilog=example('acoupi review set 3f2a91c0 other --species "Myotis alcathoe"'))
def set_(
    id_: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a detection, or of a whole recording.")
    ],
    verdict: Annotated[
        str, typer.Argument(metavar="VERDICT", help="right, wrong, other, unsure or withdrawn.")
    ],
    species: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The right species, or the one that was missed."),
    ] = None,
    note: Note = "",
    reviewer: Reviewer = None,
    hub: Hub = None,
    token_file: TokenFile = None,
) -> None:
    """Say whether one detection is right. Earlier verdicts are kept; the last one counts.

    For a whole recording, "right" means that nothing was missed in it, "wrong" that something was.
    """
    from acoupi.heard import Verdict

    known = [one.value for one in Verdict]
    if verdict not in known:
        raise ParameterError(
            verdict,
            f'a verdict cannot be "{verdict}".',
            f"acoupi review set {id_} {known[0]}",
            why=f"it is one of {', '.join(known)}.",
        )
    with opened(hub, token_file) as heard:
        row = _verdict(_the(heard, id_), verdict, species, note, _reviewer(reviewer, heard))
        with closing(_notebook(heard)) as store:
            by = store.add_verdict(row) or row.reviewer
    done(f"{id_}: {' '.join(filter(None, (verdict, species)))}, by {by}.")


def _the(heard: Heard, text: str) -> Any:
    reader = heard.reader
    if not reader.ids_of_detections(text, 1) and reader.ids_of_recordings(text, 1):
        return heard.recording(text)
    return heard.detection(text)


COLUMNS = {"time": "time", "verdict": "verdict", "species": "species", "reviewer": "by",
           "note": "note", "id": "id"}  # fmt: skip


@app.command("list", epilog=example("acoupi review list --verdict unsure"))
@filtered
def list_(heard: Heard, filters: "Filters", as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """List all verdicts in the order in which they were given, replaced ones too."""
    rows = heard.reader.verdicts(filters)
    if as_json or as_csv:
        print_rows(map(_flat, rows), as_csv=as_csv)
        return
    shown = [
        {
            "time": heard.shown(one.given_on),
            "verdict": one.verdict.value,
            "species": one.species,
            "reviewer": one.reviewer,
            "note": one.note,
            "id": short(one.detection_id or one.recording_id),
        }
        for one in rows
    ]
    print_table(shown, COLUMNS, empty="Nothing has been reviewed yet.", title=heard.title)


def _flat(row: "VerdictRow") -> dict[str, Any]:
    from acoupi.exports.flat import iso_time

    return {
        "recording_id": str(row.recording_id),
        "detection_id": row.detection_id and str(row.detection_id),
        "verdict": row.verdict.value,
        "verdict_species": row.species,
        "reviewer": row.reviewer,
        "note": row.note,
        "given_time": iso_time(row.given_on),
    }


@app.command(epilog=example("acoupi review calibrate"))
@filtered
def calibrate(
    heard: Heard,
    filters: "Filters",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the curves to this file, as CSV."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how often each species is right, and the score above which 0.9 of detections are."""
    from acoupi.exports.calibration import FEWEST, calibrations, write_calibration
    from acoupi.system.reading import threshold_of

    every = calibrations(heard.reader, filters)
    if not any(one.n >= FEWEST for one in every):
        most = max((one.n for one in every), default=0)
        raise AcoupiError(
            "too few reviews to say how often the model is right.",
            "acoupi review next",
            why=f"a species needs {FEWEST} verdicts (right, wrong or other); "
            f"the most for any species is {most}.",
        )
    if output is not None:
        write_calibration(heard.reader, filters, output)
        say(f"The curves are in {output}.", err=True)
    setting = None if heard.sensor is None else threshold_of(heard.sensor)
    told = [_calibrated(one, setting[1] if setting else 0.0) for one in every]
    if as_json:
        print_json(told)
        return
    for one in told:
        _tell(one, setting)
    if heard.sensor is not None:
        _suggest(told, setting)


def _calibrated(one: "Calibration", threshold: float) -> dict[str, Any]:
    told = {"species": one.species, "model": one.model, "n": one.n, "right": sum(one.are_right)}
    curve = one.curve
    if curve is None:
        return told
    return {
        **told,
        "intercept": curve.intercept,
        "slope": curve.slope,
        "precision": one.precision_from(curve, threshold)._asdict(),
        "threshold90": curve.score_for()._asdict(),
    }


def _tell(one: dict[str, Any], setting: tuple[str, float] | None) -> None:
    from acoupi.exports.calibration import FEWEST

    say(f"\n{one['species'] or 'without a tag'} ({one['model']})")
    say(f"  reviewed    {one['n']}, of which {one['right']} are right")
    if "slope" not in one:
        species = f' --species "{one["species"]}"' if one["species"] else ""
        say(f"  precision   unknown: {FEWEST} verdicts are needed (acoupi review next{species})")
        return
    above = f"from the current threshold, {setting[1]:g}, up" if setting else "of all detections"
    say(f"  precision   {_shown(one['precision'])} {above}")
    wanted = one["threshold90"]
    if wanted["value"] is None:
        say("  0.9 right   at no score so far: too few detections are right")
    else:
        say(f"  0.9 right   from a score of {_shown(wanted)} up")


def _shown(estimate: dict[str, float | None]) -> str:
    low, high = (
        "?" if estimate[end] is None else f"{estimate[end]:.2f}" for end in ("low", "high")
    )
    return f"{estimate['value']:.2f} (95 %: {low} to {high})"


def _suggest(told: Sequence[dict[str, Any]], setting: tuple[str, float] | None) -> None:
    found = [one["threshold90"]["value"] for one in told if "threshold90" in one]
    scores = [one for one in found if one is not None]
    typer.echo()
    if setting is None:
        say("This program has no setting for its lowest score.")
    elif scores:
        several = " (the highest of them, for all)" if len(scores) > 1 else ""
        score = math.ceil(100 * max(scores)) / 100
        say(f"Next: acoupi config set {setting[0]} {score:.2f}{several}")
