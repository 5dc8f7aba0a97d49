"""``acoupi hub dispatch``, ``work``, ``workers`` and others: analysis away from the sensors."""

import dataclasses
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from acoupi.cli.checks import AsJson
from acoupi.cli.hub_options import Database, opened_database
from acoupi.cli.output import done, example, print_json, print_table, say
from acoupi.cli.table import single
from acoupi.cli.timezones import shown_time

__all__ = ["app"]

app = single()

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the hub calls the worker.")]
Broker = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="ACOUPI_HUB_BROKER",
        help="Broker, redis or RabbitMQ: redis://:PASSWORD@HOST, amqp://USER:PASSWORD@HOST.",
    ),
]
WORKERS = {
    "name": "worker", "program": "program", "running": "running", "done": "done",
    "seen_on": "last seen (UTC)", "has_token": "may work",
}  # fmt: skip
WORK = {
    "program": "program", "without_sound": "no sound yet", "waiting": "waiting", "sent": "sent",
    "running": "running", "done": "done", "failed": "failed", "workers": "workers",
}  # fmt: skip


@app.command("add-worker", epilog=example("acoupi hub add-worker shed --program acoupi_birdnet"))
def add_worker(
    name: Name,
    program: Annotated[
        str, typer.Option(metavar="P", help="The program that it runs, as sensors have it.")
    ],
    database: Database,
    broker: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="ACOUPI_HUB_BROKER_ADDRESS",
            help="Where the worker finds the broker, such as rediss://hub.example.org:6380, "
            "without a login.",
        ),
    ],
) -> None:
    """Let a worker analyse, and print its token once; an earlier token becomes invalid."""
    with opened_database(database) as hub:
        from acoupi.hub.workers import add_worker as add
        from acoupi.stack.loading import available_programs

        place = available_programs().get(program, program).removesuffix(":Program")
        say(add(hub, name, place, broker))


@app.command("withdraw-worker", epilog=example("acoupi hub withdraw-worker shed"))
def withdraw_worker(name: Name, database: Database) -> None:
    """Stop giving work to a worker; its unfinished recordings go to others."""
    with opened_database(database) as hub:
        from acoupi.hub.workers import withdraw_worker as withdraw

        withdraw(hub, name)
    done(f"{name} may no longer work; acoupi hub dispatch removes its user at the broker.")


@app.command("workers", epilog=example("acoupi hub workers"))
def workers(database: Database, as_json: AsJson = False) -> None:
    """List the workers, and the progress of each program with its waiting recordings."""
    with opened_database(database) as hub:
        from acoupi.hub.workers import get_work, get_workers

        known = [dataclasses.asdict(one) for one in get_workers(hub)]
        work = get_work(hub)
    if as_json:
        every = [dataclasses.asdict(one) | {"has_nobody": one.has_nobody} for one in work]
        print_json({"workers": known, "programs": every})
        return
    rows = [one | {"seen_on": one["seen_on"] and shown_time(one["seen_on"])} for one in known]
    print_table(rows, WORKERS, empty="No workers yet: acoupi hub add-worker NAME --program P")
    if work:
        say("")
        print_table([dataclasses.asdict(one) for one in work], WORK, empty="")
    for one in work:
        if one.last_failure:
            say(f"The latest failure of {one.program}: {one.last_failure}")
        if one.has_nobody:
            say(
                f"No worker with {one.program} is at work: start one (acoupi hub work), or "
                f"acoupi hub add-worker NAME --program {one.program}"
            )


@app.command("dispatch", epilog=example("acoupi hub dispatch"))
def dispatch(
    database: Database,
    broker: Broker,
    management: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="ACOUPI_HUB_BROKER_MANAGEMENT",
            help="RabbitMQ's management; by default port 15672 of the broker, or 15671 with TLS.",
        ),
    ] = None,
) -> None:
    """Send waiting recordings to the broker, and again if they get lost, until Ctrl-C.

    It also makes and removes the users of workers at the broker, so the login in --broker must
    be allowed to administer it.
    """
    with opened_database(database) as hub:
        from acoupi.hub.broker import HubBroker
        from acoupi.hub.dispatching import Dispatcher, dispatch

        _log()
        stopped = threading.Event()
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, lambda *_: stopped.set())
        dispatcher = Dispatcher(hub, HubBroker(broker, management))
        say("Recordings are being sent to workers (Ctrl-C to stop).")
        dispatch(dispatcher, stopped)


@app.command("work", epilog=example("acoupi hub work --hub https://hub.example.org"))
def work(
    hub: Annotated[
        str,
        typer.Option(metavar="URL", envvar="ACOUPI_HUB_URL", help="The hub: https://HOST"),
    ],
    token: Annotated[
        str,
        typer.Option(
            metavar="T",
            envvar="ACOUPI_HUB_WORKER_TOKEN",
            help="The token that acoupi hub add-worker printed.",
        ),
    ],
    program: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            envvar="ACOUPI_HUB_PROGRAM",
            help="Refuse a token for any other program.",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="ACOUPI_HUB_CA",
            exists=True,
            dir_okay=False,
            help="Certificates to trust for the hub and its broker; by default, this machine's.",
        ),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of files that settings may name, such as weights. Repeatable.",
        ),
    ] = None,
    lease: Annotated[
        float,
        typer.Option(
            min=5,
            max=3600,
            metavar="SECONDS",
            help="Seconds of silence after which its recording goes to another worker.",
        ),
    ] = 120,
) -> None:
    """Analyse recordings of a hub's sensors, on any machine, until Ctrl-C.

    The program must be installed here. Only the hub and its broker are contacted; the hub tells
    the worker where the broker is.
    """
    from pydantic import SecretStr

    from acoupi.hub.calling import HubClient
    from acoupi.hub.worker_home import worker_home
    from acoupi.hub.working import work as work_for
    from acoupi.stack.loading import available_programs

    _log()
    place = program and available_programs().get(program, program).removesuffix(":Program")
    secret = SecretStr(token)
    with worker_home() as home:
        os.environ["ACOUPI_HOME"] = str(home)
        client = HubClient(hub, secret, ca)
        code = work_for(
            client,
            secret,
            home,
            program=place,
            files=tuple(files or ()),
            ca=ca,
            lease=lease,
        )
    raise typer.Exit(code)


def _log() -> None:
    logging.basicConfig(
        level=os.environ.get("ACOUPI_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(message)s",
    )
    logging.getLogger("celery").setLevel(logging.WARNING)
