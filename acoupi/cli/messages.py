"""``acoupi messages``: messages that were sent, are waiting, or were given up."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.output import done, example, print_json, print_table
from acoupi.cli.table import group
from acoupi.errors import ConfigurationError, ParameterError

if TYPE_CHECKING:
    from acoupi.system.sensor import Sensor

__all__ = ["app"]

app = group("messages")

Messenger = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Only this messenger, named as in the list."),
]
COUNT_COLUMNS = {
    "messenger": "messenger",
    "acknowledged": "delivered",
    "pending": "waiting",
    "dead": "given up",
    "expired": "too old",
    "bytes_today": "bytes today",
    "refusal": "refused because",
}
DEAD_COLUMNS = {
    "id": "message",
    "messenger": "messenger",
    "attempts": "attempts",
    "updated_on": "given up on",
    "last_error": "last answer",
}


def _store(found: "Sensor", messenger: str | None, *, only_reads: bool) -> Any:
    """Return the message store of the program.

    Raises
    ------
    ConfigurationError
        If it sends no messages or stores none, or has no such messenger.
    """
    program = home.load(found, only_reads=only_reads)
    store: Any = getattr(program, "message_store", None)
    if not hasattr(store, "get_dead_letters"):
        raise ConfigurationError(
            "this sensor keeps no record of messages.",
            "acoupi setup --program connected",
            why=f"its program, {type(program).__name__}, sends none, or does not store them.",
        )
    names = list(store.count_deliveries())
    if messenger is not None and messenger not in names:
        raise ParameterError(
            messenger,
            f'there is no messenger "{messenger}".',
            "acoupi messages list",
            why=f"the messengers used so far are {', '.join(names) or 'none'}.",
        )
    return store


@app.command("list", epilog=example("acoupi messages list"))
def list_(messenger: Messenger = None, as_json: AsJson = False) -> None:
    """Show how many messages were delivered, and list those that were given up.

    A message is given up when its server has refused it ten times, or when it is older than
    sensor.outbox.longest_days. If the server refuses the sensor itself, messages wait: correct
    the address, token or password.
    """
    store = _store(home.sensor(), messenger, only_reads=True)
    refusals = {each.messenger: each.error for each in store.get_refusals()}
    spent = store.get_bytes_sent() if hasattr(store, "get_bytes_sent") else {}
    counts = [
        {
            "messenger": name,
            "expired": 0,
            **states,
            "bytes_today": spent.get(name),
            "refusal": refusals.get(name),
        }
        for name, states in store.count_deliveries().items()
        if messenger in (None, name)
    ]
    dead = [_row(letter) for letter in store.get_dead_letters(messenger)]
    if as_json:
        print_json({"messengers": counts, "dead_letters": dead})
        return
    print_table(counts, COUNT_COLUMNS, empty="No messages have been sent yet.")
    if dead:
        print_table(dead, DEAD_COLUMNS, empty="", title="Given up")
        typer.echo("To send them again: acoupi messages retry")


def _row(letter: Any) -> dict[str, Any]:
    return {
        "id": str(letter.message.id),
        "messenger": letter.messenger,
        "created_on": letter.message.created_on,
        "attempts": letter.attempts,
        "updated_on": letter.updated_on,
        "last_error": letter.last_error,
    }


@app.command(epilog=example("acoupi messages retry"))
def retry(
    messenger: Messenger = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="Instead, messages that had become too old to send.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try again to deliver the messages that were given up."""
    store = _store(home.sensor(), messenger, only_reads=False)
    count = store.retry_expired(messenger) if expired else store.retry_dead_letters(messenger)
    if as_json:
        print_json({"retried": count})
    else:
        done(f"{count} messages will be tried again.")
