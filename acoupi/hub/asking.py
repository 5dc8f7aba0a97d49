"""Requests to a hub: who asks, what was sent, and how requests are refused.

A page is a plain function from `Asked` to a response, which runs in a thread. An exception is
answered by its class: 409 for a `HubError`, 503 for a `HubUnavailableError` (ask again later), 507
for a `HubFullError` (there is no room), and the status of a `RefusedError` or `RecordingFileError`.
"""

import base64
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from acoupi.errors import HubError, HubFullError, HubUnavailableError, RecordingFileError
from acoupi.hub.parts import Hub
from acoupi.hub.tokens import Caller, caller_of
from acoupi.hub.troubles import Troubles
from acoupi.web.prompt import body_of

__all__ = ["LONGEST_BODY", "RETRY_AFTER", "Asked", "RefusedError", "page", "said"]

T = TypeVar("T", bound=BaseModel)

LONGEST_BODY = 16 * 2**20
"""Most bytes of a request, compressed or not."""
RETRY_AFTER = "60"
"""Seconds after which a client should repeat a request that could not be served."""


class _Count(IntegerConvertor):
    """A number in a path, of limited length."""

    regex = "[0-9]{1,15}"


register_url_convertor("count", _Count())


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a page of a hub."""

    hub: Hub
    caller: Caller
    request: Request
    """The request: path, query and headers; its body was read already."""
    body: bytes
    """The body, decompressed."""

    def parsed(self, model: type[T], what: str) -> T:
        """Return the body as a model.

        Raises
        ------
        RefusedError
            422, if it is not one: "this is not WHAT: ...".
        """
        try:
            return model.model_validate_json(self.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or what
            raise RefusedError(422, f"this is not {what}: {place}: {first['msg']}.") from error


def page(
    hub: Hub,
    path: str,
    answer: Callable[[Asked], Response],
    *,
    allowed: tuple[str, ...],
    method: str = "GET",
) -> Route:
    """Return a page that only these may request: "sensor", "worker", and roles of people."""
    troubles = Troubles()

    async def asked(request: Request) -> Response:
        who = request.client.host if request.client else "somebody"
        try:
            caller = await run_in_threadpool(_caller, hub, request, allowed)
            who = caller.name
            body = await _body(request)
            return await run_in_threadpool(answer, Asked(hub, caller, request, body))
        except RefusedError as error:
            troubles.refuse(who, error.status, str(error))
            return said(error.status, str(error))
        except RecordingFileError as error:
            return said(error.status, error.message)
        except HubUnavailableError as error:
            troubles.tell(error)
            status = 507 if isinstance(error, HubFullError) else 503
            return said(status, error.message, {"Retry-After": RETRY_AFTER})
        except HubError as error:
            troubles.refuse(who, 409, error.message)
            return said(409, error.message)

    return Route(path, asked, methods=[method])


def said(status: int, what: str, headers: dict[str, str] | None = None) -> Response:
    """Return a response that names what is wrong."""
    return JSONResponse({"error": what}, status, headers)


def _caller(hub: Hub, request: Request, allowed: tuple[str, ...]) -> Caller:
    user, token = _login(request.headers.get("authorization", ""))
    caller = caller_of(hub.database, token) if token else None
    if caller is None or user not in ("", caller.name):
        raise RefusedError(401, f"this token is not valid: ask for one by {_givers(allowed)}.")
    if not caller.is_one_of(allowed):
        what = caller.scope if caller.kind == "person" else caller.kind
        a = "an" if allowed[0] == "operator" else "a"
        who = f"only {a} {' or '.join(allowed)} may ask for this"
        raise RefusedError(403, f"{who}; {caller.name} is: {what}.")
    return caller


def _login(header: str) -> tuple[str, str]:
    """Return the claimed name, which may be empty, and the token."""
    kind, _, said = header.partition(" ")
    if kind.lower() == "bearer":
        return "", said
    if kind.lower() != "basic":
        return "", ""
    try:
        user, _, token = base64.b64decode(said).decode().partition(":")
    except ValueError:
        return "", ""
    return user, token


def _givers(allowed: tuple[str, ...]) -> str:
    kinds = dict.fromkeys(one if one in ("sensor", "worker") else "person" for one in allowed)
    return " or ".join(f"acoupi hub add-{kind}" for kind in kinds)


async def _body(request: Request) -> bytes:
    """Return the decompressed body, up to the limit."""
    try:
        body = await body_of(request, LONGEST_BODY)
    except TimeoutError as error:
        raise RefusedError(408, "the request body came too slowly: send it again.") from error
    if body is None:
        raise _too_long()
    if request.headers.get("content-encoding") != "gzip":
        return body
    try:
        reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        plain = reader.decompress(body, LONGEST_BODY)
    except zlib.error as error:
        raise RefusedError(422, f"this is not compressed as its header says: {error}.") from error
    if reader.unconsumed_tail:
        raise _too_long()
    if not reader.eof or reader.unused_data:
        raise RefusedError(
            422, "this is not compressed as its header says: its end is missing, or there are two."
        )
    return plain


def _too_long() -> RefusedError:
    return RefusedError(413, f"no more than {LONGEST_BODY} bytes may be sent at a time.")
