"""What a setup would change, and a reminder that running services keep the old settings."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from acoupi.cli.output import done, print_json, say, warn, working

if TYPE_CHECKING:
    from acoupi.stack.settings import Settings
    from acoupi.stack.stack import Service
    from acoupi.system.planning import SetupRequest

__all__ = ["apply", "remind_of_restart", "show_diff"]


def apply(settings: "Settings") -> None:
    """Restart the services so that they use the current settings; print which.

    Raises
    ------
    AcoupiError
        If one cannot be restarted.
    """
    from acoupi.system.sensor import Sensor

    found = Sensor.read(settings)
    if not found.target.starts_here or found.target.renders_folder:
        say(f"Its services run elsewhere. Next: {found.target.next_step}")
        return
    running = [one.name for one in found.target.status() if one.is_running]
    if not running:
        say("No service is running: the new settings apply at the next start.")
        return
    say(f"Restarting {', '.join(running)} ({found.target.name}): each finishes its current task.")
    with working("Restarting"):
        found.target.restart()
    done("The services use the new settings.")


def remind_of_restart(settings: "Settings", services: "Iterable[Service]") -> None:
    """Print a reminder if services are running that do not use the new settings yet."""
    from acoupi.stack.pulse import runs_here
    from acoupi.system.deployments import read_deployment

    deployment = read_deployment(settings)
    if deployment is not None and deployment.ended_on is None:
        who = f'the deployment "{deployment.name}" keeps'
    elif any(runs_here(settings, one.name) for one in services):
        who = "the running services keep"
    else:
        return
    warn(f"{who} the old settings until you run: acoupi workers restart")


def show_diff(found: "Settings", request: "SetupRequest", *, as_json: bool) -> None:
    """Show what a setup would change, and change nothing."""
    from acoupi.system.lifecycle import setup_diff

    with working("Comparing"):
        changes = setup_diff(found, request)
    if as_json:
        print_json([{"path": str(one.path), "kind": one.kind, "diff": one.diff} for one in changes])
        return
    differing = [one for one in changes if one.kind != "same"]
    for one in differing:
        typer.echo(f"{one.kind}: {one.path}")
        say(one.diff)
    if not differing:
        typer.echo("Nothing would change.")
