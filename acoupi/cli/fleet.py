"""``acoupi compose render --target NAME -o DIR``: a folder to deploy elsewhere."""

from pathlib import Path

import typer

from acoupi.cli import home
from acoupi.cli.output import done
from acoupi.errors import NotConfiguredError, ParameterError

__all__ = ["render_folder"]

DEFAULT_PROGRAM = "default"


def render_folder(
    target: str | None,
    folder: Path | None,
    program: str | None,
    *,
    packages: list[str],
    force: bool,
) -> None:
    """Write the folder, from the home's settings if it has them, else from the defaults.

    The program must be installed here too; `packages` go into the image.

    Raises
    ------
    AcoupiError
        If the target makes no folder, none is named, or it cannot be written.
    """
    from acoupi.stack.loading import read_program_name
    from acoupi.system.planning import SetupRequest, plan_setup
    from acoupi.targets import find_target, targets_that

    if target is None or folder is None or not find_target(target).renders_folder:
        able = targets_that(lambda kind: kind.renders_folder)
        raise ParameterError(
            target or "",
            f"a folder is only made for {' or '.join(able)}, and it needs a name.",
            f"acoupi compose render --target {able[0]} -o DIR",
            why="the other targets are rendered into the home: acoupi setup --target compose.",
        )
    found = home.settings()
    if program is None:
        try:
            program = read_program_name(found)
        except NotConfiguredError:
            program = DEFAULT_PROGRAM
    plan = plan_setup(found, SetupRequest(program, target=target))
    following = plan.target.render_folder(folder, plan.stack, packages=packages, force=force)
    more = "; see its README.md for the rest" if (folder / "README.md").exists() else ""
    done(f"{folder} holds the program {program} for {target}{more}.")
    typer.echo(f"Next: {following}")
