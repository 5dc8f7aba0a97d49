"""A hub that answers over real HTTP from a thread of this process."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import uvicorn

from acoupi.hub.database import HubDatabase
from acoupi.hub.ingest import make_ingest
from acoupi.hub.parts import Hub
from tests.services import DEADLINE, Authority, eventually, free_port

__all__ = ["served"]


@contextmanager
def served(
    database: str, *, host: str = "127.0.0.1", tls: Authority | None = None, **parts: Any
) -> Iterator[str]:
    """Serve a hub with this database and other parts; provide its address."""
    port = free_port()
    with closing(HubDatabase(database)) as hub:
        config = uvicorn.Config(
            make_ingest(Hub(hub, **parts)),
            host=host,
            port=port,
            log_config=None,
            timeout_graceful_shutdown=1,
            ssl_certfile=tls and tls.server,
            ssl_keyfile=tls and tls.server_key,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            eventually(lambda: server.started, "the start of the hub")
            yield f"http{'s' if tls else ''}://{host}:{port}"
        finally:
            server.should_exit = True
            thread.join(DEADLINE)
            assert not thread.is_alive()
