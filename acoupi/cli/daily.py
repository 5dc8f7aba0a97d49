"""``acoupi start``, ``stop``, ``status``, ``logs`` and ``watch``: what is needed every day."""

import math
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from acoupi.cli import deployment, home
from acoupi.cli.checks import AsJson
from acoupi.cli.handler import show_error
from acoupi.cli.output import console, example, print_json, print_record, say, warn, working
from acoupi.cli.table import single
from acoupi.errors import ParameterError

if TYPE_CHECKING:
    from acoupi.system.summary import Summary

__all__ = ["logs_app", "start_app", "status_app", "stop_app", "watch_app"]

start_app, stop_app, status_app, logs_app, watch_app = (single() for _ in range(5))

LOOK_EVERY = 2.0
"""Seconds between two updates of ``acoupi watch``."""

stop_app.command(epilog=example("acoupi stop --drain"))(deployment.stop)


@start_app.command(epilog=example('acoupi start "Old oak" --at 51.54,-0.02'))
def start(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A name for the site.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="LAT,LON", help="Where it is: degrees north and east."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="First test everything.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Start recording at a site, until "acoupi stop".

    The place is stored with every recording; dawn and dusk are calculated for it.
    """
    latitude, longitude = (None, None) if at is None else _degrees(at)
    deployment.start(name, latitude, longitude, check, as_json)


def _degrees(text: str) -> tuple[float, float]:
    try:
        latitude, longitude = (float(one) for one in text.split(","))
    except ValueError:
        latitude = longitude = math.nan
    if abs(latitude) <= 90 and abs(longitude) <= 180:
        return latitude, longitude
    raise ParameterError(
        text,
        f'--at cannot be "{text}".',
        "--at 51.54,-0.02",
        why="it is two numbers with a comma between them: degrees north (-90 to 90), degrees "
        "east (-180 to 180).",
    )


@status_app.command(epilog=example("acoupi status"))
def status(as_json: AsJson = False) -> None:
    """Show whether it records, what was heard today, and what is wrong.

    Exit code 3: something is wrong. More about the services: acoupi deployment status
    """
    from acoupi.system.summary import summary_of

    settings = home.sensor().settings
    with working("Reading the state of the services"):
        summary = summary_of(settings)
    if as_json:
        print_json(summary.as_json())
    else:
        _show(summary)
    if summary.unreadable is not None:
        show_error(summary.unreadable)
    if not summary.ok:
        raise typer.Exit(deployment.UNHEALTHY)


def _show(summary: "Summary") -> None:
    state = summary.state
    rows = summary.rows()
    if state.microphone is not None:
        rows["microphone"] = deployment.microphone_words(state.microphone, summary.zone)
    print_record(rows)
    for message in deployment.warnings_of(state):
        warn(message)


@logs_app.command(epilog=example("acoupi logs recording"))
def logs(
    service: Annotated[
        str | None,
        typer.Argument(metavar="[SERVICE]", help="One service; by default, all of them."),
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each service.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the last lines that the services logged."""
    found = home.sensor().target.logs(service, lines)
    if as_json:
        print_json(found)
        return
    for name, text in found.items():
        for line in text:
            say(f"{name}: {line}" if service is None else line)


@watch_app.command(epilog=example("acoupi watch"))
def watch() -> None:
    """Show the state of the sensor, updated every two seconds, until Ctrl-C."""
    from acoupi.system.summary import summary_of

    settings = home.sensor().settings
    is_screen = sys.stdout.isatty()
    while True:
        summary = summary_of(settings)
        if is_screen:
            console().clear()
        _show(summary)
        if summary.unreadable is not None:
            show_error(summary.unreadable)
        time.sleep(LOOK_EVERY)
