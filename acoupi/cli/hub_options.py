"""What the commands of ``acoupi hub`` share: its database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from acoupi.cli.heard import no_hub

if TYPE_CHECKING:
    from acoupi.hub.database import HubDatabase

__all__ = ["Database", "opened_database"]

Database = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="ACOUPI_HUB_DATABASE",
        help="Of PostgreSQL: postgresql://USER:PASSWORD@HOST/NAME. Its tables are made.",
    ),
]


@contextmanager
def opened_database(url: str) -> "Iterator[HubDatabase]":
    """Provide the database of a hub.

    Raises
    ------
    ConfigurationError
        If this installation has no hub, or it is no address.
    """
    try:
        from acoupi.hub.database import HubDatabase
    except ModuleNotFoundError as error:
        raise no_hub(error) from error
    database = HubDatabase(url)
    try:
        yield database
    finally:
        database.close()
