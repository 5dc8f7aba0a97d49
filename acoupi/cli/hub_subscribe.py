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
            help="mqtts://USER:PASSWORD@HOST/TOPIC; messages below the topic are stored.",
        ),
    ],
    database: Database,
    client_id: Annotated[
        str,
        typer.Option(
            metavar="ID",
            envvar="ACOUPI_HUB_MQTT_CLIENT",
            help="Tells the broker which messages this hub has not had yet; one per hub.",
        ),
    ] = "acoupi-hub",
) -> None:
    """Store the messages that sensors publish at an MQTT broker (MQTT 5), until Ctrl-C.

    A sensor is recognised by its name as a level of the topic, or by the id of its device.
    While this is not running, the broker keeps messages for up to 30 days.
    """
    import logging

    with opened_database(database) as hub:
        from acoupi.hub.subscribing import Subscriber

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        subscriber = Subscriber(hub, broker, client_id)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: subscriber.end())
        say("Messages of sensors are being stored (Ctrl-C to stop).")
        subscriber.run()
