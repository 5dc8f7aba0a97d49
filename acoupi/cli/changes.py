"""What a setup would change, and a reminder that running services keep their old settings."""

from typing import TYPE_CHECKING, Any

import typer

from acoupi.cli.output import print_json, warn, working

if TYPE_CHECKING:
    from acoupi.stack.settings import Settings

__all__ = ["remind_of_restart", "show_diff"]


def remind_of_restart(found: "Settings") -> None:
    """Say so if services run that do not know the new settings yet."""
    from acoupi.bundles.rendering import Manifest
    from acoupi.stack.pulse import is_locked
    from acoupi.system.deployments import read_deployment

    deployment = read_deployment(found)
    manifest = Manifest.read(found.manifest_file)
    names = [one.name for one in manifest.services] if manifest else []
    if deployment is not None and deployment.ended_on is None:
        who = f'the deployment "{deployment.name}" goes on'
    elif any(is_locked(found.run_dir, name) for name in names):
        who = "the services that run go on"
    else:
        return
    warn(f"{who} with the old settings; for the new ones: acoupi workers restart")


def show_diff(found: "Settings", arguments: dict[str, Any], *, as_json: bool) -> None:
    """Show what a setup would change, and change nothing."""
    from acoupi.system.lifecycle import setup_diff

    with working("Comparing"):
        changes = setup_diff(found, **arguments)
    if as_json:
        print_json([{"path": str(one.path), "kind": one.kind, "diff": one.diff} for one in changes])
        return
    differing = [one for one in changes if one.kind != "same"]
    for one in differing:
        typer.echo(f"{one.kind}: {one.path}")
        typer.echo(one.diff)
    if not differing:
        typer.echo("Nothing would change.")
