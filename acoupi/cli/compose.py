"""``acoupi compose``: the containers of the sensor, through ``docker compose``.

With `acoupi -v`, each command prints the command line that it runs, so that you can also run it
without acoupi. Any other command is passed to ``docker compose`` with the files
of the home.
"""

import difflib
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.output import done, example, print_json, print_table, warn
from acoupi.cli.table import COMMANDS, WholeLines
from acoupi.cli.terminal import echo
from acoupi.errors import ParameterError, TargetError

if TYPE_CHECKING:
    from acoupi.targets import ServiceStatus
    from acoupi.targets.compose import ComposeTarget

__all__ = ["app"]

UNHEALTHY = 3
INTERRUPTED = 130
OTHERS = (
    *("attach", "commit", "cp", "create", "events", "export", "images", "kill", "ls", "pause"),
    *("port", "publish", "rm", "run", "scale", "stats", "stop", "start", "top", "unpause"),
    *("version", "volumes", "wait", "watch"),
)
"""Commands of ``docker compose`` that are passed to it unchanged."""
STARTING = ("up", "create", "start", "restart", "run")
"""Commands of ``docker compose`` that start containers."""
HANDED_ON = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "allow_interspersed_args": False,
}
PS_COLUMNS = {
    "name": "service",
    "state": "state",
    "task": "doing",
    "done": "done",
    "failed": "failed",
    "restarts": "restarts",
    "memory_mb": "MB",
    "message": "",
}


class ComposeGroup(WholeLines):
    """The commands of acoupi, and all others of ``docker compose``."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command of acoupi, or one that passes its arguments on."""
        ours = super().get_command(ctx, cmd_name)
        if ours is not None or cmd_name.startswith("-"):
            return ours
        known = [*self.commands, *OTHERS]
        if cmd_name not in known:
            close = difflib.get_close_matches(cmd_name, known, n=1, cutoff=0.7)
            if close:
                raise ParameterError(
                    cmd_name,
                    f'"acoupi compose {cmd_name}" is not a command.',
                    f"acoupi compose {close[0]}",
                    why="neither acoupi nor docker compose has it.",
                )
        return _other(cmd_name)


def _other(name: str) -> Any:
    """Return a command that passes everything to ``docker compose NAME``."""
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)

    @alone.command(name, context_settings={**HANDED_ON, "help_option_names": []})
    def other(context: typer.Context) -> None:
        hand_on(name, *context.args)

    return typer.main.get_command(alone)


app = typer.Typer(
    name="compose",
    cls=ComposeGroup,
    help=f"{COMMANDS['compose'].purpose}\n\nAfter: acoupi setup --target compose. "
    "Other commands are passed to docker compose.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


# --- what every command does ----------------------------------------------------------


def bundle() -> "ComposeTarget":
    """Return the containers of the home.

    Raises
    ------
    TargetError
        If it was set up for something else.
    """
    from acoupi.targets.compose import ComposeTarget

    found = home.sensor()
    if isinstance(found.target, ComposeTarget):
        return found.target
    raise TargetError(
        f"{found.settings.home} holds no bundle of containers.",
        "acoupi setup --target compose",
        why=f'it was set up for the target "{found.target.name}".',
    )


def run(found: "ComposeTarget", *args: str) -> int:
    """Run ``docker compose ARGS`` on this terminal; return its exit code."""
    from acoupi.bundles.engine import compose_command, hand_over

    if args[0] in STARTING:
        found.note_image()
        found.restore_links()
    command = compose_command(found.settings, *args)
    echo(shlex.join(command))
    return hand_over(command)


def hand_on(*args: str) -> NoReturn:
    """Run ``docker compose ARGS`` on the bundle, and exit with its code."""
    raise typer.Exit(run(bundle(), *args))


# --- making it ------------------------------------------------------------------------


@app.command(epilog=example("acoupi compose render --diff"))
def render(
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what would change, and change nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files that were edited by hand.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Render a folder to deploy elsewhere: balena or kubernetes."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="That folder.")
    ] = None,
    program: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its program, if no sensor is set up here.")
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option("--package", metavar="NAME", help="For the folder; as for build."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write docker-compose.yml and its related files again, from the current settings.

    Setup does this as its last step. Your own changes in .env and
    docker-compose.override.yml are kept. For a fleet: --target balena -o DIR.
    """
    if target or output or program or package:
        from acoupi.cli.fleet import render_folder

        render_folder(target, output, program, packages=package or [], force=force)
        return
    from acoupi.cli.changes import remind_of_restart, show_diff
    from acoupi.stack.configured import read_program_name
    from acoupi.system.lifecycle import set_up
    from acoupi.system.planning import SetupRequest

    found = bundle()
    request = SetupRequest(read_program_name(found.settings), force=force)
    if diff:
        show_diff(found.settings, request, as_json=as_json)
        return
    set_up(found.settings, request)
    done(f"{found.settings.home / 'docker-compose.yml'} is written.")
    remind_of_restart(found.settings, found.services)


@app.command(epilog=example("acoupi compose build"))
def build(
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package",
            metavar="NAME",
            help="Install this in the image: a pip requirement, or a package's folder. Repeatable.",
        ),
    ] = None,
) -> None:
    """Build the image of the services, on this machine.

    It contains the same packages as before, unless --package names others.
    """
    build_for(bundle(), package)


def build_for(found: "ComposeTarget", packages: list[str] | None = None) -> None:
    """Build the image of a home and run its services from it; None: packages as before."""
    from acoupi.bundles.images import REPOSITORY, named_packages

    wanted = found.image
    named = found.packages if packages is None else named_packages(packages)
    from acoupi.cli.images import build_image_of

    name = build_image_of(named)
    if name == wanted:
        return
    if named or wanted.startswith(f"{REPOSITORY}:"):
        found.choose_image(name, named)
        typer.echo(f"To run the services from it: acoupi compose up (they ran from {wanted}).")
    else:
        warn(f"the bundle still runs {wanted}; for the new one, set ACOUPI_IMAGE={name} in .env")


def _images(found: "ComposeTarget") -> list[str]:
    """Return the images that the bundle is to run from."""
    from acoupi.bundles.preflight.machine_state import Bundle

    answer = found.engine.compose(found.settings, "config", "--format", "json")
    services = Bundle.parse(answer.out).services if answer.is_ok else {}
    return sorted({str(one["image"]) for one in services.values() if one.get("image")})


@app.command(context_settings=HANDED_ON, epilog=example("acoupi compose pull"))
def pull(context: typer.Context) -> None:
    """Pull the image from its registry."""
    hand_on("pull", *context.args)


@app.command(context_settings=HANDED_ON, epilog=example("acoupi compose config --services"))
def config(context: typer.Context) -> None:
    """Show the resulting configuration, with .env and your override applied."""
    hand_on("config", *context.args)


# --- running it -----------------------------------------------------------------------


@app.command(epilog=example("acoupi compose up"))
def up(
    rebuild: Annotated[bool, typer.Option("--build", help="First rebuild the image.")] = False,
    fetch: Annotated[bool, typer.Option("--pull", help="First pull the image again.")] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait", " /-d", " /--detach", help="Wait until every service is working."
        ),
    ] = True,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="First check whether it can run here.")
    ] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait.")
    ] = 120,
) -> None:
    """Start the sensor: check that it can run here, get the image, start every service.

    Nothing is started if something is missing. Ctrl-C stops waiting, and leaves
    the services as they are.
    """
    from acoupi.cli.watching import watch

    found = bundle()
    if check:
        _check(found)
    _get_image(found, rebuild=rebuild, fetch=fetch)
    code = run(found, "up", "--detach", "--remove-orphans")
    if code == INTERRUPTED:
        _leave()
    if not wait:
        raise typer.Exit(code)
    try:
        watch(found, timeout, started=code == 0)
    except KeyboardInterrupt:
        _leave()
    _say_what_is_next(found)


def _leave() -> NoReturn:
    """End on Ctrl-C, and describe the state of the services."""
    warn("interrupted; the services were left as they are. To see them: acoupi compose ps")
    typer.echo("To continue: acoupi compose up    To stop them: acoupi compose down", err=True)
    raise typer.Exit(INTERRUPTED)


def _check(found: "ComposeTarget") -> None:
    """Run all checks; print only what matters.

    Raises
    ------
    ConfigurationError
        If what setup wrote was edited by hand.
    HealthCheckError
        If the machine lacks something.
    """
    from acoupi.bundles.preflight import failure
    from acoupi.cli.doctor import look

    found.check_files()
    results = look(found.settings, found.manifest, quiet=True)
    error = failure(results)
    if error is not None:
        raise error
    done(f"This machine can run it ({len(results)} checks; acoupi doctor shows them).")
    for result in results:
        if result.outcome == "warn":
            warn(f"{result.message}: {result.why}")


def _get_image(found: "ComposeTarget", *, rebuild: bool, fetch: bool) -> None:
    """Get the image: pull it if it comes from elsewhere, else build it."""
    from acoupi.bundles.images import REPOSITORY

    names = [name for name in _images(found) if "@" not in name]
    absent = [name for name in names if not found.engine.has_image(name)]
    ours = [name for name in absent if name.startswith(f"{REPOSITORY}:")]
    if fetch or (set(absent) - set(ours)):
        code = run(found, "pull", *(() if fetch else ("--policy", "missing")))
        if code:
            raise TargetError(
                f"cannot fetch {', '.join(absent) or 'the image'}.",
                "acoupi compose build   (builds it on this machine)",
                why=f"docker compose pull ended with {code}; its output is above.",
            )
    if rebuild or (ours and not fetch):
        build_for(found)


def _say_what_is_next(found: "ComposeTarget") -> None:
    typer.echo("To see its state: acoupi compose ps    Its logs: acoupi compose logs -f")
    if _deployment(found) is None:
        typer.echo('To name its site: acoupi start "Old oak"')
    typer.echo("To stop it: acoupi compose down")


def _deployment(found: "ComposeTarget") -> str | None:
    """Return the name of the current deployment; None if there is none."""
    from acoupi.system.deployments import read_deployment

    deployment = read_deployment(found.settings)
    return deployment.name if deployment and deployment.ended_on is None else None


@app.command(context_settings=HANDED_ON, epilog=example("acoupi compose down"))
def down(context: typer.Context) -> None:
    """Stop the sensor: beat first, then the other services; a recording in progress is finished.

    Recordings and messages are kept for the next "up".
    """
    from acoupi.targets.compose import DOWN

    found = bundle()
    *before, last = DOWN
    for step in (*before, (*last, *context.args)):
        code = run(found, *step)
        if code:
            raise typer.Exit(code)
    done("The sensor has stopped. Its recordings are kept. To start it again: acoupi compose up")
    deployment = _deployment(found)
    if deployment is not None:
        warn(f'the deployment "{deployment}" has not been ended; to end it: acoupi stop')


@app.command(context_settings=HANDED_ON, epilog=example("acoupi compose restart"))
def restart(context: typer.Context) -> None:
    """Restart the named services, or all, without rereading the files."""
    hand_on("restart", *context.args)


@app.command(
    "exec",
    context_settings=HANDED_ON,
    epilog=example("acoupi compose exec default acoupi --version"),
)
def exec_(context: typer.Context) -> None:
    """Run a command in the container of a service."""
    hand_on("exec", *context.args)


# --- looking at it --------------------------------------------------------------------


@app.command(
    context_settings={**HANDED_ON, "allow_interspersed_args": True},
    epilog=example("acoupi compose ps --json"),
)
def ps(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the state of each service. Exit code 3: not all are working.

    Options of docker compose ps are passed to it.
    """
    if context.args:
        hand_on("ps", *context.args)
    services = bundle().status()
    if as_json:
        print_json(services)
    else:
        print_table(service_rows(services), PS_COLUMNS, empty="There are no services.")
    if not services or not all(service.is_well for service in services):
        raise typer.Exit(UNHEALTHY)


def service_rows(services: "list[ServiceStatus]") -> list[dict[str, Any]]:
    """Return services as rows of a table."""
    return [
        {
            **asdict(service),
            "message": service.message or service.last_error,
            "memory_mb": round(service.memory_bytes / 1e6) if service.memory_bytes else None,
        }
        for service in services
    ]


@app.command(context_settings=HANDED_ON, epilog=example("acoupi compose logs --follow recording"))
def logs(context: typer.Context) -> None:
    """Show the logs of the named services, or of all."""
    hand_on("logs", *context.args)
