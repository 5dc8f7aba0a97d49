"""``acoupi doctor``: whether this machine can run the sensor."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.handler import show_error
from acoupi.cli.output import done, example, print_json, say, warn, working
from acoupi.cli.table import single
from acoupi.cli.terminal import painted
from acoupi.printing import printable

if TYPE_CHECKING:
    from acoupi.bundles.preflight import Result
    from acoupi.bundles.rendering import Manifest
    from acoupi.stack.settings import Settings

__all__ = ["doctor_app", "look", "show_result"]

doctor_app = single()

UNHEALTHY = 3
MARKS = {
    "ok": ("✓", typer.colors.GREEN),
    "warn": ("!", typer.colors.YELLOW),
    "fail": ("✗", typer.colors.RED),
}


@doctor_app.command(epilog=example("acoupi doctor"))
def doctor(as_json: AsJson = False) -> None:
    """Check whether this machine can run the sensor: Docker, disk, memory, microphone, clock.

    Starts nothing and changes nothing; no sensor needs to be set up yet. Exit
    code 3: something is missing.
    """
    from acoupi.system.sensor import Sensor

    settings = home.settings()
    results = look(settings, Sensor.at(settings).manifest, quiet=as_json)
    failed = [result for result in results if result.outcome == "fail"]
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(result) for result in results]})
    else:
        _show_advice(results)
    for result in failed:
        show_error(result.error())
    if failed:
        raise typer.Exit(UNHEALTHY)
    if not as_json:
        done("This machine can run the sensor.")


def look(
    settings: "Settings", manifest: "Manifest | None", *, quiet: bool = False
) -> "list[Result]":
    """Run all checks; unless `quiet`, print each result as it comes in."""
    from acoupi.bundles.engine import Host
    from acoupi.bundles.preflight import run_preflight
    from acoupi.targets import find_target

    kind = find_target(manifest.target) if manifest else None
    results = run_preflight(
        settings,
        Host(),
        manifest,
        containers=kind is None or kind.needs_engine,
        rights=kind.rights if kind else None,
    )
    return list(_said(results, quiet=quiet))


def _said(results: "Iterable[Result]", *, quiet: bool) -> "Iterable[Result]":
    """Yield the results, each shown as soon as it is known."""
    waiting = iter(results)
    while True:
        with working("Checking"):
            result = next(waiting, None)
        if result is None:
            return
        if not quiet:
            show_result(result)
        yield result


def show_result(result: "Result") -> None:
    """Print the result of a check, in one line."""
    mark, colour = MARKS[result.outcome]
    message = printable(result.message.rstrip("."))
    typer.echo(f"{painted(mark, fg=colour)} {result.name:<18} {message}")


def _show_advice(results: "Iterable[Result]") -> None:
    """Print why each warning matters and what to do."""
    for result in results:
        if result.outcome == "warn":
            warn(f"{result.message}: {result.why}")
            say(f"  Try: {result.help}", err=True)
