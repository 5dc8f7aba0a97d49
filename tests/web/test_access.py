"""Who may see and do what on the page; every refusal says so, with the right status."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from acoupi.config.page_keys import Keys, read_keys, write_keys
from acoupi.config.web import Web
from acoupi.web.access import COOKIE, LASTS, PageAccess
from acoupi.web.limits import Attempts, Rate
from tests.clocks import RunningClock

HERE = "http://testserver"
PASSWORD = "the owl sleeps at noon"
FROM_HERE = {"Origin": HERE}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Page:
    """A page with two routes of its own behind the access."""

    def __init__(self, folder: Path, clock: Clock, *, prefix: str = "", **settings: object) -> None:
        self.file = folder / "keys.json"
        self.changes: list[str] = []
        self.access = PageAccess(
            Web(enabled=True, path_prefix=prefix, **settings),  # type: ignore[arg-type]
            self.file,
            rate=Rate(burst=40, per_second=1, now=clock),
            attempts=Attempts(free=3, first_wait=30, now=clock),
        )
        routes = [
            Route("/", lambda _: PlainTextResponse("the page")),
            Route("/api/v1/now", lambda _: PlainTextResponse("{}")),
            Route("/settings", self._change, methods=["POST"]),
            *self.access.routes,
        ]
        self.app = Starlette(routes=routes, middleware=list(self.access.middleware))
        self.client = TestClient(self.app, base_url=HERE, follow_redirects=False)

    async def _change(self, request: Request) -> Response:
        self.changes.append((await request.body()).decode())
        return PlainTextResponse("changed")

    def with_password(self) -> "Page":
        write_keys(self.file, Keys.with_token()[0].with_password(PASSWORD)[0])
        return self

    def log_in(self, password: str = PASSWORD) -> int:
        form = {"password": password}
        return self.client.post("/login", data=form, headers=FROM_HERE).status_code

    @property
    def csrf(self) -> str:
        return self.access.visitor_with(self.client.cookies.get(COOKIE, "")).csrf


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Callable[..., Page]:
    return lambda **settings: Page(tmp_path, clock, **settings)


@pytest.fixture
def page(make: Callable[..., Page]) -> Page:
    return make().with_password()


def test_who_is_not_logged_in_is_asked_to_and_comes_back_to_where_they_were(page: Page) -> None:
    asked = page.client.get("/?a=1")

    assert (asked.status_code, asked.headers["location"]) == (303, "/login?then=%2F%3Fa%3D1")
    login = page.client.get(asked.headers["location"]).text
    assert 'value="/?a=1"' in login
    assert "Password, or the token that the sensor printed" in login
    form = {"password": PASSWORD, "then": "/?a=1"}
    answer = page.client.post("/login", data=form, headers=FROM_HERE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?a=1")
    assert page.client.get("/").text == "the page"


def test_a_session_is_a_cookie_that_scripts_and_other_pages_do_not_have(page: Page) -> None:
    answer = page.client.post("/login", data={"password": PASSWORD}, headers=FROM_HERE)

    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert "Secure" not in cookie, "over http a browser would not send it back"


@pytest.mark.parametrize("then", ["https://elsewhere.org/", "//elsewhere.org/", "/\\elsewhere", ""])
def test_logging_in_leads_nowhere_else(page: Page, then: str) -> None:
    form = {"password": PASSWORD, "then": then}

    assert page.client.post("/login", data=form, headers=FROM_HERE).headers["location"] == "/"


def test_without_a_session_scripts_are_told_and_nothing_changes(page: Page) -> None:
    assert page.client.get("/api/v1/now").status_code == 401
    assert page.client.post("/settings", headers=FROM_HERE).status_code == 401
    browser = page.client.post("/settings", headers={**FROM_HERE, "Accept": "text/html"})
    assert (browser.status_code, "Nothing was changed" in browser.text) == (401, True)
    assert page.changes == []


def test_a_session_ends_by_its_time_by_another_password_and_by_a_new_token(
    page: Page, running_clock: RunningClock
) -> None:
    page.log_in()
    old = page.client.cookies[COOKIE]
    running_clock.step(LASTS + 1)
    assert page.client.get("/api/v1/now").status_code == 401

    running_clock.step(-LASTS - 1)
    assert page.client.get("/api/v1/now").status_code == 200
    keys = read_keys(page.file)
    assert keys is not None
    write_keys(page.file, Keys.with_token(keys)[0])
    assert page.client.cookies[COOKIE] == old
    assert page.client.get("/api/v1/now").status_code == 401
    assert page.log_in() == 303, "the password stays"


@pytest.mark.parametrize(
    "cookie", [b"", b"x", b"0.0.0", b"9999999999.ab.00", b"\xb2\xb3.a.b", b"."]
)
def test_a_cookie_that_is_made_up_is_none(page: Page, cookie: bytes) -> None:
    headers = {b"Cookie": b"acoupi=" + cookie}

    assert page.client.get("/api/v1/now", headers=headers).status_code == 401


def test_a_form_is_taken_with_its_token_only_and_from_here_only(page: Page) -> None:
    page.log_in()
    send = page.client.post
    refused = [
        send("/settings", data={"csrf": page.csrf}, headers={"Origin": "https://elsewhere.org"}),
        send("/settings", data={"csrf": page.csrf}, headers={"Origin": "null"}),
        send("/settings", data={"csrf": page.csrf}),  # a browser says where a form is from
        send("/settings", data={"csrf": "wrong"}, headers=FROM_HERE),
        send("/settings", headers=FROM_HERE),
    ]

    assert [one.status_code for one in refused] == [403] * len(refused)
    assert page.changes == []
    fields = {"csrf": page.csrf, "a": "1"}
    assert send("/settings", data=fields, headers=FROM_HERE).text == "changed"
    script = {**FROM_HERE, "X-CSRF-Token": page.csrf}
    assert send("/settings", content="a=2", headers=script).text == "changed"
    assert page.changes == [f"csrf={page.csrf}&a=1", "a=2"], "the form is still there to be read"


def test_a_form_without_end_is_refused(page: Page) -> None:
    page.log_in()

    answer = page.client.post("/settings", content=b"a" * 1_100_000, headers=FROM_HERE)

    assert answer.status_code == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"])
def test_other_methods_are_not_known(page: Page, method: str) -> None:
    page.log_in()

    assert page.client.request(method, "/settings", headers=FROM_HERE).status_code == 405


def test_logging_out_ends_the_session_of_the_browser(page: Page) -> None:
    page.log_in()

    page.client.post("/logout", data={"csrf": page.csrf}, headers=FROM_HERE)

    assert page.client.get("/api/v1/now").status_code == 401


def test_a_public_page_is_read_by_everybody_and_changed_by_nobody_else(
    make: Callable[..., Page],
) -> None:
    page = make(public=True).with_password()

    assert page.client.get("/").text == "the page"
    assert page.client.post("/settings", headers=FROM_HERE).status_code == 401
    assert page.log_in() == 303
    fields = {"csrf": page.csrf}
    assert page.client.post("/settings", data=fields, headers=FROM_HERE).text == "changed"


@pytest.mark.parametrize(
    ("live_audio", "public", "expected"),
    [
        ("nobody", True, (False, False)),
        ("members", True, (False, True)),
        ("everybody", True, (True, True)),
        ("everybody", False, (False, True)),
    ],
)
def test_live_sound_has_a_permission_of_its_own(
    make: Callable[..., Page], live_audio: str, public: bool, expected: tuple[bool, bool]
) -> None:
    page = make(public=public, live_audio=live_audio).with_password()
    before = page.access.visitor_with("").may_listen
    page.log_in()

    assert (before, page.access.visitor_with(page.client.cookies[COOKIE]).may_listen) == expected


def test_wrong_passwords_make_everybody_wait_longer_until_the_command_line_says_otherwise(
    page: Page, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert [page.log_in("wrong") for _ in range(4)] == [401, 401, 401, 429]
    assert page.log_in() == 429, "the right one, too"
    assert "wrong password" in caplog.text
    clock.time += 31
    assert page.log_in("wrong") == 401
    clock.time += 31
    assert page.log_in() == 429, "twice as long"

    keys = read_keys(page.file)
    assert keys is not None
    fresh, token = Keys.with_token(keys)
    write_keys(page.file, fresh)

    assert page.log_in(token) == 303


def test_the_token_asks_for_a_password_which_takes_its_place(page: Page, tmp_path: Path) -> None:
    keys, token = Keys.with_token()
    write_keys(page.file, keys)
    answer = page.client.post("/login", data={"password": token}, headers=FROM_HERE)
    assert answer.headers["location"] == "/password"
    assert page.csrf in page.client.get("/password").text

    def choose(present: str, new: str) -> int:
        form = {"csrf": page.csrf, "password": present, "new": new}
        return page.client.post("/password", data=form, headers=FROM_HERE).status_code

    assert choose("wrong", PASSWORD) == 401
    assert choose(token, "short") == 422
    assert choose(token, PASSWORD) == 303
    assert page.client.get("/").text == "the page", "who changed it stays logged in"
    page.client.cookies.clear()
    assert page.log_in(token) == 401
    assert page.log_in(PASSWORD) == 303
    assert PASSWORD not in page.file.read_text()
    assert token not in page.file.read_text()


def test_before_there_is_a_token_nobody_logs_in_and_the_page_says_how(
    make: Callable[..., Page],
) -> None:
    page = make()

    answer = page.client.post("/login", data={"password": ""}, headers=FROM_HERE)

    assert answer.status_code == 403
    assert "acoupi web token" in answer.text


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"mark": "x"}', '{"a": 1}'])
def test_a_damaged_file_of_keys_opens_nothing(page: Page, content: str) -> None:
    page.log_in()
    page.file.write_text(content)

    assert page.client.get("/api/v1/now").status_code == 401
    assert page.log_in() == 403


def test_who_asks_without_end_is_told_to_wait_and_the_log_stays_short(
    page: Page, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    page.log_in()
    with caplog.at_level(logging.WARNING):
        codes = [page.client.get("/api/v1/now").status_code for _ in range(300)]

    assert codes.count(200) == 39
    assert codes.count(429) == 261
    assert len(caplog.records) == 1
    clock.time += 2
    assert page.client.get("/api/v1/now").status_code == 200


def test_one_that_asks_without_end_is_in_nobody_elses_way(clock: Clock) -> None:
    rate = Rate(burst=2, per_second=1, now=clock)

    assert [rate.allows("a") for _ in range(3)] == [True, True, False]
    assert rate.allows("b")
    for number in range(5000):
        rate.allows(f"one of many {number}")
    assert len(rate._left) <= 1000


def test_every_answer_forbids_what_is_not_of_this_page(page: Page) -> None:
    for path in ("/", "/login", "/api/v1/now", "/nothing"):
        headers = page.client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';"), path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("metrics", "status"), [(True, 200), (False, 303)])
def test_prometheus_reads_metrics_without_a_session_where_they_are_on(
    make: Callable[..., Page], metrics: bool, status: int
) -> None:
    page = make(metrics=metrics).with_password()
    page.app.routes.append(Route("/metrics", lambda _: PlainTextResponse("acoupi_up 1")))
    assert page.client.get("/metrics").status_code == status
    assert page.client.get("/metrics/more").status_code == 303


def test_a_service_asks_itself_without_a_session(page: Page) -> None:
    assert page.client.get("/alive").status_code == 204
