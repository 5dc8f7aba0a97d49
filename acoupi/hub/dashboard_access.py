"""Access to the pages of a hub: people with a token, by their role."""

from pathlib import Path

from starlette.requests import Request
from starlette.routing import Route

from acoupi import clock
from acoupi.config.web import Web
from acoupi.errors import HubError
from acoupi.hub.database import HubDatabase
from acoupi.hub.tokens import Caller, caller_with, digest_of
from acoupi.web.access import Opener, PageAccess
from acoupi.web.limits import Attempts
from acoupi.web.parts import Visitor

__all__ = ["PeopleAccess"]

MAY_SEE = ("reviewer",)
FOR_S = 5.0
"""Seconds for which a person's role is cached."""
MOST_KNOWN = 1000
_NOBODY = Visitor(None, "", may_write=False, may_listen=False)


class PeopleAccess(PageAccess):
    """Lets reviewers and operators in by the tokens that ``acoupi hub add-person`` makes.

    The pages show exact places and play sound, which readers may not have. A session ends when
    its token does. Tokens cannot be guessed, so a wrong one causes no delay.

    Parameters
    ----------
    settings
        Settings of the pages.
    database
        The hub's database.
    signing
        Signs sessions; None: they end with this process.
    """

    way_in = "ask an operator of the hub for: acoupi hub add-person NAME --role reviewer"
    key_name = "Your token"
    wrong = (
        "That is not the token of a reviewer or an operator. Readers see what was heard by: "
        "acoupi detections list --hub URL"
    )

    def __init__(self, settings: Web, database: HubDatabase, *, signing: str | None = None) -> None:
        super().__init__(settings, Path(), signing=signing, attempts=Attempts(free=2**31))
        self._people = _People(database)

    @property
    def routes(self) -> list[Route]:
        """The pages for logging in and out, and for checking that the server is up."""
        return [one for one in super().routes if one.path != "/password"]

    def keys(self) -> Opener:
        """Return what checks tokens."""
        return self._people

    def key(self, request: Request) -> None:
        """Do nothing: these pages change no sensor."""

    def visitor(self, request: Request) -> Visitor:
        """Return the person who asks; nobody while the database does not answer."""
        try:
            return super().visitor(request)
        except HubError:
            return _NOBODY

    def visitor_with(self, cookie: str) -> Visitor:
        """Return the person whom a cookie belongs to."""
        text = self.session(cookie)
        person = None if text is None else self._people.person(text.split(".")[2])
        if text is None or person is None:
            return _NOBODY
        csrf = self.signed(f"csrf {text}")
        return Visitor(person.name, csrf, may_write=True, may_listen=False)


class _People:
    """Identifies the people of a hub by the digests of their tokens."""

    mark = "people"
    password = "none is chosen"  # noqa: S105 - a token is no password

    def __init__(self, database: HubDatabase) -> None:
        self._database = database
        self._known: dict[str, tuple[float, Caller | None]] = {}

    def key_of(self, text: str) -> str | None:
        digest = digest_of(text).hex()
        return digest if self.opens(digest) else None

    def opens(self, key: str | None) -> bool:
        return key is not None and self.person(key) is not None

    def person(self, key: str) -> Caller | None:
        """Return whose token has a digest; None if it is nobody's."""
        now = clock.monotonic()
        at, found = self._known.get(key, (now - FOR_S, None))
        if now - at >= FOR_S:
            caller = caller_with(self._database, bytes.fromhex(key))
            found = caller if caller is not None and caller.is_one_of(MAY_SEE) else None
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = now, found
        return found
