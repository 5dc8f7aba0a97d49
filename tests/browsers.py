"""Somebody who looks at the page of a sensor."""

import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from acoupi.config.page_keys import Keys, write_keys
from acoupi.stack.settings import Settings
from acoupi.stack.web import keys_file
from tests.services import DEADLINE

PASSWORD = "the owl sleeps at noon"


def choose_password(settings: Settings) -> None:
    """Let the owner of a home log in."""
    write_keys(keys_file(settings), Keys.with_token()[0].with_password(PASSWORD)[0])


class Browser:
    """Somebody who looks at the page."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(cookies)

    def get(self, path: str) -> str:
        with self._opener.open(self.base + path, timeout=DEADLINE) as answer:
            text: str = answer.read().decode()
            return text

    def begins(self, path: str, length: int) -> bytes:
        """The first bytes of something that may have no end."""
        with self._opener.open(self.base + path, timeout=DEADLINE) as answer:
            content: bytes = answer.read(length)
            return content

    def first(self, path: str, kind: str) -> dict[str, Any]:
        """The first event of a kind in a stream."""
        with self._opener.open(self.base + path, timeout=DEADLINE) as answer:
            lines = iter(answer.readline, b"")
            next(line for line in lines if line == f"event: {kind}\n".encode())
            found: dict[str, Any] = json.loads(next(lines).removeprefix(b"data: "))
            return found

    def now(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/api/v1/now"))
        return found

    def post(self, path: str, **fields: str) -> int:
        form = urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(self.base + path, form, {"Origin": self.base})
        try:
            with self._opener.open(request, timeout=DEADLINE) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get("/deployment"))
        assert found
        return found[1]
