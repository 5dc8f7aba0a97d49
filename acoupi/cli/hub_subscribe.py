"""``acoupi hub subscribe``: messages of sensors from an MQTT broker into a hub."""

import signal
from typing import Annotated

import typer

from acoupi.cli.hub_options import Database, opened_database
from acoupi.cli.output import example, say
from acoupi.cli.table import single

__all__ = ["app"]

app = single()


@app.command("subscribe", epilog=example("acoupi hub subscribe --broker mqtt://localhost/acoupi"))
def subscribe(
    broker: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="ACOUPI_HUB_MQTT",
            help="mqtts://USER:PASSWORD@HOST/TOPIC; what is published below the topic is taken in.",
        ),
    ],
    database: Database,
    client_id: Annotated[
        str,
        typer.Option(
            metavar="ID",
            envvar="ACOUPI_HUB_MQTT_CLIENT",
            help="By which the broker knows what this hub has not got yet; another for each hub.",
        ),
    ] = "acoupi-hub",
) -> None:
    """Take in what sensors publish at an MQTT broker (MQTT 5), until Ctrl-C.

    A sensor is known by its topic, a level of which is its name, or by the id of its device.
    While this does not run, the broker keeps what comes for up to 30 days.
    """
    import logging

    with opened_database(database) as hub:
        from acoupi.hub.subscribing import Subscriber

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        subscriber = Subscriber(hub, broker, client_id)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: subscriber.end())
        say("What sensors publish is taken in (Ctrl-C ends it).")
        subscriber.run()
