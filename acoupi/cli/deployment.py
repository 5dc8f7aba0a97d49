"""``acoupi deployment``: from putting the sensor out to bringing it home."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson, run_checks
from acoupi.cli.output import (
    done,
    echo,
    example,
    print_json,
    print_record,
    print_table,
    warn,
    working,
)
from acoupi.cli.table import group
from acoupi.cli.timezones import shown_time, warn_of_timezone
from acoupi.errors import ParameterError

if TYPE_CHECKING:
    from acoupi.system.state import AcoupiStatus, CeleryStatus, MicrophoneState

__all__ = ["app", "service_rows"]

app = group("deployment")

UNHEALTHY = 3
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


@app.command(
    epilog=example('acoupi deployment start --name "Old oak" --latitude 51.54 --longitude -0.02')
)
def start(
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to call the place.")
    ] = None,
    latitude: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Degrees north; south is negative."),
    ] = None,
    longitude: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Degrees east; west is negative."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="First try everything out.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Start to record, here and now, until "acoupi deployment stop".

    The place is stored with every recording, and dawn and dusk are computed
    for it.
    """
    from acoupi.system.deployments import get_current_deployment
    from acoupi.system.lifecycle import start_program

    found = home.configured()
    name, latitude, longitude = _place(name, latitude, longitude)
    _check_degrees("--latitude", latitude, 90)
    _check_degrees("--longitude", longitude, 180)
    if check:
        run_checks(found, [], quiet=as_json)
    with working("Starting the services"):
        start_program(found, name, latitude, longitude, echo=echo)
    deployment = get_current_deployment(found)
    if as_json:
        print_json(deployment)
        return
    done(f'The deployment "{deployment.name}" has started.')
    typer.echo("To see how it is: acoupi deployment status")
    warn_of_timezone(found, deployment.latitude, deployment.longitude)
    if deployment.latitude is None or deployment.longitude is None:
        warn("without latitude and longitude nothing can be timed by dawn and dusk.")


def _place(
    name: str | None, latitude: float | None, longitude: float | None
) -> tuple[str, float | None, float | None]:
    """Ask for what of the place was not given, if there is anyone to ask."""
    if not sys.stdin.isatty():
        if name is None:
            raise ParameterError(
                "",
                "--name is missing.",
                'acoupi deployment start --name "Old oak"',
                why="the recordings of a deployment are told apart by its name.",
            )
        return name, latitude, longitude
    name = name or str(typer.prompt("Name of the place"))
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


@app.command(epilog=example("acoupi deployment stop"))
def stop(as_json: AsJson = False) -> None:
    """Stop recording, finish what was begun, and end the deployment."""
    from acoupi.system.deployments import read_deployment
    from acoupi.system.lifecycle import stop_program

    found = home.configured()
    with working("Stopping the services; what was begun is finished first"):
        stop_program(found, echo=echo)
    deployment = read_deployment(found)
    if as_json:
        print_json(deployment)
    elif deployment is not None:
        done(f'The deployment "{deployment.name}" has ended.')


@app.command(epilog=example("acoupi deployment status"))
def status(as_json: AsJson = False) -> None:
    """Say how the sensor is, from what it has done; the microphone is left alone.

    Exit code 3 says that something is not well.
    """
    from acoupi.system.state import get_status

    found = home.configured()
    with working("Asking the services"):
        state = get_status(found)
    if as_json:
        print_json({"ok": is_well(state), **state.model_dump(mode="json")})
    else:
        _show(state)
    if not is_well(state):
        raise typer.Exit(UNHEALTHY)


def is_well(state: "AcoupiStatus") -> bool:
    """Whether all that should run does, and no task fails."""
    runs = state.deployment is None or state.celery.state == "ok"
    return runs and state.program.status == "ok"


def _show(state: "AcoupiStatus") -> None:
    deployment = state.deployment
    record: dict[str, Any] = {"deployment": deployment.name if deployment else "none goes on"}
    if deployment is not None:
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
        record["microphone"] = _microphone(state.microphone)
    print_record(record)
    for message in (state.program.message, state.services.message, state.celery.message):
        if message:
            warn(message)
    print_table(service_rows(state.celery), SERVICE_COLUMNS, empty="No service is known.")


def _microphone(state: "MicrophoneState") -> str:
    """Say how the microphone does, by the last recording and what kept it from the next."""
    health = state.health
    if state.missing_since is not None:
        since = shown_time(state.missing_since, "%H:%M:%S")
        return f"{state.faults[0]} since {since} UTC: {state.missing_detail}"
    if health is None:
        return "not measured"
    level = f"{health.rms_dbfs:.0f} dBFS, noise floor {health.noise_floor_dbfs:.0f} dBFS"
    words = ", ".join(state.faults) or "well"
    when = f"{shown_time(state.recorded_on, '%H:%M:%S')} UTC" if state.recorded_on else "never"
    text = f"{words} ({level if not health.is_silent else 'no sound'}; recorded {when})"
    return text if state.incomplete is None else f"{text}; broke off: {state.incomplete}"


def service_rows(state: "CeleryStatus") -> list[dict[str, Any]]:
    """Return the services as rows of a table."""
    services = [*state.workers, *([state.beat] if state.beat else [])]
    return [
        {
            **service.model_dump(),
            "message": service.message or service.last_error,
            "last_done_on": shown_time(service.last_done_on) if service.last_done_on else None,
            "memory_mb": round(service.memory_bytes / 1e6) if service.memory_bytes else None,
        }
        for service in services
    ]
