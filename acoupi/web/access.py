"""Access to the page: logging in and out, sessions, foreign forms, limits, headers.

There is one account, the owner's. A session is a signed cookie, so nothing is stored here; a new
password or token ends all sessions. The cookie holds the owner's key, which is sent to the door
with every change of the sensor.
"""

import hmac
import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from acoupi import clock
from acoupi.config.page_keys import Keys, read_keys, write_keys
from acoupi.config.web import Web
from acoupi.door.caller import owner_key
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.web.limits import Attempts, Rate
from acoupi.web.login import login_page, password_page
from acoupi.web.parts import METRICS, Visitor
from acoupi.web.prompt import body_of

__all__ = ["ALIVE", "COOKIE", "Opener", "PageAccess"]

logger = logging.getLogger(__name__)

ALIVE = "/alive"
OWNER = "owner"
COOKIE = "acoupi"
LASTS = 12 * 3600
"""Seconds of a session."""
MOST_BYTES = 1 << 20
"""Most bytes of the body of a request."""
SAFE = ("GET", "HEAD")
KNOWN = (*SAFE, "POST")
OPEN = ("/login", "/static/", ALIVE)
"""Paths that are open to everybody."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Opener(Protocol):
    """Checks of the password or token."""

    @property
    def mark(self) -> str:
        """Part of each session: changing it ends all sessions."""

    @property
    def password(self) -> str:
        """Any text if no password is to be chosen."""

    def key_of(self, text: str) -> str | None:
        """Return the key of a password or token; None if it is not valid."""

    def opens(self, key: str | None) -> bool:
        """Return whether this key is valid."""


class PageAccess:
    """Controls access to the page.

    Parameters
    ----------
    settings
        Settings of the page.
    file
        File with the keys; the command line also writes it.
    signing
        Signs sessions; None: they end with this process.
    set_password
        Stores the salt and the digest of a new password; None: in the file.
    rate, attempts
        Limits of requests and of wrong passwords.
    """

    way_in: ClassVar[str] = "run on the sensor: acoupi web token"
    """What to do without a password."""
    key_name: ClassVar[str] = "Password, or the token that the sensor printed"
    """What the login page asks for."""
    wrong: ClassVar[str] = "That is not the password."

    def __init__(
        self,
        settings: Web,
        file: Path,
        *,
        signing: str | None = None,
        set_password: Callable[[str, str], None] | None = None,
        rate: Rate | None = None,
        attempts: Attempts | None = None,
    ) -> None:
        self.settings = settings
        self.rate, self._attempts = rate or Rate(), attempts or Attempts()
        self._file = file
        self._signing = (signing or secrets.token_hex(32)).encode()
        self._set_in = set_password or self._write_password
        self._stamp: tuple[int, int] | None = None
        self._known: Keys | None = None

    @property
    def routes(self) -> Sequence[Route]:
        """Log in and out, and whether the page is there."""
        return [
            Route("/login", self._show_login, methods=["GET"]),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/logout", self._log_out, methods=["POST"]),
            Route("/password", self._show_password, methods=["GET"]),
            Route("/password", self._set_password, methods=["POST"]),
            Route(ALIVE, lambda _: Response(status_code=204)),
        ]

    @property
    def middleware(self) -> Sequence[Middleware]:
        """The middleware before every page."""
        return [Middleware(_Guard, access=self)]

    def keys(self) -> Opener | None:
        """Return the checker of keys; None if there are no keys yet."""
        return self._stored_keys()

    def _stored_keys(self) -> Keys | None:
        """Return the keys; after a change, read them and reset the count of wrong passwords."""
        try:
            found = self._file.lstat()
            stamp = found.st_ino, found.st_mtime_ns
        except OSError:
            stamp = None
        if stamp != self._stamp or stamp is None:
            self._stamp, self._known = stamp, read_keys(self._file)
            self._attempts.forget()
        return self._known

    def visitor(self, request: Request) -> Visitor:
        """Return the visitor of a request."""
        return self.visitor_with(request.cookies.get(COOKIE, ""))

    def visitor_with(self, cookie: str) -> Visitor:
        """Return the visitor with this cookie."""
        listening = self.settings.live_audio
        text = self.session(cookie)
        if text is None:
            hears = self.settings.public and listening == "everybody"
            return Visitor(None, "", may_write=False, may_listen=hears)
        csrf = self.signed(f"csrf {text}")
        return Visitor(OWNER, csrf, may_write=True, may_listen=listening != "nobody")

    def key(self, request: Request) -> str | None:
        """Return the key of the owner, if the request is theirs."""
        text = self.session(request.cookies.get(COOKIE, ""))
        return None if text is None else text.split(".")[2]

    def session(self, cookie: str) -> str | None:
        """Return the session in a cookie, if it is valid and has not ended.

        It is ``END.NONCE.KEY``, and a signature.
        """
        keys = self.keys()
        text, _, signature = cookie.rpartition(".")
        parts = text.split(".")
        if keys is None or len(parts) != 3 or not cookie.isascii():
            return None
        if not hmac.compare_digest(self.signed(f"{keys.mark} {text}"), signature):
            return None
        return text if int(parts[0]) > _seconds() and keys.opens(parts[2]) else None

    def signed(self, text: str) -> str:
        """Return the signature of a text."""
        return hmac.digest(self._signing, text.encode(), "sha256").hex()

    # Routes

    def _show_login(self, request: Request) -> Response:
        return self._login_page(request)

    def _login_page(self, request: Request, trouble: str = "", status: int = 200) -> Response:
        then = _own_path(request.query_params.get("then", ""))
        return HTMLResponse(self.login_content(request, trouble, then), status)

    def login_content(self, request: Request, trouble: str, then: str = "") -> str:
        """Return the page on which one logs in; see `login_page`."""
        base = request.scope.get("root_path", "")
        return login_page(base, trouble, then, self.key_name, self.way_in)

    async def _log_in(self, request: Request) -> Response:
        """Check a password or token; with a token, ask for a new password."""
        keys, address = self.keys(), _address(request.scope)
        if keys is None:
            words = f"Nobody can log in yet: {self.way_in}"
            return self._login_page(request, words, 403)
        if seconds := self._attempts.wait():
            words = f"Too many wrong passwords: wait {seconds:.0f} s, or {self.way_in}"
            answer = self._login_page(request, words, 429)
            answer.headers["Retry-After"] = f"{seconds:.0f}"
            return answer
        fields = dict(parse_qsl((await request.body()).decode(errors="replace")))
        key = await run_in_threadpool(keys.key_of, fields.get("password", ""))
        if key is None:
            self._attempts.failed(address)
            return self._login_page(request, self.wrong, 401)
        self._attempts.forget()
        logger.info("Login from %s.", address)
        then = fields.get("then", "") if keys.password else "/password"
        return self._welcomed(request, keys.mark, key, then)

    def _welcomed(self, request: Request, mark: str, key: str, then: str) -> Response:
        text = f"{_seconds() + LASTS}.{secrets.token_hex(8)}.{key}"
        base = request.scope.get("root_path", "")
        answer = RedirectResponse(f"{base}{_own_path(then) or '/'}", 303)
        answer.set_cookie(
            COOKIE,
            f"{text}.{self.signed(f'{mark} {text}')}",
            max_age=LASTS,
            path=base or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _log_out(self, request: Request) -> Response:
        base = request.scope.get("root_path", "")
        answer = RedirectResponse(f"{base}/login", 303)
        answer.delete_cookie(COOKIE, path=base or "/", httponly=True, samesite="strict")
        return answer

    def _show_password(self, request: Request) -> Response:
        return self._password_page(request)

    def _password_page(self, request: Request, trouble: str = "", status: int = 200) -> Response:
        csrf = self.visitor(request).csrf
        content = password_page(request.scope.get("root_path", ""), trouble, csrf)
        return HTMLResponse(content, status)

    async def _set_password(self, request: Request) -> Response:
        """Replace the token or earlier password by a new password."""
        keys = self._stored_keys()
        fields = dict(parse_qsl((await request.body()).decode(errors="replace")))
        present = fields.get("password", "")
        if keys is None or await run_in_threadpool(keys.key_of, present) is None:
            self._attempts.failed(_address(request.scope))
            return self._password_page(request, "That is not the current password.", 401)
        try:
            fresh, key = await run_in_threadpool(keys.with_password, fields.get("new", ""))
        except ConfigurationError as error:
            return self._password_page(request, f"{error.message} {error.why}", 422)
        await run_in_threadpool(self._set_in, fresh.salt, fresh.password)
        logger.warning("The password of the page was changed, from %s.", _address(request.scope))
        stored = self.keys()
        return self._welcomed(request, stored.mark if stored else "", key, "/")

    def _write_password(self, salt: str, password: str) -> None:
        keys = Keys(secrets.token_hex(16), salt=salt, password=password)
        write_keys(self._file, keys, "the page")


class _Guard:
    """Refuses too many requests, requests without permission, and forms of other pages."""

    def __init__(self, app: ASGIApp, access: PageAccess) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            refused = await self._refusal(request)
        except AcoupiError as error:  # the checker of keys does not answer
            refused = _told(503, error.message, {"Retry-After": "5"})
        if refused is None and request.method not in SAFE:
            refused, receive = await self._of_form(request, receive)
        if refused is not None:
            await refused(scope, receive, _with_headers(send))
            return
        if request.method not in SAFE:
            owner_key.set(self._access.key(request))
        await self._app(scope, receive, _with_headers(send))

    async def _refusal(self, request: Request) -> Response | None:
        """Return the refusal of a request; None if it is accepted."""
        path = _path(request)
        if path == ALIVE:
            return None
        if not self._access.rate.allows(_address(request.scope)):
            return _told(429, "too many requests.", {"Retry-After": "5"})
        if request.method not in KNOWN:
            return _told(405, "this method is not supported.", {"Allow": ", ".join(KNOWN)})
        is_open = any(path == one or (one[-1] == "/" and path.startswith(one)) for one in OPEN)
        is_open |= path == METRICS and self._access.settings.metrics
        if is_open or await run_in_threadpool(self._may, request):
            return None
        return self._asked_to_log_in(request, path)

    def _may(self, request: Request) -> bool:
        visitor = self._access.visitor_with(request.cookies.get(COOKIE, ""))
        is_known = self._access.settings.public or visitor.name is not None
        return visitor.may_write or (is_known and request.method in SAFE)

    def _asked_to_log_in(self, request: Request, path: str) -> Response:
        base = request.scope.get("root_path", "")
        if request.method not in SAFE and "text/html" in request.headers.get("accept", ""):
            words = "Log in first, or again: the session has ended. Nothing was changed."
            return HTMLResponse(self._access.login_content(request, words), 401)
        if request.method in SAFE and not path.startswith("/api/"):
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{base}/login?then={quote(path + query, safe='')}", 303)
        return _told(401, "log in first.", {"WWW-Authenticate": 'Form realm="acoupi"'})

    async def _of_form(self, request: Request, receive: Receive) -> tuple[Response | None, Receive]:
        """Return the refusal of a form, or None, and its body, which can be read again."""
        if not _is_from_here(request):
            where = request.headers.get("origin", "nowhere")
            logger.warning("A form from %s was refused.", where[:200])
            return _told(403, "this form is not from this page."), receive
        try:
            content = await body_of(request, MOST_BYTES)
        except TimeoutError:
            return _told(408, "this request came too slowly."), receive
        if content is None:
            return _told(413, f"a request may have {MOST_BYTES} bytes."), receive
        if _path(request) != "/login":
            fields = dict(parse_qsl(content.decode(errors="replace")))
            given = request.headers.get("x-csrf-token") or fields.get("csrf", "")
            wanted = self._access.visitor(request).csrf
            if not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
                logger.warning("A form without its token was refused.")
                return _told(403, "this form is too old: open the page again."), receive

        async def again() -> Message:
            nonlocal content
            if content is None:
                return await receive()
            body, content = content, None
            return {"type": "http.request", "body": body, "more_body": False}

        return None, again


def _is_from_here(request: Request) -> bool:
    """Return whether the browser states that a form is from this page."""
    origin = request.headers.get("origin") or request.headers.get("referer", "")
    return urlsplit(origin).netloc == request.headers.get("host", "") != ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending


def _told(status: int, words: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": words}, status, headers)


def _path(request: Request) -> str:
    """Return the path below the prefix of a proxy."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", "")) or "/"


def _own_path(text: str) -> str:
    """Return a path of this page; "" for any other address."""
    is_own = text.startswith("/") and text[1:2] not in ("/", "\\") and text.isprintable()
    return text if is_own else ""


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "nowhere"


def _seconds() -> int:
    return int(clock.utc_now().timestamp())
