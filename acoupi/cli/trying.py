"""``acoupi try``: a whole sensor for a minute, without a microphone."""

import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from acoupi.cli.choosing import full_name
from acoupi.cli.output import console, example, print_table, say
from acoupi.cli.table import single
from acoupi.errors import AcoupiError

if TYPE_CHECKING:
    from rich.console import Group

    from acoupi import data
    from acoupi.system.trying import TriedSensor

__all__ = ["try_app"]

try_app = single()

COLUMNS = {
    "time": "time",
    "duration": "duration (ms)",
    "band": "frequency (kHz)",
    "score": "score",
    "species": "",
}
ROWS = 25
"""The most rows in a table of detections."""
LINE_EVERY = 5.0
"""Seconds between two lines of progress, where there is no terminal."""
LOOK_EVERY = 0.5
BAR = 40
ANY_OPTION = {"allow_extra_args": True, "ignore_unknown_options": True}


@try_app.command(context_settings=ANY_OPTION, epilog=example("acoupi try --seconds 600 --web"))
def try_(
    context: typer.Context,
    seconds: Annotated[float, typer.Option(min=1, help="How long it records.")] = 60,
    program: Annotated[
        str, typer.Option(metavar="NAME", help="An installed program, or a Python module.")
    ] = "demo",
    home: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder of the trial sensor; one from an earlier trial is removed."
        ),
    ] = Path(".demo"),
    target: Annotated[
        Literal["auto", "compose", "process"],
        typer.Option(help="In containers, as plain processes, or whichever works here."),
    ] = "auto",
    web: Annotated[bool, typer.Option("--web", help="Also serve the page of the sensor.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the web page.")] = 8080,
) -> None:
    """Run a whole sensor for a minute, without a microphone.

    Shows what it found. The sounds are synthetic (or those that ACOUPI_SIMULATED_AUDIO names);
    all else is real. Options of the program can be added: --detections.threshold 0.4. Your own
    sensor is not touched.
    """
    from acoupi.system.trying import TriedSensor, clear, own_home

    signal.signal(signal.SIGTERM, _interrupt)
    home, program = home.absolute(), full_name(program)
    chosen = _choose_target(target, program, home)
    try:
        with own_home(home):
            sensor = TriedSensor(home, program, context.args, chosen, port if web else None)
            if sensor.is_running():
                say("Stopping the services left over from an earlier trial ...")
                sensor.stop()
            clear(home)
            was_interrupted = _run(sensor, seconds)
            found = _report(sensor)
    except OSError as error:
        raise _cannot_go_on(error) from error
    if was_interrupted:
        raise typer.Exit(130)
    if not found:
        _nothing_found(sensor)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _cannot_go_on(error: OSError) -> AcoupiError:
    fix = "acoupi try --home A_FOLDER_ON_A_DISK_WITH_SPACE"
    return AcoupiError("the trial cannot continue.", fix, why=f"{error}.")


def _nothing_found(sensor: "TriedSensor") -> NoReturn:
    raise AcoupiError(
        "the sensor detected nothing." if sensor.is_demo else "the sensor recorded nothing.",
        "acoupi try --seconds 120   (on a slow machine)",
        why=f"see its logs in {_short(sensor.home / 'log')}.",
    )


def _choose_target(wanted: str, program: str, home: Path) -> str:
    """Return where to run: in containers if possible here; print why if not."""
    if wanted != "auto":
        return wanted
    from acoupi.bundles.engine import Host
    from acoupi.bundles.preflight import failure, run_preflight
    from acoupi.stack.loading import load_program_class
    from acoupi.stack.settings import Settings

    if not load_program_class(program).__module__.startswith("acoupi."):
        say("Running as plain processes: the image for containers does not hold this program.")
        return "process"
    error = failure(list(run_preflight(Settings(home=home), Host(), None)))
    if error is None:
        say("A Docker engine answers: each service gets a container of its own.")
        return "compose"
    say(f"Running as plain processes, without containers: {error.message} {error.why}")
    return "process"


def _run(sensor: "TriedSensor", seconds: float) -> bool:
    """Run the sensor, and always stop it; return whether it was interrupted."""
    say(f"Setting up {sensor.program} in {_short(sensor.home)} ...")
    sensor.set_up()
    _build(sensor)
    try:
        say("Checking and starting the sensor ...")
        sensor.start()
        if sensor.page is not None:
            token = sensor.acoupi("web", "token").split()[0]
            page = f"http://127.0.0.1:{sensor.page}/"
            say(f"The page: {page} (to change anything, log in with {token})")
        say(f"Listening for {seconds:.0f} s (Ctrl-C stops) ...")
        _watch(sensor, seconds)
    except KeyboardInterrupt:
        return True
    finally:
        # A start that failed has undone itself.
        if sensor.is_running():
            say("Stopping; work in progress is finished first ...")
            sensor.stop()
    return False


def _build(sensor: "TriedSensor") -> None:
    from acoupi.bundles.images import image_name, why_build
    from acoupi.targets import find_target

    if find_target(sensor.target).needs_engine and why_build(image_name()):
        say("Building the image of the sensor, which takes some minutes the first time ...")
        sensor.acoupi("compose", "build")


def _watch(sensor: "TriedSensor", seconds: float) -> None:
    """Show the progress until the time is over."""
    from rich.live import Live

    from acoupi import data

    begun = data.monotonic()
    screen = console()
    if not screen.is_terminal:
        shown = -LINE_EVERY
        while (passed := data.monotonic() - begun) < seconds:
            if passed - shown >= LINE_EVERY:
                shown = passed
                say(f"{passed:4.0f} s: {sensor.progress().line()}")
            time.sleep(LOOK_EVERY / 2)
        return
    with Live(console=screen, auto_refresh=False, transient=True) as live:
        while (passed := data.monotonic() - begun) < seconds:
            live.update(_dashboard(sensor, passed, seconds), refresh=True)
            time.sleep(LOOK_EVERY)


def _dashboard(sensor: "TriedSensor", passed: float, seconds: float) -> "Group":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    progress = sensor.progress()
    done = round(BAR * passed / seconds)
    bar = Text.assemble(
        ("━" * done, "green"), ("━" * (BAR - done), "dim"), f"  {passed:.0f} of {seconds:.0f} s"
    )
    counts = Table.grid(padding=(0, 3))
    for name, value, remark in (
        ("recordings", progress.recordings, f"{progress.waiting} waiting"),
        ("analysed", progress.analysed, f"{progress.detections} detections"),
        ("messages delivered", progress.delivered, f"and {progress.heartbeats} heartbeats"),
        ("kept", progress.kept, ""),
        ("deleted", progress.deleted, ""),
    ):
        counts.add_row(name, Text(str(value), "bold", justify="right"), Text(remark, "dim"))
    services = Table.grid(padding=(0, 3))
    for name, state in progress.services.items():
        colour = "green" if state == "ok" else "yellow"
        services.add_row(
            Text("●", colour), name, Text(state, colour), Text(progress.doing[name], "dim")
        )
    return Group(bar, "", counts, "", services)


def _report(sensor: "TriedSensor") -> bool:
    """Print what was found and where it is; return whether anything was detected or recorded."""
    progress = sensor.progress()
    found = [(one.recording, each) for one in sensor.outputs() for each in one.detections]
    typer.echo()
    if found:
        _print_detections(found)
    say(
        f"{progress.recordings} recordings: {progress.kept} kept, {progress.deleted} deleted, "
        f"{progress.waiting} waiting. {progress.detections} detections. "
        f"{progress.delivered} messages and {progress.heartbeats} heartbeats delivered."
    )
    _print_effort(sensor)
    sensor.draw()
    _print_places(sensor)
    return bool(found if sensor.is_demo else progress.recordings)


def _print_effort(sensor: "TriedSensor") -> None:
    """Print what share of the plan was recorded, and why the rest was not."""
    from acoupi.exports.effort_report import find_deployment, measure, read_effort
    from acoupi.telling import shown_seconds

    if not sensor.has_store:
        return
    try:
        effort = measure(*read_effort(sensor.store, find_deployment(sensor.store, None)))
    except AcoupiError:  # It was interrupted before anything was recorded.
        return
    total = effort.total
    lost = [
        f"{shown_seconds(total.seconds(state))} {state.value.replace('_', ' ')}"
        for state in {gap.state: None for gap in effort.gaps}
    ]
    reasons = f" ({', '.join(lost)})" if lost else ""
    recorded, planned = shown_seconds(total.recorded), shown_seconds(total.planned)
    say(f"Effort: {recorded} of {planned} planned were recorded{reasons}; more: acoupi effort")


def _print_detections(found: "list[tuple[data.Recording, data.Detection]]") -> None:
    rows = [_cells(recording, one) for recording, one in found[:ROWS]]
    print_table(rows, COLUMNS, empty="", title="Detections")
    if len(found) > ROWS:
        say(f"... and {len(found) - ROWS} more")
    typer.echo()


def _cells(recording: "data.Recording", one: "data.Detection") -> dict[str, str]:
    start, low, end, high = one.location.coordinates if one.location else (0, 0, 0, 0)
    at = recording.created_on.astimezone().timestamp() + start
    return {
        "time": time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}",
        "duration": f"{1000 * (end - start):.0f}",
        "band": f"{low / 1000:.1f} to {high / 1000:.1f}",
        "score": f"{one.detection_score:.2f}",
        "species": ", ".join(tag.tag.value for tag in one.tags if tag.tag.key == "species"),
    }


def _print_places(sensor: "TriedSensor") -> None:
    paths: Any = sensor.config.paths
    places = [
        ("picture", sensor.picture),
        ("recordings kept", paths.recordings),
        ("messages", sensor.messages),
        ("detections", paths.db_metadata),
        ("logs", sensor.home / "log"),
        ("all of it", sensor.home),
    ]
    for what, path in places:
        if path.exists():
            say(f"  {what + ':':<17}{_short(path)}")
    say(f"To look around: ACOUPI_HOME={shlex.quote(_short(sensor.home))} {_command()} status")


def _command() -> str:
    """Return the command that calls acoupi as this process was called."""
    beside = Path(sys.executable).with_name("acoupi")
    return "acoupi" if shutil.which("acoupi") == str(beside) else shlex.quote(_short(beside))


def _short(path: Path) -> str:
    """Return a path relative to the working directory if it is below it."""
    here = Path.cwd()
    return f"./{path.relative_to(here)}" if path.is_relative_to(here) else str(path)
