"""The services of a hub, described like those of a sensor."""

import re

from acoupi.hub.bundle.choices import HubChoices
from acoupi.stack.stack import (
    MEBIBYTE,
    MODEL_SCORE,
    MODEL_SHARES,
    Broker,
    Limits,
    Port,
    Service,
    Stack,
)

__all__ = [
    "BROKER",
    "DATABASE",
    "DISPATCH",
    "INGEST",
    "INGEST_PORT",
    "SUBSCRIBE",
    "WEB",
    "WEB_PORT",
    "WORKER",
    "hub_stack",
    "worker_name",
]

DATABASE, BROKER, INGEST, DISPATCH, WORKER = "database", "broker", "ingest", "dispatch", "worker"
WEB, SUBSCRIBE = "web", "subscribe"
"""Names of services, which are also their roles; each program adds a worker."""
INGEST_PORT, WEB_PORT = 8090, 8091
"""Ports inside the containers, whatever the ports of this machine."""
BROKER_TLS_PORT = 6380
MEMORY = {
    DATABASE: 1024,
    BROKER: 256,
    INGEST: 768,
    DISPATCH: 256,
    SUBSCRIBE: 256,
    WORKER: 2560,
    WEB: 1536,
}
"""Memory limits, mebibytes; a worker holds its current recording in memory, up to 1024;
the pages hold what they draw and export."""
SCORES = {
    DATABASE: 100,
    BROKER: 200,
    INGEST: 200,
    DISPATCH: 300,
    SUBSCRIBE: 300,
    WORKER: MODEL_SCORE,
    WEB: 400,
}
"""Killed first when memory runs out: a worker, whose job goes to another."""
GRACES = {DATABASE: 60.0, INGEST: 30.0, WORKER: 30.0}
"""Seconds to stop: a database writes its buffers, ingest answers open requests."""


def worker_name(program: str) -> str:
    """Return the name of the service that analyses with a program.

    Examples
    --------
    >>> worker_name("acoupi_birdnet.program")
    'worker-acoupi-birdnet-program'
    """
    return f"{WORKER}-{re.sub(r'[^a-z0-9]+', '-', program.lower()).strip('-')}"


def hub_stack(choices: HubChoices) -> Stack:
    """Describe the services of a hub."""
    listen, broker, pages = choices.listen, choices.listen_broker, choices.listen_web
    services = [
        *([_service(DATABASE, DATABASE)] if choices.has_own_database else []),
        *(
            [_service(BROKER, BROKER, port=Port(broker.port, broker.address) if broker else None)]
            if choices.has_own_broker
            else []
        ),
        _service(INGEST, INGEST, *_serve(choices), port=Port(listen.port, listen.address)),
        _service(DISPATCH, DISPATCH, "acoupi", "hub", "dispatch"),
        *(
            [_service(SUBSCRIBE, SUBSCRIBE, "acoupi", "hub", "subscribe")]
            if choices.subscribes
            else []
        ),
        *(
            [_service(WEB, WEB, *_pages(choices), port=Port(pages.port, pages.address))]
            if pages
            else []
        ),
        *(
            _service(worker_name(one), WORKER, "acoupi", "hub", "work", "--program", one)
            for one in sorted(choices.workers)
        ),
    ]
    kind = Broker("service" if choices.has_own_broker else "external", None)
    return Stack(program="hub", services=tuple(services), broker=kind)


def _serve(choices: HubChoices) -> list[str]:
    return ["acoupi", "hub", "serve", *_at(INGEST_PORT, choices)]


def _pages(choices: HubChoices) -> list[str]:
    told = ["--name", choices.name, "--timezone", choices.timezone]
    return ["acoupi", "hub", "web", *_at(WEB_PORT, choices), *told]


def _at(port: int, choices: HubChoices) -> list[str]:
    words = ["--host", "0.0.0.0", "--port", str(port)]  # noqa: S104
    if choices.has_tls:
        words += ["--tls-certificate", "/run/tls/hub.pem", "--tls-key", "/run/tls/hub.key"]
    return words


def _service(name: str, role: str, *command: str, port: Port | None = None) -> Service:
    is_model = role == WORKER
    return Service(
        name=name,
        role=role,
        command=command,
        concurrency=None,
        port=port,
        stop_grace=GRACES.get(role, 10.0),
        limits=Limits(
            memory_bytes=MEMORY[role] * MEBIBYTE,
            out_of_memory_score=SCORES[role],
            cpu_shares=MODEL_SHARES if is_model else 1024,
        ),
    )
