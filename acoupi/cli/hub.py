"""``acoupi hub``: the place that many sensors report to."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from acoupi.cli import hub_analysis, hub_archives, hub_bundle, hub_people, hub_subscribe, hub_web
from acoupi.cli.checks import AsJson
from acoupi.cli.hub_options import (
    Audio,
    Certificate,
    Database,
    Key,
    opened_database,
    require_free,
)
from acoupi.cli.output import done, example, print_json, print_table, say, warn, working
from acoupi.cli.table import group
from acoupi.cli.timezones import shown_time
from acoupi.errors import ConfigurationError

__all__ = ["app"]

app = group("hub")
app.add_typer(hub_bundle.app)
app.add_typer(hub_people.app)
app.add_typer(hub_web.app)
app.add_typer(hub_archives.app)
app.add_typer(hub_analysis.app)
app.add_typer(hub_subscribe.app)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the hub calls the sensor.")]
COLUMNS = {
    "name": "sensor", "deployments": "deployments", "recordings": "recordings",
    "reported_on": "last report (UTC)", "has_token": "may report",
}  # fmt: skip


@app.command("import", epilog=example("acoupi hub import /media/card/acoupi --sensor oak-1"))
def import_(
    source: Annotated[
        Path,
        typer.Argument(metavar="HOME|FILE", help="ACOUPI_HOME of a sensor, or its metadata.db."),
    ],
    sensor: Annotated[str, typer.Option(metavar="NAME", help="What the hub calls the sensor.")],
    database: Database,
) -> None:
    """Import all that a sensor heard from its card; importing again only adds what is new."""
    from acoupi.components.stores.reporting import reports_of

    file = _store_in(source)
    deployments = recordings = detections = 0
    with opened_database(database) as hub, working("Taking in"):
        from acoupi.hub.sensors import add_sensor
        from acoupi.hub.taking_in import take_in

        add_sensor(hub, sensor)
        for report in reports_of(file, hub.now()):
            take_in(hub, sensor, report)
            deployments += len(report.deployments)
            recordings += len(report.recordings)
            outputs = (one for recording in report.recordings for one in recording.outputs)
            detections += sum(len(one.detections) for one in outputs)
    done(
        f"The hub has all of {sensor}: {deployments} deployment{'' if deployments == 1 else 's'}, "
        f"{recordings} recordings, "
        f"{detections} detections."
    )


def _store_in(source: Path) -> Path:
    file = source / "data" / "metadata.db" if source.is_dir() else source
    if not file.is_file():
        raise ConfigurationError(
            f'there is no sensor in "{source}".',
            "acoupi hub import ACOUPI_HOME --sensor NAME",
            why=f'there is no file "{file}".',
        )
    return file


@app.command("sensors", epilog=example("acoupi hub sensors"))
def sensors(database: Database, as_json: AsJson = False) -> None:
    """List the sensors that the hub knows, and when they last reported."""
    with opened_database(database) as hub:
        from acoupi.hub.publications import get_strangers
        from acoupi.hub.sensors import get_sensors

        found, strangers = get_sensors(hub), get_strangers(hub)
    for one in strangers:
        warn(
            f'{one.messages} messages from "{one.name}" on {one.topic} were not stored, because no '
            "sensor has that name: acoupi hub add-sensor NAME"
        )
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
    else:
        rows = [
            dataclasses.asdict(one)
            | {"reported_on": None if one.reported_on is None else shown_time(one.reported_on)}
            for one in found
        ]
        print_table(rows, COLUMNS, empty="No sensors yet: acoupi hub add-sensor NAME")


@app.command("add-sensor", epilog=example("acoupi hub add-sensor oak-1"))
def add_sensor_(name: Name, database: Database) -> None:
    """Let a sensor report, and print its token once; an earlier token becomes invalid."""
    with opened_database(database) as hub:
        from acoupi.hub.sensors import add_sensor, make_token

        add_sensor(hub, name)
        say(make_token(hub, name))


@app.command("withdraw", epilog=example("acoupi hub withdraw oak-1"))
def withdraw(name: Name, database: Database) -> None:
    """Stop accepting a sensor's reports; all that it reported is kept."""
    with opened_database(database) as hub:
        from acoupi.hub.sensors import withdraw_token

        withdraw_token(hub, name)
    done(f"{name} may no longer report. To allow it again: acoupi hub add-sensor {name}")


@app.command("serve", epilog=example("acoupi hub serve --port 8090"))
def serve(
    database: Database,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on; 127.0.0.1: this machine only."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="N", help="Port.")] = 8090,
    audio: Audio = None,
    tls_certificate: Certificate = None,
    tls_key: Key = None,
) -> None:
    """Accept the reports of sensors over HTTP, until Ctrl-C.

    Sound is accepted if --audio names a place to keep it.

    On a network, give it a certificate, or put a server that speaks TLS (nginx,
    Caddy) in front of it. acoupi hub up runs everything that a hub needs.
    """
    with opened_database(database) as hub:
        from acoupi.hub.audio_store import open_store
        from acoupi.hub.ingest import serve as serve_ingest
        from acoupi.hub.parts import Hub

        store = None if audio is None else open_store(audio)
        require_free(host, port)
        scheme = "https" if tls_certificate else "http"
        say(f"Sensors can report to {scheme}://{host}:{port} (Ctrl-C to stop).")
        serve_ingest(Hub(hub, store), host, port, certificate=tls_certificate, key=tls_key)
