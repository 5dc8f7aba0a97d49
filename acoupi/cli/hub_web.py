"""``acoupi hub web``: web pages about many sensors."""

from pathlib import Path
from typing import Annotated

import typer

from acoupi.cli.hub_options import Audio, Certificate, Database, Key, opened_database, require_free
from acoupi.cli.output import example, say
from acoupi.cli.table import single
from acoupi.home import expanded

__all__ = ["app"]

app = single()


@app.command("web", epilog=example("acoupi hub web --port 8091 --timezone Europe/London"))
def web(
    database: Database,
    audio: Audio = None,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on; 127.0.0.1: this machine only."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="N", help="Port.")] = 8091,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the hub on its pages.")
    ] = "hub",
    timezone: Annotated[
        str, typer.Option(metavar="ZONE", help="Time zone of the pages: Europe/London.")
    ] = "UTC",
    path_prefix: Annotated[
        str,
        typer.Option(metavar="PATH", help="Path at which a proxy shows the pages, such as /hub."),
    ] = "",
    trusted_proxy: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address of a proxy whose headers about browsers are trusted."
        ),
    ] = "",
    tls_certificate: Certificate = None,
    tls_key: Key = None,
    folder: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            envvar="ACOUPI_HUB_CACHE",
            help="Folder for pictures, exports, and the key that signs sessions.",
        ),
    ] = Path("~/.cache/acoupi-hub"),
) -> None:
    """Serve web pages about all sensors, until Ctrl-C.

    Reviewers and operators log in with the tokens of "acoupi hub add-person".
    On a network, give it a certificate, or put a server that speaks TLS (nginx,
    Caddy) in front of it. acoupi hub setup --listen-web runs it with the hub.
    """
    with opened_database(database) as hub:
        from acoupi.hub.audio_store import open_store
        from acoupi.hub.dashboard import Place, serve
        from acoupi.hub.parts import Hub

        store = None if audio is None else open_store(audio)
        settings = {
            "host": host, "port": port, "path_prefix": path_prefix, "trusted_proxy": trusted_proxy
        }  # fmt: skip
        require_free(host, port)
        scheme = "https" if tls_certificate else "http"
        say(f"The pages are at {scheme}://{host}:{port}{path_prefix}/ (Ctrl-C to stop).")
        place = Place(database, expanded(folder), name, timezone)
        serve(Hub(hub, store), place, settings, certificate=tls_certificate, key=tls_key)
