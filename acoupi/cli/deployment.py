"""``acoupi deployment``: starting and ending a deployment, and its state."""

import datetime
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson, run_checks
from acoupi.cli.output import (
    done,
    example,
    print_json,
    print_record,
    print_table,
    warn,
    working,
)
from acoupi.cli.table import group
from acoupi.cli.terminal import echo
from acoupi.cli.timezones import shown_time, warn_of_timezone
from acoupi.errors import ParameterError

if TYPE_CHECKING:
    from acoupi.system.sensor import Sensor
    from acoupi.system.state import AcoupiStatus, CeleryStatus, MicrophoneState

__all__ = ["UNHEALTHY", "app", "microphone_words", "service_rows", "start", "stop", "warnings_of"]

app = group("deployment")

UNHEALTHY = 3
DRAIN_LIMIT = 60.0
"""Minutes."""
SERVICE_COLUMNS = {
    "name": "service",
    "state": "state",
    "task": "doing",
    "done": "done",
    "failed": "failed",
    "restarts": "restarts",
    "last_done_on": "last done (UTC)",
    "memory_mb": "MB",
    "message": "",
}
LIST_COLUMNS = {
    "name": "deployment",
    "place": "place",
    "started_on": "started (UTC)",
    "ended_on": "ended (UTC)",
    "id": "id",
}


@app.command(
    epilog=example('acoupi deployment start --name "Old oak" --latitude 51.54 --longitude -0.02')
)
def start(
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="A name for the site.")] = None,
    latitude: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Degrees north; south is negative."),
    ] = None,
    longitude: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Degrees east; west is negative."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="First test everything.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Start recording, until "acoupi deployment stop".

    The location is stored with every recording; dawn and dusk are calculated
    for it.
    """
    from acoupi.system.lifecycle import begin

    found = home.sensor()
    name, latitude, longitude = _place(name, latitude, longitude)
    _check_degrees("--latitude", latitude, 90)
    _check_degrees("--longitude", longitude, 180)
    if check:
        run_checks(found, [], quiet=as_json)
    with working("Starting the services"):
        deployment = begin(found, name, latitude, longitude, echo=echo)
    if as_json:
        print_json(deployment)
        return
    done(f'The deployment "{deployment.name}" has started.')
    typer.echo("To see its state: acoupi status")
    warn_of_timezone(found.settings, deployment.latitude, deployment.longitude)
    if deployment.latitude is None or deployment.longitude is None:
        warn("without latitude and longitude, nothing can be scheduled by dawn and dusk.")


def _place(
    name: str | None, latitude: float | None, longitude: float | None
) -> tuple[str, float | None, float | None]:
    """Ask for the parts of the location that were not given, on a terminal."""
    if not sys.stdin.isatty():
        if name is None:
            raise ParameterError(
                "",
                "the site has no name.",
                'acoupi start "Old oak"',
                why="the name identifies the recordings of a deployment.",
            )
        return name, latitude, longitude
    name = name or str(typer.prompt("Name of the site"))
    if latitude is None:
        latitude = _ask_degrees("Latitude, degrees north (Enter: unknown)", 90)
    if longitude is None:
        longitude = _ask_degrees("Longitude, degrees east (Enter: unknown)", 180)
    return name, latitude, longitude


def _check_degrees(option: str, degrees: float | None, most: float) -> None:
    if degrees is not None and not -most <= degrees <= most:
        raise ParameterError(
            f"{degrees:g}",
            f'{option} cannot be "{degrees:g}".',
            f"{option} {min(most, 51.54):g}",
            why=f"it is in degrees, from -{most:g} to {most:g}.",
        )


def _ask_degrees(text: str, most: float) -> float | None:
    while True:
        answer = str(typer.prompt(text, "", show_default=False)).strip()
        if not answer:
            return None
        try:
            degrees = float(answer)
        except ValueError:
            degrees = most + 1
        if -most <= degrees <= most:
            return degrees
        typer.echo(f"A number from -{most:g} to {most:g}, such as 51.54.", err=True)


@app.command(epilog=example("acoupi deployment stop --drain"))
def stop(
    drain: Annotated[
        bool,
        typer.Option("--drain", help="Wait until all is analysed and sent; Ctrl-C stops the wait."),
    ] = False,
    drain_limit: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES", min=0, help="Longest wait with --drain; by default 60 minutes."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stop recording, finish the work in progress, and end the deployment.

    With --drain, recording stops first, and the deployment ends; the other services then
    process and send what is waiting before they stop.
    """
    from acoupi.system.backlog import left_over
    from acoupi.system.lifecycle import finish

    if drain_limit is not None and not drain:
        raise ParameterError(
            "--drain-limit",
            "--drain-limit is given without --drain.",
            f"acoupi stop --drain --drain-limit {drain_limit:g}",
            why="it limits how long --drain waits; without --drain there is no wait.",
        )
    found = home.sensor()
    with working("Stopping the services; they finish the work in progress") as tell:
        limit = DRAIN_LIMIT if drain_limit is None else drain_limit
        drained = _drain(found, limit, tell) if drain else None
        deployment = finish(found, echo=echo, drain=drained)
    if as_json:
        print_json(deployment)
    elif deployment is None:
        done("The services have stopped. They had recorded nothing yet.")
    else:
        done(f'The deployment "{deployment.name}" has ended.')
        for line in left_over(found.settings):
            typer.echo(line)


def _drain(found: "Sensor", minutes: float, tell: Callable[[str], None]) -> Callable[[], None]:
    """Return a function that waits until all is done and reports how much is left."""
    from acoupi.system.draining import NOTHING, Work, check_can_drain, wait_until_drained

    check_can_drain(found)
    told: list[Work] = []

    def show(work: Work) -> None:
        if [work] != told:
            told[:] = [work]
            tell(f"Recording has stopped. Waiting: {work.words()} (Ctrl-C: stop now)")

    def drained() -> None:
        left = wait_until_drained(found, minutes * 60, show)
        if left != NOTHING:
            warn(f"the wait has ended with work left: {left.words()}.")
        tell("Stopping the services")

    return drained


@app.command(epilog=example("acoupi deployment status"))
def status(as_json: AsJson = False) -> None:
    """Show the state of the sensor, from its records; the microphone is not opened.

    Exit code 3: something is wrong.
    """
    from acoupi.system.state import sensor_status

    found = home.sensor()
    with working("Reading the state of the services"):
        state = sensor_status(found)
    if as_json:
        print_json({"ok": is_well(state), **state.model_dump(mode="json")})
    else:
        _show(state)
    if not is_well(state):
        raise typer.Exit(UNHEALTHY)


@app.command("list", epilog=example("acoupi deployment list"))
def list_(as_json: AsJson = False) -> None:
    """List all deployments of the sensor, the earliest first."""
    from acoupi.system.state import stored_deployments

    found = stored_deployments(home.settings())
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    rows = [
        {
            "name": one.name,
            "place": None if None in place else "{:g}, {:g}".format(*place),
            "started_on": shown_time(one.started_on),
            "ended_on": "still running" if one.ended_on is None else shown_time(one.ended_on),
            "id": str(one.id),
        }
        for one in found
        for place in [(one.latitude, one.longitude)]
    ]
    print_table(rows, LIST_COLUMNS, empty="There have been no deployments.")


def is_well(state: "AcoupiStatus") -> bool:
    """Whether nothing is wrong."""
    return state.is_well


def _show(state: "AcoupiStatus") -> None:
    deployment = state.deployment
    record: dict[str, Any] = {"deployment": deployment.name if deployment else "none"}
    if state.unnamed is not None:
        record["deployment"] = f"recording without a named place, as {state.unnamed.name}"
        record["since"] = f"{shown_time(state.unnamed.started_on)} UTC"
    elif deployment is not None:
        record["since"] = f"{shown_time(deployment.started_on)} UTC"
        if deployment.latitude is not None and deployment.longitude is not None:
            record["place"] = f"{deployment.latitude:g}, {deployment.longitude:g}"
    waiting = state.celery.waiting
    record |= {
        "program": f"{state.program.program}: {state.program.status}",
        "services": f"{state.services.target}: workers {state.services.acoupi}, "
        f"beat {state.services.beat}",
        "broker": state.celery.broker,
        "waiting": "unknown"
        if waiting is None
        else ", ".join(f"{queue} {count}" for queue, count in waiting.items()),
    }
    if state.microphone is not None:
        record["microphone"] = microphone_words(state.microphone)
    print_record(record | _work(state))
    if state.unnamed is not None:
        typer.echo('To name it: acoupi start "Old oak"')
    if state.stands_by:
        warn("nothing is recorded until: acoupi start   (it was stopped on the web page)")
    for message in warnings_of(state):
        warn(message)
    print_table(service_rows(state.celery), SERVICE_COLUMNS, empty="There are no services.")


def _work(state: "AcoupiStatus") -> dict[str, str]:
    """Return how much work is waiting, and how much room the disk has for it."""
    parts = {
        "analysis": state.analysis,
        "spool": state.in_memory,
        "disk": state.space,
        "hub": state.hub,
    }
    work = {name: part.words() for name, part in parts.items() if part is not None}
    if state.messages:
        work["to send"] = ", ".join(one.words() for one in state.messages)
    return work


def warnings_of(state: "AcoupiStatus") -> list[str]:
    """Return what is wrong: with the program and the services, and by the active alarms."""
    messages = [state.program.message, state.services.message, state.celery.message]
    messages.append(_ended(state))
    if state.hub is not None:
        messages.append(state.hub.warning())
    alarms = [
        f"alarm {one.alarm} since {shown_time(one.since)} UTC: {one.detail}" for one in state.alarms
    ]
    return [*filter(None, messages), *alarms]


def _ended(state: "AcoupiStatus") -> str | None:
    """Return which services do not run while there is a deployment, and what starts them."""
    services = [*state.celery.workers, state.celery.beat]
    names = [one.name for one in services if one is not None and one.state == "stopped"]
    if state.deployment is None or not names:
        return None
    them = "it" if len(names) == 1 else "them"
    return f"not running: {', '.join(names)}. To start {them} again: acoupi workers restart"


def microphone_words(state: "MicrophoneState", zone: datetime.tzinfo | None = None) -> str:
    """Describe the microphone, from the last recording, and anything that prevents the next one.

    Times are in the time zone of the sensor, which is shown; without one, in UTC.
    """
    health = state.health

    def shown(time: datetime.datetime) -> str:
        if zone is None:
            return f"{shown_time(time, '%H:%M:%S')} UTC"
        return shown_time(time, "%H:%M:%S", zone=zone)

    if state.missing_since is not None:
        return f"{state.faults[0]} since {shown(state.missing_since)}: {state.missing_detail}"
    if health is None:
        return "not measured"
    level = f"{health.rms_dbfs:.0f} dBFS, noise floor {health.noise_floor_dbfs:.0f} dBFS"
    words = ", ".join(state.faults) or "ok"
    when = shown(state.recorded_on) if state.recorded_on else "never"
    text = f"{words} ({level if not health.is_silent else 'no sound'}; recorded {when})"
    return text if state.incomplete is None else f"{text}; it broke off: {state.incomplete}"


def service_rows(state: "CeleryStatus") -> list[dict[str, Any]]:
    """Return the services as rows of a table."""
    return [
        {
            **asdict(service),
            "message": service.message or service.last_error,
            "last_done_on": shown_time(service.last_done_on) if service.last_done_on else None,
            "memory_mb": round(service.memory_bytes / 1e6) if service.memory_bytes else None,
        }
        for service in state.services
    ]
