"""``acoupi stores``: damaged databases, and what was saved of them."""

from typing import Annotated

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.output import done, example, print_json, say, warn
from acoupi.cli.table import single

__all__ = ["app"]

app = single()

SET_ASIDE = 3


@app.command(epilog=example("acoupi stores"))
def stores(
    heal: Annotated[
        bool,
        typer.Option("--heal", help="Look for damage now, as services do when they start."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which databases were damaged, what was saved, and what was lost.

    A damaged database is kept under another name, and a new one takes its place. It is listed
    until you move it away, with the file of the same name that ends in .json. Exit code 3: there
    is one.
    """
    from acoupi.system.stores import heal_stores, healings_here

    found = home.sensor()
    healed = heal_stores(found.settings) if heal else []
    shown = healings_here(found.settings)
    if as_json:
        print_json(
            {"healed": len(healed), "stores": [one.model_dump(mode="json") for one in shown]}
        )
    for one in () if as_json else shown:
        warn(f"{one.told[0].upper()}{one.told[1:]}.")
        for table, rows in one.rows.items():
            say(f"  taken over: {rows} {table}")
        say(f"  full report: {one.report}")
    if shown:
        raise typer.Exit(SET_ASIDE)
    if not as_json:
        done("No damage has been found.")
        if not heal:
            say("To look for some now: acoupi stores --heal")
