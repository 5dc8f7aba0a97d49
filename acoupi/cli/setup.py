"""``acoupi setup``."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.changes import remind_of_restart, show_diff
from acoupi.cli.output import done, example
from acoupi.cli.table import single
from acoupi.cli.timezones import say_timezone
from acoupi.errors import NotConfiguredError, ParameterError

if TYPE_CHECKING:
    from acoupi.stack.settings import Settings

__all__ = ["app"]

ANY_OPTION = {"allow_extra_args": True, "ignore_unknown_options": True}


EXAMPLE = "acoupi setup --program default --recording.duration 10 --recording.interval 60"

app = single()


@app.command(context_settings=ANY_OPTION, epilog=example(EXAMPLE))
def setup(
    context: typer.Context,
    program: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the sensor does: an installed program, or a Python module.",
            autocompletion=home.complete.programs,
        ),
    ] = None,
    prompt: Annotated[
        bool | None,
        typer.Option(
            "--prompt/--no-prompt",
            help="Ask for what is not given; on a terminal that is so anyway.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take settings from a JSON, YAML or TOML file."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where it runs: compose (Docker), process, systemd, balena (a fleet), or one "
            "that a package brings. "
            "If not given: as before, else compose where a Docker engine answers.",
            autocompletion=home.complete.targets,
        ),
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package",
            metavar="NAME",
            help="Bake the program into the image: a pip requirement, or the folder of a "
            "Python package. It need not be installed here. Repeatable.",
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="redis://... or amqp://..., if you run one; else embedded."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over files that were edited by hand.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what would change, and change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --diff: as JSON.")] = False,
) -> None:
    """Make this board a sensor: choose what it does, and set it.

    Every setting of the program is an option, named with dots; "acoupi config
    schema --program default" lists them. Settings can also come from a file, or
    from variables like ACOUPI_CONFIG__RECORDING__DURATION. No microphone needs
    to be plugged in. A second setup keeps the answers of the first.
    """
    from acoupi.cli.prompts import ask

    found = home.settings()
    asking = sys.stdin.isatty() if prompt is None else prompt
    chosen = _target_of(found, target, broker, has_package=bool(package))
    if package:
        words = ["setup", "--target", str(chosen), *(["--program", program] if program else [])]
        words += ["--prompt" if asking else "--no-prompt", *(["--force"] if force else [])]
        words += [*(["--diff"] if diff else []), *(["--json"] if as_json else [])]
        words += [*(["--config", str(config)] if config else [])]
        words += [*(["--broker", broker] if broker else []), *context.args]
        raise typer.Exit(_set_up_inside(found, words, package))
    arguments: dict[str, Any] = {
        "program_name": program or _program_of(found, asking=asking),
        "args": list(context.args),
        "prompt": asking and not diff,
        "target": chosen,
        "file": config,
        "broker": broker,
        "ask": ask,
    }
    if diff:
        show_diff(found, arguments, as_json=as_json)
    else:
        is_new = not found.manifest_file.exists()
        _set_up(found, arguments, force=force)
        if is_new and target is None:
            _say_where(found)


def _say_where(found: "Settings") -> None:
    """Say what was chosen by itself, and how to choose."""
    from acoupi.targets import DEFAULT_TARGET, target_for, targets_that

    target = target_for(found)
    if target.reason_to_choose:
        typer.echo(
            f"{target.reason_to_choose} For plain processes: acoupi setup --target {DEFAULT_TARGET}"
        )
        return
    containers = targets_that(lambda kind: kind.needs_engine)
    typer.echo(
        f"It runs on the target {target.name}. In containers: acoupi setup --target {containers[0]}"
    )


def _target_of(
    found: "Settings", target: str | None, broker: str | None, *, has_package: bool
) -> str | None:
    """Return where the sensor will run; None: as before.

    Where nothing was chosen yet, and ACOUPI_TARGET names nothing, that is where
    it can run best: in containers if an engine answers.

    Raises
    ------
    ParameterError
        If something is to be baked into an image, and none is used.
    """
    from acoupi.bundles.program_image import is_inside
    from acoupi.bundles.rendering import Manifest
    from acoupi.targets import DEFAULT_TARGET, find_target, targets_that

    chosen = target or os.environ.get("ACOUPI_TARGET") or None
    if has_package:
        bakers = targets_that(lambda kind: kind.bakes_packages)
        if target is not None and not find_target(target).bakes_packages:
            raise ParameterError(
                target,
                f"--package cannot be used with --target {target}.",
                f"acoupi setup --package NAME --target {bakers[0]}",
                why="it is baked into an image, and only containers run from one.",
            )
        return target or bakers[0]
    if target is not None or Manifest.read(found.manifest_file) is not None:
        return target
    if chosen is not None or is_inside():
        return chosen
    if broker not in (None, "embedded"):
        return DEFAULT_TARGET
    possible = targets_that(lambda kind: kind.is_chosen_where_possible())
    return next(iter(possible), DEFAULT_TARGET)


def _set_up_inside(found: "Settings", words: list[str], packages: list[str]) -> int:
    """Bake packages into an image, and set up inside it; return the exit code."""
    from acoupi.bundles.images import image_name, named_packages, why_build
    from acoupi.cli.images import build_image_of
    from acoupi.cli.inside import run_inside

    named = named_packages(packages)
    image = image_name(named)
    if why_build(image, named):
        build_image_of(named)
    return run_inside(found, words, image, named)


def _program_of(found: "Settings", *, asking: bool) -> str:
    """Return the program that is there already, or the one that is chosen now."""
    from acoupi.cli.prompts import ask_for_program
    from acoupi.stack.loading import (
        available_programs,
        load_program_class,
        read_program_name,
    )

    try:
        present: str | None = read_program_name(found)
    except NotConfiguredError:
        present = None
    if asking:
        if present and _runs_from_an_image(found):
            load_program_class(present)  # if it is not here, it is asked for in its image
        return ask_for_program(present)
    if present:
        return present
    raise ParameterError(
        "",
        "--program is missing.",
        "acoupi setup --program default",
        why=f"the installed programs are {', '.join(available_programs())}.",
    )


def _runs_from_an_image(found: "Settings") -> bool:
    from acoupi.targets import target_for

    return target_for(found).bakes_packages


def _set_up(found: "Settings", arguments: dict[str, Any], *, force: bool) -> None:
    from acoupi.system.lifecycle import setup_program
    from acoupi.targets import target_for

    setup_program(found, force=force, **arguments)
    done(f"The sensor is set up in {found.home} (program {arguments['program_name']}).")
    say_timezone(found)
    remind_of_restart(found)
    typer.echo(f"Next: {target_for(found).next_step}")
