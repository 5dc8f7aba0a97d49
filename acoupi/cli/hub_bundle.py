"""``acoupi hub setup|up|down|status|backup|restore``: running a hub in containers."""

import os
import shlex
import shutil
import socket
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli.checks import AsJson
from acoupi.cli.heard import no_hub
from acoupi.cli.hub_analysis import WORK
from acoupi.cli.output import (
    done,
    example,
    print_json,
    print_record,
    print_table,
    say,
    warn,
    working,
)
from acoupi.cli.terminal import echo
from acoupi.cli.timezones import shown_time
from acoupi.errors import AcoupiError, ParameterError
from acoupi.home import expanded

if TYPE_CHECKING:
    from acoupi.hub.bundle.choices import HubChoices, HubHome
    from acoupi.hub.bundle.facts import HubFacts
    from acoupi.hub.bundle.running import RunningHub

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None)
UNHEALTHY = 3
OWN, NONE = "own", "none"
"""The value that withdraws a choice."""
PAIR = ("certificate", "key")
SERVICES = {"name": "service", "state": "state", "health": "health", "well": "well", "wanted": "of"}


@app.command("setup", epilog=example("acoupi hub setup --name hub.example.org --listen 0.0.0.0"))
def setup(
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="This machine's name or address for sensors; by default, its host name.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS[:PORT]",
            help="Address for reports; 127.0.0.1:8090 at first; 0.0.0.0: every network.",
        ),
    ] = None,
    worker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROGRAM[=N]",
            help="Analyse with this program here, N recordings at a time. Repeatable.",
        ),
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Package with a program, as for acoupi setup. Repeatable."
        ),
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|s3://BUCKET", help="Where sound is kept; own: the hub's folder."
        ),
    ] = None,
    listen_broker: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS[:PORT]",
            help="Broker's address for workers on other machines; none: closed.",
        ),
    ] = None,
    listen_web: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS[:PORT]",
            help="Address of its web pages, such as 127.0.0.1:8091; none: no pages.",
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE", help="Time zone of its pages: Europe/London; by default, UTC."
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Certificate from an authority that sensors trust; own: the hub's."
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Private key of that certificate.")
    ] = None,
    tls: Annotated[
        bool | None,
        typer.Option("--tls/--no-tls", help="--no-tls: behind a server that speaks TLS."),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A PostgreSQL server of yours; own: the hub's."),
    ] = None,
    broker_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A redis or RabbitMQ server of yours; own: the hub's."),
    ] = None,
    management_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Management of that RabbitMQ; own: its usual port."),
    ] = None,
    subscribe: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Take in messages from MQTT: mqtts://USER:PASSWORD@HOST/TOPIC; none: stop.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="compose (the default) or kubernetes.")
    ] = None,
    keda: Annotated[
        bool | None,
        typer.Option("--keda/--no-keda", help="On Kubernetes, KEDA sets how many workers run."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files that were edited by hand.")
    ] = False,
) -> None:
    """Write the files of a hub into its folder: ~/.acoupi-hub, or ACOUPI_HUB_HOME.

    Options that are not given keep their earlier values. Passwords and the certificate are
    made once. This starts nothing; to start the hub: acoupi hub up.
    """
    from acoupi.bundles.cluster import CHOICES
    from acoupi.hub.bundle.choices import BROKER_PORT, HTTP_PORT, WEB_PORT, Listening, hub_home

    home = hub_home()
    given: dict[str, Any] = {
        "name": name or (None if home.is_set_up else socket.gethostname()),
        "listen": listen and Listening.parse("--listen", listen, HTTP_PORT),
        "workers": _workers(worker or []),
        "packages": package,
        "audio": audio and ("" if audio == OWN else _place(audio)),
        "has_tls": tls,
        "timezone": timezone and _zone(timezone),
        "target": target,
        "scales": keda,
        "cluster": {one: os.environ[one] for one in CHOICES if os.environ.get(one)} or None,
    }
    given = {key: value for key, value in given.items() if value not in (None, [])}
    if tls_certificate:
        pair = (None, None) if str(tls_certificate) == OWN else (tls_certificate, tls_key)
        given |= {key: one and one.absolute() for key, one in zip(PAIR, pair, strict=True)}
    if listen_broker:
        place = None if listen_broker == NONE else listen_broker
        given["listen_broker"] = place and Listening.parse("--listen-broker", place, BROKER_PORT)
    if listen_web:
        place = None if listen_web == NONE else listen_web
        given["listen_web"] = place and Listening.parse("--listen-web", place, WEB_PORT)
    urls = {"database": database_url, "broker": broker_url, "management": management_url}
    urls = {kind: "" if url == OWN else url for kind, url in urls.items()}
    urls["subscribe"] = "" if subscribe == NONE else subscribe
    before = home.read().audio if home.is_set_up else None
    choices = _set_up(home, given, urls, force=force)
    done(f"The hub is set up in {home.path}.")
    if choices.is_in_cluster:
        say(f"What to do next: {home.path / 'kubernetes' / 'README.md'}")
        return
    _say_where(home, choices)
    if before is not None and before != choices.audio:
        old, new = (one or str(home.path / "audio") for one in (before, choices.audio))
        warn(f"the hub's sound so far is still in {old}: copy it to {new}, or it will be missing.")
    typer.echo("To start it: acoupi hub up")


def _set_up(
    home: "HubHome", given: dict[str, Any], urls: dict[str, str | None], *, force: bool
) -> "HubChoices":
    from pydantic import ValidationError

    from acoupi.hub.bundle.setting_up import set_up_hub

    try:
        return set_up_hub(
            home,
            given,
            own_servers=urls,
            force=force,
        )
    except ModuleNotFoundError as error:
        raise no_hub(error) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        option = "--" + "-".join(map(str, first["loc"])) if first["loc"] else "the options"
        raise ParameterError(
            option,
            f"the value of {option} is not valid.",
            "acoupi hub setup --help",
            why=f"{first['msg'].removeprefix('Value error, ')}.",
        ) from error


def _workers(words: list[str]) -> dict[str, int]:
    found = {}
    for word in words:
        program, _, number = word.partition("=")
        if not program or not (number or "1").isdigit():
            raise ParameterError(
                word,
                f'--worker cannot be "{word}".',
                "--worker birdnet=2   (=0 removes it)",
                why="it is the name of a program, and how many workers analyse with it.",
            )
        found[program] = int(number or 1)
    return found


def _zone(text: str) -> str:
    from acoupi.hub.dashboard import checked_zone

    return checked_zone(text)


def _place(audio: str) -> str:
    return audio if audio.startswith("s3://") else str(expanded(audio).absolute())


def _say_where(home: "HubHome", choices: "HubChoices") -> None:
    say(f"Sensors report to {choices.address}")
    if choices.pages:
        say(f"Its pages are at {choices.pages} (to log in: acoupi hub add-person)")
    if choices.makes_certificate:
        say(f"They need the file {home.path / 'ca' / 'ca.pem'} (sensor.hub.ca_certificate).")
    if choices.listen.is_of_this_machine:
        say("Only this machine reaches it; for others: acoupi hub setup --listen 0.0.0.0")


@app.command("up", epilog=example("acoupi hub up"))
def up(
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until every service is working.")
    ] = True,
) -> None:
    """Start the hub: check that it can run here, build its images, start every service."""
    hub = _hub()
    hub.check()
    _build_images(hub.choices)
    hub.up()
    if wait:
        with working("Starting"):
            hub.wait()
        done("The hub works.")
    _say_where(hub.home, hub.choices)
    typer.echo("To add a sensor: acoupi hub add-sensor NAME    To see its state: acoupi hub status")


def _build_images(choices: "HubChoices") -> None:
    from acoupi.bundles.images import build_database, why_build
    from acoupi.cli.images import build_image_of
    from acoupi.hub.bundle.setting_up import hub_image, wanted_packages

    packages = wanted_packages(choices)
    if choices.has_own_database:
        with working("Building the image of PostgreSQL"):
            build_database(echo=echo)
    if why_build(hub_image(choices), packages):
        build_image_of(packages)


@app.command("images", epilog=example("acoupi hub images"))
def images() -> None:
    """Build the images of the hub, if they are not up to date, and print their names."""
    from acoupi.bundles.images import database_name
    from acoupi.hub.bundle.choices import hub_home
    from acoupi.hub.bundle.setting_up import hub_image

    choices = hub_home().read()
    _build_images(choices)
    for name in (hub_image(choices), *([database_name()] if choices.has_own_database else [])):
        say(name)


@app.command("down", epilog=example("acoupi hub down"))
def down() -> None:
    """Stop the hub; its data are kept. Sensors keep what they have to report."""
    with working("Stopping"):
        _hub().down()
    done("The hub has stopped; all its data are kept. To start it again: acoupi hub up")


@app.command("status", epilog=example("acoupi hub status --json"))
def status(as_json: AsJson = False) -> None:
    """Show its services, database, sensors, jobs and free space. Exit code 3: a problem."""
    hub = _hub()
    services = hub.states()
    facts, problem = _facts(hub)
    free = shutil.disk_usage(hub.home.path).free
    problems = [f"{one.name} is {one.health or one.state}" for one in services if not one.is_well]
    problems += [problem] if problem else []
    if facts:
        problems += [f"no worker for {one}" for one in facts.without_worker]
        problems += (
            [f"of {facts.sensors} sensors, {facts.silent} have been silent for a day"]
            if facts.silent
            else []
        )
    if as_json:
        print_json(
            {
                "home": str(hub.home.path),
                "address": hub.choices.address,
                "services": services,
                "database": facts and asdict(facts),
                "free_bytes": free,
                "problems": problems,
            }
        )
    else:
        _print_status(hub, facts, free)
        for one in problems:
            warn(one)
    if problems:
        raise typer.Exit(UNHEALTHY)


def _print_status(hub: "RunningHub", facts: "HubFacts | None", free: int) -> None:
    print_table([asdict(one) for one in hub.states()], SERVICES, empty="There are no services.")
    record = {"sensors report to": hub.choices.address, "free": f"{free / 1e9:.1f} GB"}
    if facts:
        last = None if facts.reported_on is None else f"{shown_time(facts.reported_on)} UTC"
        record |= {
            "database": f"PostgreSQL {facts.server}, {facts.database_bytes / 1e6:.0f} MB",
            "sensors": f"{facts.sensors}, {facts.silent} of them silent for a day",
            "last report": last or "none yet",
        }
    print_record(record)
    if facts and facts.jobs:
        print_table([asdict(one) for one in facts.jobs], WORK, empty="")


def _facts(hub: "RunningHub") -> "tuple[HubFacts | None, str | None]":
    """Return what the database holds, or why it cannot be read."""
    try:
        from acoupi.hub.bundle.facts import hub_facts
        from acoupi.hub.database import HubDatabase
    except ModuleNotFoundError as error:
        raise no_hub(error) from error
    from acoupi.hub.bundle.secrets import known_url

    database = HubDatabase(known_url(hub.home, "database", None) or hub.home.host_database)
    try:
        return hub_facts(database), None
    except AcoupiError as error:
        return None, f"{error.message} {error.why or ''}".strip()
    finally:
        database.close()


@app.command("backup", epilog=example("acoupi hub backup /media/disk/hub.dump"))
def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")
    ],
) -> None:
    """Copy the database of the running hub into one file; not the sound, nor the secrets."""
    with working("Copying the database"):
        from acoupi.hub.bundle.copies import back_up

        size = back_up(_hub(), file.absolute())
    done(f"{file} holds the database, {size / 1e6:.1f} MB.")
    typer.echo(f"To restore it: acoupi hub restore {shlex.quote(str(file))}")


@app.command("restore", epilog=example("acoupi hub restore /media/disk/hub.dump"))
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file made by acoupi hub backup.")],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace all that the hub has; without it, the hub must be empty."
        ),
    ] = False,
) -> None:
    """Restore the database of a running hub, which is stopped meanwhile.

    The file is read to its end first: a file that is damaged or of another version changes
    nothing. Sound and secrets are not in it.
    """
    from acoupi.hub.bundle.copies import restore as put_back

    hub = _hub()
    with working("Restoring the database"):
        put_back(hub, file.absolute(), replace=replace)
        hub.wait()
    done(f"The hub has the data of {file}, and works.")


def _hub() -> "RunningHub":
    from acoupi.hub.bundle.choices import hub_home
    from acoupi.hub.bundle.running import RunningHub

    return RunningHub(hub_home(), echo=echo)
