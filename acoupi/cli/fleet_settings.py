"""``acoupi fleet set``, ``update``, ``keys`` and others: what a hub gives its sensors."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi import data
from acoupi.cli.checks import AsJson
from acoupi.cli.hub_options import Database, opened_database
from acoupi.cli.output import done, example, print_json, print_table, say, warn
from acoupi.cli.table import single
from acoupi.cli.timezones import shown_time
from acoupi.errors import ConfigurationError, ParameterError
from acoupi.writing import PRIVATE, disk_error, write_atomic

if TYPE_CHECKING:
    from acoupi.hub.fleet_settings import Change, Offered
    from acoupi.hub.fleet_trial import ChangeRow

__all__ = ["app"]

app = single()

Key = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="ACOUPI_FLEET_KEY",
        help="The private key; by default, .config/acoupi/fleet.key in your home.",
    ),
]
First = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Sensors that try it before the others get it."),
]
Minutes = Annotated[
    float,
    typer.Option(
        min=1,
        max=10_080,
        metavar="N",
        help="Time for a sensor to record with it and be well, in minutes.",
    ),
]
Place = Annotated[str, typer.Argument(metavar="base|GROUP|SENSOR", help="Which sensors get it.")]
Setting = Annotated[str, typer.Argument(metavar="SETTING", help="As for acoupi config set.")]
MOST = 10
CHANGE_COLUMNS = {
    "what": "change", "state": "state", "began_on": "since (UTC)", "good": "well with it",
    "offered": "trying it", "waiting": "waiting", "why": "",
}  # fmt: skip
OPEN_COLUMNS = {"sensor": "sensor", "state": "state", "number": "offered", "in_force": "has"}
STATES = {"first": "tried by some", "all": "offered to all", "done": "done", "undone": "undone"}
OVERLAY_COLUMNS = {"place": "who", "setting": "setting", "value": "value"}
GROUP_COLUMNS = {"group": "group", "sensors": "sensors"}


@app.command(epilog=example("acoupi fleet keys"))
def keys(
    database: Database,
    key: Key = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also if the hub has another key.")
    ] = False,
) -> None:
    """Make the key that signs settings, if there is none, and give the hub its public part.

    The private key stays in its file. Give the printed key to the sensors: ACOUPI_CONFIG_KEY.
    """
    from acoupi.offers import make_key, public_key

    path = _path(key)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, f"{make_key()}\n", PRIVATE)
        except OSError as error:
            raise disk_error("write", path, error) from error
    public = public_key(_read(path))
    with opened_database(database) as hub:
        from acoupi.hub.fleet_settings import set_key

        set_key(hub, public, replace=replace)
    say(f"ACOUPI_CONFIG_KEY={public}")


@app.command("set", epilog=example("acoupi fleet set bats recording.duration 5 --first 2"))
def set_(
    database: Database,
    place: Annotated[
        str | None, typer.Argument(metavar="base|GROUP|SENSOR", help="Which sensors get it.")
    ] = None,
    setting: Annotated[
        str | None, typer.Argument(metavar="SETTING", help="As for acoupi config set.")
    ] = None,
    value: Annotated[str | None, typer.Argument(metavar="VALUE", help="Its value.")] = None,
    first: First = 1,
    minutes: Minutes = 60,
    key: Key = None,
    status: Annotated[
        bool, typer.Option("--status", help="Show the progress of the latest changes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Change a setting of sensors: some try it first, and it is undone if they are not well.

    It is checked for each sensor, and signed, before any sensor gets it. A setting for one
    sensor takes precedence over its group's, and that over the one for all ("base").
    """
    if status:
        with opened_database(database) as hub:
            from acoupi.hub.fleet_trial import advance, changes

            advance(hub, data.utc_now())
            with hub.reading() as connection:
                found = list(changes(connection, MOST))
        _show(found, as_json=as_json)
        return
    if place is None or setting is None or value is None:
        raise ParameterError(
            "SETTING",
            "it is not clear what to set, and for which sensors.",
            "acoupi fleet set bats recording.duration 5   (or --status)",
            why="it needs base or the name of a group or sensor, a setting, and a value.",
        )
    with opened_database(database) as hub:
        from acoupi.hub.fleet_settings import set_value

        _tell(set_value(hub, place, setting, value, _change(key, first, minutes)), as_json=as_json)


@app.command(epilog=example("acoupi fleet update bats ghcr.io/me/sensor:1.1 --first 2"))
def update(
    place: Place,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="As docker pull takes it.")],
    database: Database,
    first: First = 1,
    minutes: Minutes = 60,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Update sensors in containers to an image: tried and undone like a setting.

    Each sensor runs acoupi update, and goes back if it does not record and analyse within
    half of the minutes. To withdraw it: acoupi fleet unset base|GROUP|SENSOR sensor.image
    """
    with opened_database(database) as hub:
        from acoupi.hub.fleet_settings import set_image

        _tell(set_image(hub, place, image, _change(key, first, minutes)), as_json=as_json)


@app.command(epilog=example("acoupi fleet unset bats recording.duration"))
def unset(
    place: Place,
    setting: Setting,
    database: Database,
    first: First = 1,
    minutes: Minutes = 60,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw a setting: the group's, the one for all, or the default applies again."""
    with opened_database(database) as hub:
        from acoupi.hub.fleet_settings import unset_value

        _tell(unset_value(hub, place, setting, _change(key, first, minutes)), as_json=as_json)


@app.command("group", epilog=example("acoupi fleet group bats oak-1 elm-2"))
def group_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the group.")],
    sensors: Annotated[list[str], typer.Argument(metavar="SENSOR...", help="All that are in it.")],
    database: Database,
    first: First = 1,
    minutes: Minutes = 60,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a group of exactly these sensors. A sensor is in one group at most."""
    with opened_database(database) as hub:
        from acoupi.hub.fleet_settings import set_group

        _tell(set_group(hub, name, sensors, _change(key, first, minutes)), as_json=as_json)


@app.command(epilog=example("acoupi fleet groups"))
def groups(database: Database, as_json: AsJson = False) -> None:
    """List the groups, and which sensors are in each."""
    with opened_database(database) as hub, hub.reading() as connection:
        from acoupi.hub.fleet_overlays import Overlays

        members = Overlays.read(connection).groups
    rows = [
        {"group": name, "sensors": sorted(one for one, of in members.items() if of == name)}
        for name in sorted(set(members.values()))
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, GROUP_COLUMNS, empty="No group yet: acoupi fleet group NAME SENSOR…")


@app.command("list", epilog=example("acoupi fleet list"))
def list_(database: Database, as_json: AsJson = False) -> None:
    """List the settings and images that the hub gives, and to which sensors."""
    with opened_database(database) as hub, hub.reading() as connection:
        from acoupi.hub.fleet_overlays import Overlays, words_of

        found = Overlays.read(connection).settings
    rows = [
        {"place": words_of(place), "setting": setting, "value": value}
        for place, settings in found.items()
        for setting, value in settings.items()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, OVERLAY_COLUMNS, empty="Nothing yet: acoupi fleet set base SETTING VALUE")


def _path(key: Path | None) -> Path:
    return key or Path.home() / ".config" / "acoupi" / "fleet.key"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            "the key that signs settings cannot be read.",
            "acoupi fleet keys   (makes one)",
            why=f'"{path}": {error.strerror}.',
        ) from error


def _change(key: Path | None, first: int, minutes: float) -> "Change":
    from acoupi.hub.fleet_settings import Change

    private = _read(_path(key))
    return Change(private=private, now=data.utc_now(), first=first, minutes=minutes)


def _tell(found: "Offered", *, as_json: bool) -> None:
    if as_json:
        print_json(found._asdict())
        return
    for note in found.notes:
        warn(note)
    if not found.first:
        done("This changes nothing for any sensor.")
        return
    then = f"; {len(found.others)} after that" if found.others else ""
    done(
        f"Offered to {', '.join(found.first)}{then}. To see its progress: acoupi fleet set --status"
    )


def _show(found: "list[ChangeRow]", *, as_json: bool) -> None:
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
        return
    rows: list[dict[str, Any]] = [
        dataclasses.asdict(one) | {"state": STATES[one.state], "began_on": shown_time(one.began_on)}
        for one in found
    ]
    print_table(rows, CHANGE_COLUMNS, empty="Nothing has been changed yet.")
    waiting = [one for row in found[:1] for one in row.sensors if one["state"] != "good"]
    if waiting and found[0].state != "undone":
        typer.echo()
        print_table(waiting, OPEN_COLUMNS, empty="")
