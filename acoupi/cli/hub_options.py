"""What the commands of ``acoupi hub`` share: its database, and where its sound is."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acoupi.cli.heard import no_hub
from acoupi.errors import ConfigurationError

if TYPE_CHECKING:
    from acoupi.hub.database import HubDatabase

__all__ = ["Audio", "Certificate", "Database", "Key", "opened_database", "require_free"]


def _database(context: typer.Context, url: str) -> str:
    """Return the given address, else that of the hub on this machine.

    Raises
    ------
    ConfigurationError
        If there is no hub, or its database is on another server.
    """
    if url or context.resilient_parsing:
        return url
    from acoupi.hub.bundle.choices import hub_home

    home = hub_home()
    if home.is_set_up and home.read().has_own_database:
        return home.host_database
    raise ConfigurationError(
        "it is not clear which database the hub has.",
        "--database postgresql://USER@HOST/NAME   (or the variable ACOUPI_HUB_DATABASE)",
        why=f'there is no hub with a database of its own in "{home.path}".',
    )


Database = Annotated[
    str,
    typer.Option(
        default_factory=str,
        callback=_database,
        show_default=False,
        metavar="URL",
        envvar="ACOUPI_HUB_DATABASE",
        help="postgresql://USER:PASSWORD@HOST/NAME; by default, that of acoupi hub setup.",
    ),
]
Audio = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        envvar="ACOUPI_HUB_AUDIO",
        help="Where sound is kept: a folder, or s3://BUCKET/PREFIX.",
    ),
]
Certificate = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificate for TLS, as PEM.")
]
Key = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Private key of the certificate, as PEM.")
]


@contextmanager
def opened_database(url: str) -> "Iterator[HubDatabase]":
    """Provide the database of a hub.

    Raises
    ------
    ConfigurationError
        If this installation has no hub, or the address is not valid.
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


def require_free(host: str, port: int) -> None:
    """Check that a server can listen there; uvicorn itself would exit without three lines.

    Raises
    ------
    ConfigurationError
        If it cannot.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError as error:
            is_taken = error.errno == errno.EADDRINUSE
            raise ConfigurationError(
                f"cannot listen at {host}:{port}.",
                "--port N   (another port), or stop that program"
                if is_taken
                else "--host 127.0.0.1",
                why="another program listens on that port."
                if is_taken
                else f"the system refuses it: {error.strerror}.",
            ) from error
