"""Time limits of HTTP: silent or slow clients do not block others.

Servers admit so many connections at a time, and would wait for each as long as it is open.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["PromptHTTP", "PromptStream", "body_of"]

LONGEST_HEAD = 20.0
"""Seconds from the connection, or from the last answer, to the end of the head of a request."""
LONGEST_BODY = 60.0
"""Seconds from there to the end of its body."""


class PromptHTTP(H11Protocol):
    """Closes a connection on which no request comes."""

    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        if self._look is not None:
            self._look.cancel()

    def _wait(self) -> None:
        if self._look is not None:
            self._look.cancel()
        self._look = self.loop.call_later(LONGEST_HEAD, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


async def body_of(request: Request, most: int) -> bytes | None:
    """Return the body; None if it is too large.

    Raises
    ------
    TimeoutError
        If it does not come in time.
    """
    content = bytearray()
    async with asyncio.timeout(LONGEST_BODY):
        async for part in request.stream():
            content += part
            if len(content) > most:
                return None
    return bytes(content)


class PromptStream(StreamingResponse):
    """A response in parts that stops at a time limit, even if it is not complete.

    Parameters
    ----------
    longest
        Seconds for all of it to be taken.
    end
        Is called at the end, however that comes.
    """

    def __init__(
        self,
        content: Any,
        status: int,
        headers: Mapping[str, str],
        media_type: str | None = None,
        *,
        longest: float,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(content, status, headers, media_type)
        self._longest, self._end = longest, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all parts."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._longest):
                    await super().__call__(scope, receive, send)
        finally:
            self._end()
