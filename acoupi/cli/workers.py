"""``acoupi workers`` and ``acoupi celery``."""

from typing import Annotated, Literal

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.deployment import SERVICE_COLUMNS, UNHEALTHY, service_rows
from acoupi.cli.output import done, example, print_json, print_record, print_table, working

__all__ = ["app", "register"]

app = typer.Typer(
    name="workers",
    help="The processes that do the work; a deployment starts and stops them by itself.",
    no_args_is_help=True,
)

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None,
    typer.Option("--log-level", help="How much they write into their logs."),
]


def register(group: typer.Typer) -> None:
    """Add ``celery`` to the group of all commands."""
    group.command(
        context_settings={
            "ignore_unknown_options": True,
            "allow_extra_args": True,
            "allow_interspersed_args": False,
        },
        epilog=example("acoupi celery inspect registered --json"),
    )(celery)


@app.command(epilog=example("acoupi workers start"))
def start(log_level: LogLevel = None) -> None:
    """Start the workers."""
    from acoupi.system.lifecycle import start_workers

    found = home.configured()
    with working("Starting the workers"):
        start_workers(found, log_level=log_level)
    done("The workers run.")


@app.command(epilog=example("acoupi workers stop"))
def stop(log_level: LogLevel = None) -> None:
    """Stop the workers, each after what it is doing."""
    from acoupi.system.lifecycle import stop_workers

    found = home.configured()
    with working("Stopping the workers"):
        stop_workers(found, log_level=log_level)
    done("The workers have stopped.")


@app.command(epilog=example("acoupi workers restart"))
def restart(log_level: LogLevel = None) -> None:
    """Stop the workers and start them again, with the settings as they are now."""
    from acoupi.system.lifecycle import restart_workers

    found = home.configured()
    with working("Restarting the workers"):
        restart_workers(found, log_level=log_level)
    done("The workers run again.")


@app.command(epilog=example("acoupi workers status"))
def status(as_json: AsJson = False) -> None:
    """Show what each worker does, and what waits. Exit code 3: not all run."""
    from acoupi.system.state import get_celery_status

    found = home.configured()
    with working("Asking the workers"):
        state = get_celery_status(found)
    if as_json:
        print_json(state)
    else:
        print_table(service_rows(state), SERVICE_COLUMNS, empty="No worker is known.")
    if state.state != "ok":
        raise typer.Exit(UNHEALTHY)


@app.command(epilog=example("acoupi workers purge"))
def purge(as_json: AsJson = False) -> None:
    """Throw away what waits in the queues. No recording is lost by it."""
    from acoupi.system.lifecycle import purge_queues

    removed = purge_queues(home.configured())
    if as_json:
        print_json(removed)
    elif removed:
        print_record(removed)
    else:
        typer.echo("There are no queues.")


def celery(context: typer.Context) -> None:
    """Run a Celery command on the sensor's own app, for those who know Celery."""
    from acoupi.system.celery.app import run_celery_command

    found = home.configured()
    if not context.args:
        typer.echo(context.get_help())
        raise typer.Exit(2)
    raise typer.Exit(run_celery_command(found, list(context.args)).returncode)
