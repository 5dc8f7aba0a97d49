"""``acoupi workers`` and ``acoupi celery``."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.deployment import SERVICE_COLUMNS, UNHEALTHY, service_rows
from acoupi.cli.output import (
    done,
    example,
    print_json,
    print_record,
    print_table,
    warn,
    working,
)
from acoupi.cli.table import group, single

if TYPE_CHECKING:
    from acoupi.system.sensor import Sensor

__all__ = ["app", "celery_app"]

app = group("workers")
celery_app = single()

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None,
    typer.Option("--log-level", help="How much detail they log."),
]


@app.command(epilog=example("acoupi workers start"))
def start(log_level: LogLevel = None) -> None:
    """Start the workers. Beat, the scheduler, is left as it is."""
    from acoupi.system.lifecycle import change_workers

    found = home.sensor()
    with working("Starting the workers"):
        change_workers(found, "start", log_level)
    done("The workers are running.")
    _tell_if_nothing_is_planned(found)


@app.command(epilog=example("acoupi workers stop"))
def stop(log_level: LogLevel = None) -> None:
    """Stop the workers; each finishes its current task."""
    from acoupi.system.lifecycle import change_workers

    found = home.sensor()
    with working("Stopping the workers"):
        change_workers(found, "stop", log_level)
    done("The workers have stopped.")


@app.command(epilog=example("acoupi workers restart"))
def restart(log_level: LogLevel = None) -> None:
    """Stop the workers and start them again, with the current settings.

    With a deployment, or if beat (the scheduler) is running, all services
    are restarted, so that a new interval or schedule takes effect.
    """
    from acoupi.system.lifecycle import change_workers

    found = home.sensor()
    with working("Restarting the workers"):
        plans = _beat_runs(found)
        if log_level is None and (plans or _is_deployed(found)):
            found.target.restart()
        else:
            change_workers(found, "restart", log_level)
    if plans and log_level is not None:
        warn("beat keeps its present schedule; without --log-level it is restarted too.")
    done("The workers are running again.")
    _tell_if_nothing_is_planned(found)


def _beat_runs(found: "Sensor") -> bool:
    services = found.target.status()
    return any(one.role == "beat" and one.is_running for one in services)


def _is_deployed(found: "Sensor") -> bool:
    from acoupi.system.deployments import read_deployment

    deployment = read_deployment(found.settings)
    return deployment is not None and deployment.ended_on is None


def _tell_if_nothing_is_planned(found: "Sensor") -> None:
    """Warn that workers alone record nothing, and name what starts beat, if it is not running."""
    if not _beat_runs(found):
        command = "acoupi workers restart" if _is_deployed(found) else "acoupi start"
        warn(f"beat (the scheduler) is not running, so nothing is recorded until: {command}")


@app.command(epilog=example("acoupi workers status"))
def status(as_json: AsJson = False) -> None:
    """Show what each worker is doing, and what is waiting. Exit code 3: not all are running."""
    from acoupi.system.state import celery_status

    found = home.sensor()
    with working("Reading the state of the workers"):
        state = celery_status(found)
    if as_json:
        print_json(state)
    else:
        print_table(service_rows(state), SERVICE_COLUMNS, empty="There are no workers.")
    if state.state != "ok":
        raise typer.Exit(UNHEALTHY)


@app.command(epilog=example("acoupi workers purge"))
def purge(as_json: AsJson = False) -> None:
    """Empty the queues. No recording is lost."""
    found = home.sensor()
    removed = found.target.purge(found.queues)
    if as_json:
        print_json(removed)
    elif removed:
        print_record(removed)
    else:
        typer.echo("There are no queues.")


@celery_app.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "allow_interspersed_args": False,
    },
    epilog=example("acoupi celery inspect registered --json"),
)
def celery(context: typer.Context) -> None:
    """Run a Celery command on this sensor (for Celery users)."""
    from acoupi.system.celery.app import run_celery_command

    found = home.sensor().settings
    if not context.args:
        typer.echo(context.get_help())
        raise typer.Exit(2)
    raise typer.Exit(run_celery_command(found, list(context.args)).returncode)
