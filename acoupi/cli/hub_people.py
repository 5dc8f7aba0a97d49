"""``acoupi hub add-person``, ``withdraw-person`` and ``people``: who may read a hub."""

import dataclasses
from typing import Annotated

import typer

from acoupi.cli.checks import AsJson
from acoupi.cli.hub_options import Database, opened_database
from acoupi.cli.output import done, example, print_json, print_table, say
from acoupi.cli.table import single
from acoupi.cli.timezones import shown_time

__all__ = ["app"]

app = single()

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the hub calls the person.")]
COLUMNS = {
    "name": "person", "role": "role", "has_token": "may read", "added_on": "since (UTC)",
}  # fmt: skip


@app.command("add-person", epilog=example("acoupi hub add-person ana --role reviewer"))
def add_person(
    name: Name,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE",
            help="reader: what was heard, places to 0.1 degree; reviewer: also sound, exact places "
            "and verdicts; operator: also the free space of each sensor.",
        ),
    ],
    database: Database,
) -> None:
    """Let a person read the hub, and print their token once; an earlier token becomes invalid."""
    with opened_database(database) as hub:
        from acoupi.hub.people import add_person as add

        say(add(hub, name, role))


@app.command("withdraw-person", epilog=example("acoupi hub withdraw-person ana"))
def withdraw_person(name: Name, database: Database) -> None:
    """Stop a person from reading the hub; their verdicts are kept."""
    with opened_database(database) as hub:
        from acoupi.hub.people import withdraw_person as withdraw

        withdraw(hub, name)
    done(f"{name} may no longer read. To allow them again: acoupi hub add-person {name}")


@app.command("people", epilog=example("acoupi hub people"))
def people(database: Database, as_json: AsJson = False) -> None:
    """List the people who may read the hub, and their roles."""
    with opened_database(database) as hub:
        from acoupi.hub.people import get_people

        found = [dataclasses.asdict(one) for one in get_people(hub)]
    if as_json:
        print_json(found)
        return
    rows = [one | {"added_on": shown_time(one["added_on"])} for one in found]
    print_table(rows, COLUMNS, empty="No people yet: acoupi hub add-person NAME --role reader")
