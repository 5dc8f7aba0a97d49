"""``acoupi fleet follow``: apply a hub's settings on a sensor that a person set up."""

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from acoupi.cli import home
from acoupi.cli.handler import show_error
from acoupi.cli.output import example, say
from acoupi.cli.table import single
from acoupi.errors import AcoupiError

if TYPE_CHECKING:
    from acoupi.provisioned import FromHub

__all__ = ["app"]

app = single()
LOCK = "fleet-follow"
FAULT = 3


@app.command(epilog=example("acoupi fleet follow --once"))
def follow(
    once: Annotated[
        bool,
        typer.Option("--once", help="Look once and exit, as for a timer; exit code 3: a fault."),
    ] = False,
    every: Annotated[
        float, typer.Option(min=1, max=86_400, metavar="N", help="Seconds between looks.")
    ] = 300,
) -> None:
    """Apply the settings that the hub gives this sensor; go back if they do not work.

    While a change is on trial, the hub is asked every ten seconds. This needs sensor.hub.url,
    token, name and key; without the key, the settings made here stay.
    """
    from acoupi.provisioning.following import seconds_to_next_look
    from acoupi.stack.pulse import ServiceLock

    settings = home.settings()
    with ServiceLock(settings.run_dir, LOCK):
        if once:
            raise typer.Exit(FAULT if _look().fault else 0)
        while True:
            followed = None
            try:
                followed = _look().followed
            except AcoupiError as error:
                show_error(error)
            threading.Event().wait(seconds_to_next_look(followed, every))


def _look() -> "FromHub":
    from acoupi.provisioning.over_chosen import look

    found = look(home.settings(), lambda text: say(text[:1].upper() + text[1:] + "."))
    if found.followed is None:
        say("This sensor follows no hub: sensor.hub.key is not set.")
    if found.fault:
        say(f"{found.fault.text()} Try: {found.fault.help}", err=True)
    return found
