"""``acoupi fleet``: the state of many sensors, from the messages that they send."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi import data
from acoupi.cli import fleet_following, fleet_settings
from acoupi.cli.checks import AsJson
from acoupi.cli.deployment import UNHEALTHY
from acoupi.cli.heard import no_hub
from acoupi.cli.output import example, print_json, print_table, say, shown, warn, working
from acoupi.cli.table import group
from acoupi.errors import ParameterError
from acoupi.fleet.judging import Fleet, Row, groups_of, values_that_differ
from acoupi.fleet.words import (
    COLUMNS,
    FIGURES,
    NOT_SENT,
    RUNS,
    SENSOR,
    STATE,
    WORK,
    WRONG,
    row_words,
    shown_digest,
    shown_program,
)

if TYPE_CHECKING:
    from acoupi.fleet.judging import Group

__all__ = ["app"]

app = group("fleet")
app.add_typer(fleet_settings.app)
app.add_typer(fleet_following.app)

Hub = Annotated[
    str | None,
    typer.Option(
        "--hub",
        metavar="URL",
        envvar="ACOUPI_HUB_DATABASE",
        show_envvar=False,
        help="Read the database of a hub.",
    ),
]
Mqtt = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="ACOUPI_FLEET_MQTT",
        show_envvar=False,
        help="Listen to a broker: mqtts://USER:PASSWORD@HOST/TOPIC",
    ),
]
Messages = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOLDER|-", help="Read lines of JSON, as the file messenger writes them."
    ),
]
Seconds = Annotated[
    float,
    typer.Option(min=1, max=86_400, metavar="N", help="Seconds to listen to the broker."),
]
WIDE = 200
"""Width in characters that fits everything into one table; narrower terminals get several."""
DIFF_COLUMNS = {
    "configuration": "settings", "program": "program", "versions": "version",
    "count": "sensors", "differs_in": "differs in", "sensors": "which",
}  # fmt: skip


@app.command(epilog=example("acoupi fleet status --hub postgresql:///acoupi"))
def status(
    hub: Hub = None,
    mqtt: Mqtt = None,
    messages: Messages = None,
    seconds: Seconds = 10,
    silent_after: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=87_600,
            metavar="HOURS",
            help="Without a heartbeat for longer, a sensor is silent; if not given: three of its "
            "intervals.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the state of each sensor: silent ones first, then the worst.

    Exit code 3: a sensor is silent or unwell, or there are no sensors.
    """
    now = data.utc_now()
    limit = None if silent_after is None else timedelta(hours=silent_after)
    rows = _rows_of(Fleet(now, limit), hub, mqtt, messages, seconds)
    counts = {
        state: sum(row.state == state for row in rows) for state in ("silent", "unwell", "well")
    }
    is_well = bool(rows) and counts["well"] == len(rows)
    if as_json:
        print_json({"ok": is_well, "counts": counts, "sensors": [asdict(row) for row in rows]})
    else:
        _show([row_words(row, now) for row in rows], empty=_nothing(mqtt, messages))
        if rows:
            say(
                f"{len(rows)} sensor{'s' * (len(rows) > 1)}: "
                + ", ".join(f"{n} {state}" for state, n in counts.items())
            )
    if not is_well:
        raise typer.Exit(UNHEALTHY)


@app.command(epilog=example("acoupi fleet diff --messages sensors/"))
def diff(
    hub: Hub = None,
    mqtt: Mqtt = None,
    messages: Messages = None,
    seconds: Seconds = 10,
    as_json: AsJson = False,
) -> None:
    """Show which sensors run which settings, and the sections in which they differ.

    Differences are relative to the largest group with the same program; from a hub, with
    their values. Secrets and paths are not compared.
    """
    groups = groups_of(_rows_of(Fleet(data.utc_now()), hub, mqtt, messages, seconds))
    is_hub = hub is not None and messages is None and mqtt is None
    values = values_that_differ(groups, _values(hub) if hub and is_hub else {})
    if as_json:
        print_json([one._asdict() | {"values": of} for one, of in zip(groups, values, strict=True)])
    else:
        rows = [_group_words(one, of) for one, of in zip(groups, values, strict=True)]
        print_table(rows, DIFF_COLUMNS, empty=_nothing(mqtt, messages))


def _values(hub: str) -> dict[str, dict[str, Any]]:
    """Return the settings of each sensor, as the hub knows them."""
    from acoupi.hub.database import HubDatabase
    from acoupi.hub.fleet_standing import get_values

    with closing(HubDatabase(hub)) as database:
        return get_values(database)


def _show(rows: list[dict[str, Any]], *, empty: str) -> None:
    """Print one table, or on a terminal several that fit into 60 columns."""
    from acoupi.cli.tables import width_of

    tables = [STATE | WRONG, FIGURES, WORK, RUNS]
    if not rows or (width_of() or WIDE) >= WIDE:
        tables = [COLUMNS]
    for columns in tables:
        print_table(rows, SENSOR | columns, empty=empty)
        if len(tables) > 1:
            typer.echo()


def _rows_of(
    fleet: Fleet, hub: str | None, mqtt: str | None, messages: str | None, seconds: float
) -> list[Row]:
    """Return the rows of the given source; the hub last, as a variable may name it."""
    if messages is not None:
        from acoupi.fleet.reading import put_files

        if bad := put_files(fleet, messages):
            warn(f"lines that are not messages were skipped: {bad}.")
    elif mqtt is not None:
        from acoupi.components.messengers.mqtt_collecting import collect
        from acoupi.fleet.reading import put_published

        take: Callable[[str, bytes], None] = lambda topic, said: put_published(fleet, topic, said)  # noqa: E731
        with working(f"Listening for {seconds:g} s"):
            collect(mqtt, seconds, take)
    elif hub is not None:
        try:
            from acoupi.hub.database import HubDatabase
            from acoupi.hub.heartbeats import put_reported
        except ModuleNotFoundError as error:
            raise no_hub(error) from error
        database = HubDatabase(hub)
        put_reported(fleet, database)
    else:
        raise ParameterError(
            "--hub",
            "it is not clear where to read the sensors' messages.",
            "acoupi fleet status --hub URL   (or --mqtt URL, or --messages FILE)",
            why="they are in the database of a hub, at an MQTT broker, or in files.",
        )
    return fleet.rows()


def _nothing(mqtt: str | None, messages: str | None) -> str:
    if messages is None and mqtt is not None:
        return (
            "Nothing was published in that time. Check the topic, and that this user may read it. "
            "To listen longer: --seconds 3600"
        )
    return "No sensor has sent a heartbeat."


def _group_words(one: "Group", values: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    told = {name.partition(".")[0] for name in values}
    return {
        "configuration": shown_digest(one.configuration),
        "program": shown_program(one.program),
        "versions": one.versions or NOT_SENT,
        "count": len(one.sensors),
        "differs_in": [
            *(f"{name} = {shown(own)} ({shown(usual)})" for name, (own, usual) in values.items()),
            *(name for name in one.differs_in if name not in told),
        ],
        "sensors": one.sensors,
    }
