"""``--hub`` of commands that read a sensor: all sensors of a hub, by its address or database."""

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
        help="Of all sensors of the hub at https://HOST, or with this database "
        "(postgresql://HOST/NAME); times in UTC.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Holds your token for https://HOST; without it, ACOUPI_HUB_TOKEN has it.",
    ),
]


def is_over_http(url: str) -> bool:
    """Return whether an address is that of a hub, not of its database."""
    return url.lower().startswith(("http://", "https://"))


def hub_reader(url: str, token_file: Path | None = None) -> "StatementReader | RemoteReader":
    """Return what reads a hub: at its address with a token, or in its database.

    Raises
    ------
    ConfigurationError
        If there is no token, this installation has no hub, or it is no address.
    """
    if is_over_http(url):
        return hub_over_http(url, token_file)
    try:
        from acoupi.hub.reader import HubReader
    except ModuleNotFoundError as error:
        raise no_hub(error) from error
    return HubReader(url)


def hub_over_http(url: str, token_file: Path | None) -> "RemoteReader":
    """Return what reads the hub at an address, with the token of who asks.

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
            why="a hub is read over HTTP by people whom it knows.",
        )
    return token


def no_hub(error: ModuleNotFoundError) -> ConfigurationError:
    """Return what to say where a library of the hub is missing."""
    return ConfigurationError(
        "this installation of acoupi has no hub.",
        'pip install "acoupi[hub]"',
        why=f"{error.name} is not installed.",
    )
