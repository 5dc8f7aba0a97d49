"""What a setup would change, and a reminder that running services keep their settings."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from acoupi.cli.output import print_json, say, warn, working

if TYPE_CHECKING:
    from acoupi.stack.settings import Settings
    from acoupi.stack.stack import Service
    from acoupi.system.planning import SetupRequest

__all__ = ["remind_of_restart", "show_diff"]


def remind_of_restart(settings: "Settings", services: "Iterable[Service]") -> None:
    """Print a reminder if services are running that do not have the new settings yet."""
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
