"""``acoupi task``: running one task of the program now."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.output import done, example, print_json, print_table, say, warn, working
from acoupi.cli.table import group
from acoupi.errors import AudioError, ParameterError
from acoupi.home import expanded

if TYPE_CHECKING:
    import pstats

    from acoupi import data
    from acoupi.programs import AcoupiProgram
    from acoupi.system.tasks import Told

__all__ = ["app"]

app = group("task")

UNHEALTHY = 3

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The task.", autocompletion=home.complete.tasks)
]
OnRecording = Annotated[
    str | None,
    typer.Option(
        "--recording",
        metavar="FILE_OR_ID",
        help='A WAV file, or the id of a stored recording; for "run" also a folder of files.',
    ),
]
DETECTION_COLUMNS = {
    "start_time": "from (s)",
    "end_time": "to (s)",
    "low_freq": "from (Hz)",
    "high_freq": "to (Hz)",
    "score": "score",
    "tags": "tags",
}


@app.command("list", epilog=example("acoupi task list"))
def list_(as_json: AsJson = False) -> None:
    """List the tasks of the program."""
    from acoupi.system.tasks import get_task_list, takes_recording

    program = home.load(home.sensor())
    rows = [
        {
            "name": name,
            "queue": getattr(program.tasks[name], "home_queue", None) or "celery",
            "takes_recording": takes_recording(program, name),
        }
        for name in get_task_list(program)
    ]
    if as_json:
        print_json(rows)
        return
    columns = {"name": "task", "queue": "queue", "takes_recording": "needs a recording"}
    print_table(rows, columns, empty="The program has no tasks.")


@app.command(epilog=example("acoupi task run detection_task --recording bat.wav"))
def run(name: Name, recording: OnRecording = None, as_json: AsJson = False) -> None:
    """Run one task now, in this process. A detection task shows its detections.

    Detections in a file that the sensor did not record are shown, not stored. For a folder,
    each WAV and FLAC file is processed. Exit code 3: some of it failed.
    """
    if recording is not None and (folder := expanded(recording)).is_dir():
        _run_on_folder(name, folder, as_json=as_json)
        return
    from acoupi.cli.recordings import program_with_recording
    from acoupi.system.tasks import run_task, told

    with program_with_recording(home.sensor(), recording) as (program, given):
        with working(f"Running {name}"), told() as log:
            result = run_task(program, name, given)
        outputs = _outputs(program, given)
    if as_json:
        print_json(
            {"task": name, "result": result, "model_outputs": outputs, "failures": log.failures}
        )
    else:
        _show(name, result, outputs, log)
    if log.failures:
        raise typer.Exit(UNHEALTHY)


def _run_on_folder(name: str, folder: Path, *, as_json: bool) -> None:
    """Run a task on every recording in a folder; a failure does not stop the others."""
    from acoupi.cli.recordings import program_with_folder

    results = []
    with program_with_folder(home.sensor(), folder) as (program, recordings):
        for recording in recordings:
            result = _run_on_one(name, program, recording)
            results.append(result)
            if as_json:
                continue
            if result["error"] is not None:
                warn(result["error"])
                continue
            typer.echo(result["file"])
            _show_outputs(result["model_outputs"])
    failed = sum(one["error"] is not None for one in results)
    if as_json:
        print_json({"task": name, "results": results})
    else:
        done(f"{name} is done with {len(results) - failed} of {len(results)} files.")
    if failed:
        raise typer.Exit(UNHEALTHY)


def _run_on_one(
    name: str, program: "AcoupiProgram[Any]", recording: "data.Recording | AudioError"
) -> dict[str, Any]:
    from acoupi.system.tasks import run_task, told

    if isinstance(recording, AudioError):
        return {"file": None, "error": recording.message, "model_outputs": []}
    result: dict[str, Any] = {"file": str(recording.path), "error": None, "model_outputs": []}
    try:
        with working(f"Running {name} on {recording.path}"), told() as log:
            run_task(program, name, recording)
    except ParameterError:
        raise
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        return result | {"error": f"{recording.path}: {type(error).__name__}: {error}"}
    if log.failures:
        return result | {"error": f"{recording.path}: {'; '.join(log.failures)}"}
    return result | {"model_outputs": _outputs(program, recording)}


def _outputs(
    program: "AcoupiProgram[Any]", recording: "data.Recording | None"
) -> "list[data.ModelOutput]":
    store = getattr(program, "store", None)
    if recording is None or store is None:
        return []
    found: list[data.ModelOutput] = store.get_recording_model_outputs(recording)
    return found


def _show(name: str, result: Any, outputs: "list[data.ModelOutput]", log: "Told") -> None:
    _show_outputs(outputs)
    if result is not None:
        say(str(result))
    for text in (*log.notes, *log.failures):
        warn(text)
    if log.failures:
        warn(f"{name} ran, but part of it failed.")
    else:
        done(f"{name} is done.")


def _show_outputs(outputs: "list[data.ModelOutput]") -> None:
    for output in outputs:
        rows = [_row(detection) for detection in output.detections]
        print_table(
            rows,
            DETECTION_COLUMNS,
            empty=f"{output.name_model} found nothing.",
            title=f"{output.name_model}: {len(rows)} detections",
        )


def _row(detection: "data.Detection") -> dict[str, Any]:
    box = detection.location.coordinates if detection.location else (None,) * 4
    times = [None if value is None else f"{value:.3f}" for value in (box[0], box[2])]
    frequencies = [None if value is None else f"{value:.0f}" for value in (box[1], box[3])]
    return {
        "start_time": times[0],
        "end_time": times[1],
        "low_freq": frequencies[0],
        "high_freq": frequencies[1],
        "score": f"{detection.detection_score:.2f}",
        "tags": ", ".join(
            f"{tag.tag.key}={tag.tag.value} {tag.confidence_score:.2f}" for tag in detection.tags
        ),
    }


@app.command(epilog=example("acoupi task profile detection_task --recording bat.wav --lines 10"))
def profile(
    name: Name,
    recording: OnRecording = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the profile, for snakeviz and other tools."),
    ] = None,
    lines: Annotated[int, typer.Option(min=1, help="How many functions to show.")] = 20,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run one task now, and show where it spends its time."""
    from acoupi.cli.recordings import program_with_recording
    from acoupi.system.tasks import profile_task

    with (
        program_with_recording(home.sensor(), recording) as (program, given),
        working(f"Running {name}"),
    ):
        stats = profile_task(program, name, given)
    if output is not None:
        _keep(stats, output)
    if as_json:
        print_json(_functions(stats, lines))
    elif not quiet:
        say(_printed(stats, lines))


def _keep(stats: "pstats.Stats", output: Path) -> None:
    from acoupi.errors import AcoupiError

    try:
        stats.dump_stats(output)
    except OSError as error:
        raise AcoupiError(
            f'cannot write "{output}".', f"ls -ld {output.parent}", why=f"{error.strerror}."
        ) from error


def _functions(stats: "pstats.Stats", lines: int) -> dict[str, Any]:
    found = stats.get_stats_profile()
    slowest = sorted(found.func_profiles.items(), key=lambda item: -item[1].cumtime)[:lines]
    return {
        "total_s": found.total_tt,
        "functions": [
            {
                "function": name,
                "file": one.file_name,
                "line": one.line_number,
                "calls": one.ncalls,
                "own_s": one.tottime,
                "total_s": one.cumtime,
            }
            for name, one in slowest
        ],
    }


def _printed(stats: "pstats.Stats", lines: int) -> str:
    text = io.StringIO()
    stats.stream = text  # type: ignore[attr-defined]
    stats.sort_stats("cumulative").print_stats(lines)
    return text.getvalue()
