"""``acoupi program``: starting a program of your own, and trying one on recordings."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli.checks import AsJson
from acoupi.cli.output import done, example, print_json, print_table, say, warn, working
from acoupi.cli.table import group
from acoupi.errors import ParameterError
from acoupi.home import expanded

if TYPE_CHECKING:
    from acoupi import data
    from acoupi.system.program_trial import Trial, TriedFile

__all__ = ["app"]

app = group("program")

UNHEALTHY = 3
SHOWN = 100
"""Characters shown of a message."""
ANY_OPTION = {"allow_extra_args": True, "ignore_unknown_options": True}
COLUMNS = {
    "file": "file", "seconds": "sound (s)", "found": "detections", "best": "best score",
    "tags": "tags", "kept": "kept", "speed": "times real time",
}  # fmt: skip


@app.command("list", epilog=example("acoupi program list"))
def list_(as_json: AsJson = False) -> None:
    """List the installed programs: what setup --program takes."""
    from acoupi.stack.loading import programs_to_choose

    rows = [{"name": name, "place": place} for name, place in programs_to_choose().items()]
    if as_json:
        print_json(rows)
    else:
        print_table(
            rows, {"name": "program", "place": "where it is"}, empty="No program is installed."
        )


@app.command(epilog=example("acoupi program new owls"))
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the program, such as owls.")],
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to make the package's folder.")
    ] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a package with a working program, to put your own model into.

    It has a model, its settings, what it keeps and sends, a README, and a test.
    """
    from acoupi.system.program_package import write_package

    short, place, files = write_package(name, expanded(folder))
    if as_json:
        print_json({"program": short, "folder": str(place), "files": sorted(map(str, files))})
        return
    done(f"{place} holds the program {short}.")
    say(f"Next: pip install -e {shlex.quote(str(place))} && acoupi program test {short} FOLDER")


@app.command(
    "test", context_settings=ANY_OPTION, epilog=example("acoupi program test demo ~/recordings")
)
def try_(
    context: typer.Context,
    program: Annotated[
        str, typer.Argument(metavar="PROGRAM", help="An installed program, or a Python module.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of WAV or FLAC files.")],
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Draw each recording with its detections, into this folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a program on the recordings of a folder, which are not changed.

    Shows what it finds, what it would keep and send, its speed and its memory.
    Options of the program can be added: --detections.threshold 0.4. No sensor is set up.
    Exit code 3: it failed on some of the recordings.
    """
    from acoupi.stack.loading import load_program_class
    from acoupi.system.program_trial import program_trial

    load_program_class(program, choose=f"acoupi program test {{}} {shlex.quote(str(folder))}")
    paths = _sound_files(folder)
    with program_trial(program, context.args) as trial:
        rows = []
        for tried in trial.run(paths):
            if tried.error and not as_json:
                warn(f"{tried.path}: {tried.error}\n{tried.where}".rstrip())
            if pictures is not None:
                _draw(tried, pictures)
        with working("Deciding what to keep"):
            trial.decide()
        messages = [_text(one) for one in trial.messages()]
        rows = [_row(one) for one in trial.files]
        _show(trial, rows, messages, as_json=as_json)
    if any(one.error for one in trial.files):
        raise typer.Exit(UNHEALTHY)


def _text(message: "data.Message") -> str:
    content = message.content
    return content.decode() if isinstance(content, bytes) else content


def _sound_files(folder: Path) -> list[Path]:
    from acoupi.audio import formats

    folder = expanded(folder)
    files = [folder] if folder.is_file() else sorted(one for one in folder.rglob("*"))
    found = [one for one in files if one.is_file() and formats.is_sound_file(one.name)]
    if not found:
        raise ParameterError(
            str(folder),
            f'there is no recording in "{folder}".',
            f"ls {shlex.quote(str(folder))}",
            why=f"no file there ends in {formats.endings()}.",
        )
    return found


def _row(tried: "TriedFile") -> dict[str, Any]:
    found = [one for output in tried.outputs for one in output.detections]
    tags = {one.tag.value: None for each in found for one in each.tags}
    return {
        "file": str(tried.path),
        "seconds": tried.recording.duration if tried.recording else None,
        "found": len(found),
        "best": max((one.detection_score for one in found), default=None),
        "tags": ", ".join(tags),
        "kept": tried.is_kept,
        "speed": tried.speed,
        "error": tried.error,
    }


def _show(
    trial: "Trial", rows: list[dict[str, Any]], messages: list[str], *, as_json: bool
) -> None:
    worked = [one for one in trial.files if one.speed]
    sound = sum(one.recording.duration for one in worked if one.recording)
    speed = sound / sum(one.seconds for one in worked) if worked else None
    if as_json:
        print_json({
            "files": rows, "messages": messages, "times_real_time": speed,
            "memory_bytes": trial.memory,
        })  # fmt: skip
        return
    kept = {True: "yes", False: "no", None: None}
    shown = [
        row
        | {
            "file": Path(row["file"]).name,
            "seconds": None if row["seconds"] is None else f"{row['seconds']:.1f}",
            "best": None if row["best"] is None else f"{row['best']:.2f}",
            "kept": kept[row["kept"]],
            "speed": None if row["speed"] is None else f"{row['speed']:.0f}",
        }
        for row in rows
    ]
    print_table(shown, COLUMNS, empty="")
    say(f"It would send {len(messages)} message{'' if len(messages) == 1 else 's'}.")
    if messages:
        say(f"  the first: {messages[0][:SHOWN]} …")
    failed = len(rows) - len(worked)
    words = f", {speed:.0f} times real time" if speed else ""
    text = f"{len(worked)} of {len(rows)} recordings{words}, {trial.memory / 1e6:.0f} MB of memory."
    (warn if failed else done)(text)


def _draw(tried: "TriedFile", folder: Path) -> None:
    """Draw the first minute of a recording, with boxes for its detections."""
    from acoupi.cli.listening import LONGEST_PICTURE_S
    from acoupi.exports.pictures import Box, spectrogram
    from acoupi.writing import disk_error

    if tried.recording is None or tried.error:
        return
    found = [one for output in tried.outputs for one in output.detections if one.location]
    boxes = [
        Box(low_hz=low, high_hz=high, start_s=start, end_s=end)
        for start, low, end, high in (one.location.coordinates for one in found if one.location)
    ]
    part = (0.0, min(tried.recording.duration, LONGEST_PICTURE_S))
    picture = spectrogram(tried.path, tried.recording.samplerate, part, boxes)
    target = folder / f"{tried.path.stem}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture)
    except OSError as error:
        raise disk_error("write", target, error) from error
