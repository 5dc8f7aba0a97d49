"""``acoupi setup``."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import CompletionItem, TyperCommand  # type: ignore[attr-defined]

from acoupi.cli import home
from acoupi.cli.changes import remind_of_restart, show_diff
from acoupi.cli.checks import warn_of_settings
from acoupi.cli.choosing import full_name, show_notice, show_preset
from acoupi.cli.output import done, example, warn
from acoupi.cli.table import single
from acoupi.cli.timezones import say_timezone
from acoupi.errors import NotConfiguredError, ParameterError

if TYPE_CHECKING:
    from acoupi.cli.interviews import Interview
    from acoupi.stack.settings import Settings
    from acoupi.system.planning import SetupRequest
    from acoupi.system.sensor import Sensor

__all__ = ["app"]

ANY_OPTION = {"allow_extra_args": True, "ignore_unknown_options": True}


EXAMPLE = "acoupi setup --program default --recording.duration 10"

app = single()


class SetupCommand(TyperCommand):
    """Also completes the settings of the program, options that the command does not declare."""

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the options that start with this text."""
        options = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("--"):
            names = home.complete.fields_of(ctx.params.get("program"), incomplete[2:])
            options += [CompletionItem(f"--{name}") for name in names]
        return options


@app.command(cls=SetupCommand, context_settings=ANY_OPTION, epilog=example(EXAMPLE))
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
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Settings for a group of animals: bats, birds, insects, or soundscape. They are "
            "shown; your own options override them.",
            autocompletion=home.complete.presets,
        ),
    ] = None,
    prompt: Annotated[
        bool | None,
        typer.Option(
            "--prompt/--no-prompt",
            help="Ask for the settings that are not given; the default on a terminal.",
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
            help="Where it runs: compose (Docker), process, systemd, balena (a fleet), "
            "kubernetes, or a target from another package. "
            "By default: as before, else compose if a Docker engine answers.",
            autocompletion=home.complete.targets,
        ),
    ] = None,
    system: Annotated[
        bool,
        typer.Option(
            "--system",
            help="With --target systemd: system units, which root installs and which isolate "
            "each service, instead of units of this user.",
        ),
    ] = False,
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package",
            metavar="NAME",
            help="Install the program in the image: a pip requirement, or a package's folder. "
            "It need not be installed here. Repeatable.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="With --package: files, fetched elsewhere, that its model would download from the "
            "web while the image is built.",
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="redis://... or amqp://..., if you run one; by default, an embedded one.",
        ),
    ] = None,
    web: Annotated[
        bool | None,
        typer.Option(
            "--web/--no-web",
            help="Serve a web page; off by default. To log in: acoupi web token",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files that were edited by hand.")
    ] = False,
    adopt_folder: Annotated[
        bool,
        typer.Option(
            "--adopt-folder",
            help="Use a folder that holds other files; they and their owners are not changed.",
        ),
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what would change, without changing anything.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --diff: as JSON.")] = False,
) -> None:
    """Set this board up as a sensor: choose a program and its settings.

    Every setting of the program is an option with a dotted name; "acoupi config
    schema --program default" lists them. Settings can also come from a file, or
    from variables like ACOUPI_CONFIG__RECORDING__DURATION. No microphone needs
    to be connected. A second setup starts from the answers of the first.
    """
    from acoupi.cli.interviews import Interview
    from acoupi.system.planning import SetupRequest
    from acoupi.system.sensor import Sensor

    found = home.settings()
    before = Sensor.at(found)
    asking = sys.stdin.isatty() if prompt is None else prompt
    options = [*context.args, *_web_option(web)]
    chosen = _target_of(before, target, broker, has_package=bool(package))
    if system:
        chosen = _for_system(chosen or before.target.name)
    if package:
        words = ["setup", "--target", str(chosen), *(["--program", program] if program else [])]
        words += ["--prompt" if asking else "--no-prompt", *(["--force"] if force else [])]
        words += [*(["--diff"] if diff else []), *(["--json"] if as_json else [])]
        words += ["--adopt-folder"] if adopt_folder else []
        words += [*(["--preset", preset] if preset else [])]
        words += [*(["--config", str(config)] if config else [])]
        words += [*(["--broker", broker] if broker else []), *options]
        raise typer.Exit(_set_up_inside(found, words, [*package, *_as_packages(weights)]))
    if weights:
        raise ParameterError(
            "--weights",
            "--weights cannot be used without --package.",
            "acoupi setup --package NAME --weights FOLDER",
            why="they go into the image that is built for the package.",
        )
    name = full_name(program or _program_of(before, preset, asking=asking))
    show_notice(name)
    if preset is not None:
        show_preset(preset, name, options, asking=asking)
    interview = Interview(str(found.home), name)
    request = SetupRequest(
        name,
        options,
        preset=preset,
        prompt=asking and not diff,
        target=chosen,
        file=config,
        broker=broker,
        ask=interview,
        force=force,
        adopts_folder=adopt_folder,
    )
    if diff:
        show_diff(found, request, as_json=as_json)
    else:
        after = _ask_and_set_up(found, request, interview) if asking else _set_up(found, request)
        if before.manifest is None and target is None:
            _say_where(after)


def _as_packages(weights: Path | None) -> list[str]:
    from acoupi.bundles.images import weights_in

    return [weights_in(weights)] if weights else []


def _web_option(web: bool | None) -> list[str]:
    return [] if web is None else ["--sensor.web.enabled", str(web).lower()]


def _say_where(found: "Sensor") -> None:
    """Say which target was chosen automatically, and how to choose another."""
    from acoupi.targets import DEFAULT_TARGET, targets_that

    target = found.target
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
    before: "Sensor", target: str | None, broker: str | None, *, has_package: bool
) -> str | None:
    """Return where the sensor will run; None: as before.

    If nothing was chosen yet and ACOUPI_TARGET is not set, that is the best target here:
    containers if an engine answers.

    Raises
    ------
    ParameterError
        If a package is to be installed in an image, and the target uses none.
    """
    from acoupi.bundles.program_image import is_inside
    from acoupi.targets import DEFAULT_TARGET, find_target, targets_that

    chosen = target or os.environ.get("ACOUPI_TARGET") or None
    if has_package:
        bakers = targets_that(lambda kind: kind.bakes_packages)
        if target is not None and not find_target(target).bakes_packages:
            raise ParameterError(
                target,
                f"--package cannot be used with --target {target}.",
                f"acoupi setup --package NAME --target {bakers[0]}",
                why="it is installed in an image, and only containers run from images.",
            )
        return target or bakers[0]
    if target is not None or before.manifest is not None:
        return target
    if chosen is not None or is_inside():
        return chosen
    if broker not in (None, "embedded"):
        return DEFAULT_TARGET
    possible = targets_that(lambda kind: kind.is_chosen_where_possible())
    return next(iter(possible), DEFAULT_TARGET)


def _for_system(target: str) -> str:
    """Return the target that does the same for the whole system.

    Raises
    ------
    ParameterError
        If there is none.
    """
    from acoupi.targets import find_target

    if found := find_target(target).for_system:
        return found
    raise ParameterError(
        "--system",
        f"--system cannot be used with --target {target}.",
        "acoupi setup --target systemd --system",
        why="only systemd has units of a user and units of the system.",
    )


def _set_up_inside(found: "Settings", words: list[str], packages: list[str]) -> int:
    """Bake packages into an image, and set up inside it; return the exit code."""
    from acoupi.bundles.images import image_name, named_packages, why_build
    from acoupi.bundles.licences import licences_before
    from acoupi.cli.images import build_image_of
    from acoupi.cli.inside import run_inside

    named = named_packages(packages)
    image = image_name(named)
    if why_build(image, named):
        for line in licences_before(named):
            typer.echo(f"Licence of {line}", err=True)
        build_image_of(named)
    return run_inside(found, words, image, named)


def _program_of(before: "Sensor", preset: str | None, *, asking: bool) -> str:
    """Return the program of the existing sensor, or that of the preset, or the chosen one."""
    from acoupi.cli.prompts import ask_for_program
    from acoupi.config.presets import find_preset
    from acoupi.stack.loading import available_programs, programs_to_choose

    try:
        present: str | None = before.program_name
    except NotConfiguredError:
        present = None
    if asking and (present or preset is None):
        if present and before.target.bakes_packages:
            _ = before.program_class  # if it is not installed here, setup runs in its image
        return ask_for_program(present)
    if present:
        return present
    if preset is not None:
        return find_preset(preset).program
    if len(unnamed := set(programs_to_choose()) - set(available_programs())) == 1:
        return unnamed.pop()  # of the one package for acoupi that was installed
    raise ParameterError(
        "",
        "--program is missing.",
        "acoupi setup --program default",
        why=f"the installed programs are {', '.join(available_programs())}.",
    )


def _ask_and_set_up(found: "Settings", request: "SetupRequest", interview: "Interview") -> "Sensor":
    from acoupi.system.planning import plan_setup

    about = ("program", request.program_name), ("home", str(found.home))
    with interview.kept():
        interview.until_confirmed(lambda: plan_setup(found, request), *about)
    interview.rewind()
    return _set_up(found, request)


def _set_up(found: "Settings", request: "SetupRequest") -> "Sensor":
    from acoupi.config.plain_credentials import plain_credential_warnings
    from acoupi.system.lifecycle import set_up
    from acoupi.system.sensor import Sensor

    set_up(found, request)
    after = Sensor.at(found)
    done(f"The sensor is set up in {found.home} (program {request.program_name}).")
    say_timezone(found)
    warn_of_settings(found)
    if "ACOUPI_CONFIG_URL" in os.environ:
        warn("ACOUPI_CONFIG_URL was not read: only containers that set themselves up do that.")
    for warning in plain_credential_warnings(found.program_config_file, found.celery_config_file):
        warn(warning)
    remind_of_restart(found, after.services)
    typer.echo(f"Next: {after.target.next_step}")
    return after
