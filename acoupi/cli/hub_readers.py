"""``--hub`` of commands that read a sensor: read all sensors of a hub instead."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acoupi.errors import ConfigurationError

if TYPE_CHECKING:
    from acoupi.components.stores.reader import StatementReader
    from acoupi.exports.remote import RemoteReader

__all__ = ["Hub", "TokenFile", "hub_over_http", "hub_reader", "is_over_http", "no_hub"]

TOKEN = "ACOUPI_HUB_TOKEN"  # noqa: S105 - its name

Hub = Annotated[
    str | None,
    typer.Option(
        "--hub",
        metavar="URL",
        envvar=["ACOUPI_HUB", "ACOUPI_HUB_DATABASE"],
        show_envvar=False,
        help="Read all sensors of the hub at https://HOST, or of its database "
        "(postgresql://HOST/NAME); times in UTC.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File with your token for https://HOST; by default, in ACOUPI_HUB_TOKEN.",
    ),
]


def is_over_http(url: str) -> bool:
    """Return whether an address is a hub's, not its database's."""
    return url.lower().startswith(("http://", "https://"))


def hub_reader(url: str, token_file: Path | None = None) -> "StatementReader | RemoteReader":
    """Return a reader of a hub: at its address with a token, or in its database.

    Raises
    ------
    ConfigurationError
        If there is no token, this installation has no hub, or the address is not valid.
    """
    if is_over_http(url):
        return hub_over_http(url, token_file)
    try:
        from acoupi.hub.reader import HubReader
    except ModuleNotFoundError as error:
        raise no_hub(error) from error
    return HubReader(url)


def hub_over_http(url: str, token_file: Path | None) -> "RemoteReader":
    """Return a reader of the hub at an address, with the token of the user.

    Raises
    ------
    ConfigurationError
        If there is no token.
    """
    from acoupi.exports.remote import RemoteReader

    return RemoteReader(url, _token(token_file))


def _token(file: Path | None) -> str:
    try:
        token = os.environ.get(TOKEN, "") if file is None else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f'the token cannot be read from "{file}".',
            f"--token-file FILE, or the variable {TOKEN}",
            why=f"{error}.",
        ) from error
    token = token.strip()
    if not token.isascii() or not token.isprintable() or not token:
        raise ConfigurationError(
            "there is no token for the hub." if not token else "this is not a token of a hub.",
            f"export {TOKEN}=…   (acoupi hub add-person, at the hub, makes one)",
            why="only people whom the hub knows may read it over HTTP.",
        )
    return token


def no_hub(error: ModuleNotFoundError) -> ConfigurationError:
    """Return the error for a missing library of the hub."""
    return ConfigurationError(
        "this installation of acoupi has no hub.",
        'pip install "acoupi[hub]"',
        why=f"{error.name} is not installed.",
    )
