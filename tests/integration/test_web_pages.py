"""The pages in Debian's Chromium: on a phone and on a desk, by keyboard, dark and light."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, ViewportSize, expect

from acoupi import data
from acoupi.stack.settings import Settings
from acoupi.system.page import PageSensor
from acoupi.web.parts import SENSOR
from tests.services import eventually
from tests.web.chromium import DESK, PHONE, chromium, opened
from tests.web.heard_home import BAT, NOCTULE, PASSWORD, RECORDINGS, hear, page_of, set_up, store_of

pytestmark = pytest.mark.integration

AXE = (Path(__file__).parent / "axe-core" / "axe.min.js").read_text()
DETECTION = data.derived_id("detection", RECORDINGS - 3)
"""The last one of the bat; its file was kept."""
PAGES = [
    *SENSOR.menu,
    "login",
    f"detections/{DETECTION}",
    f"recordings/{data.derived_id('recording', RECORDINGS - 1)}",
    f"species/when?species={BAT}",
    "help/heard",
    "nowhere",
    "detections?species=Yeti",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@contextmanager
def served(settings: Settings, folder: Path, web: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Serve the page of a home, with settings of its own; provide its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(page_of(settings, folder, web), log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            eventually(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return set_up(tmp_path_factory.mktemp("page") / "home")


@pytest.fixture(scope="module")
def address(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(settings, tmp_path_factory.mktemp("web")) as address:
        yield address


@pytest.mark.parametrize(
    ("size", "scheme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"]
)
def test_every_page_can_be_used_by_everybody(
    browser: Browser, address: str, size: ViewportSize, scheme: str
) -> None:
    with opened(browser, address, viewport=size, color_scheme=scheme) as page:
        found, wide = {}, {}
        for path in PAGES:
            page.goto(f"/{path}")
            page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
            page.evaluate(AXE)
            violations = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            found[path] = [
                f"{one['id']}: {one['nodes'][0]['html']}"
                for one in violations
                if one["impact"] in {"serious", "critical"}
            ]
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > size["width"]:
                wide[path] = width

        assert {path: told for path, told in found.items() if told} == {}
        assert wide == {}, "wider than the window"


def test_everything_can_be_read_without_scripts(browser: Browser, address: str) -> None:
    with opened(browser, address, java_script_enabled=False, viewport=PHONE) as page:
        page.goto("/detections")
        page.locator("select[name=species]").select_option(BAT)
        page.get_by_role("button", name="Show", exact=True).click()
        rows = page.get_by_role("link", name=BAT)
        expect(rows).to_have_count(RECORDINGS // 3)
        rows.first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(BAT)
        page.get_by_role("link", name="20").click()
        assert "slow=20" in page.url


def test_filters_and_further_rows_come_without_a_new_page(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.goto("/detections?limit=20")
        page.evaluate("window.mark = 1")
        expect(page.locator("#found tbody tr")).to_have_count(21)

        page.get_by_role("link", name="Show more").click()
        expect(page.locator("#found tbody tr:not(#more)")).to_have_count(40)

        page.locator("select[name=species]").select_option(NOCTULE)
        expect(page.get_by_role("link", name=BAT)).to_have_count(0)
        expect(page.get_by_role("link", name=NOCTULE)).to_have_count(RECORDINGS // 3)
        page.wait_for_url(f"**/detections?*species={NOCTULE.replace(' ', '+')}*")
        assert page.evaluate("window.mark") == 1, "it is the same document"
        page.go_back()
        expect(page.get_by_role("link", name=BAT).first).to_be_visible()


def test_what_is_heard_appears_by_itself_in_every_tab(
    browser: Browser, home: Path, tmp_path: Path
) -> None:
    settings = set_up(home)
    with served(settings, tmp_path) as address, opened(browser, address) as page:
        tabs = [page, page.context.new_page(), page.context.new_page()]
        for tab in tabs:
            tab.goto("/")
            expect(tab.locator("#heard-head ~ table tbody tr")).to_have_count(10)
        store = store_of(settings)
        made = hear(settings, store, RECORDINGS)
        store.close()

        for tab in tabs:
            link = tab.locator(f"#heard-head ~ table a[href*='{made.detections[0].id}']")
            expect(link).to_be_visible()


def test_a_filter_that_cannot_be_is_told(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.goto("/detections")
        page.get_by_label("From", exact=True).fill("teatime")
        page.keyboard.press("Enter")

        expect(page.get_by_role("heading", level=1)).to_contain_text('from cannot be "teatime"')


def test_while_the_sensor_does_not_answer_what_is_shown_stays(
    browser: Browser, address: str
) -> None:
    with opened(browser, address) as page:
        page.goto("/")
        page.route(f"{address}/", lambda route: route.fulfill(status=503, body="<p>not now</p>"))
        with page.expect_response(lambda answer: answer.status == 503):
            page.evaluate("document.dispatchEvent(new Event('acoupi:heard'))")
        with page.expect_response(lambda answer: answer.status == 503):
            page.evaluate("document.dispatchEvent(new Event('acoupi:heard'))")

        expect(page.locator("#heard-head ~ table tbody tr")).to_have_count(10)


def test_who_was_logged_out_meanwhile_is_asked_to_log_in(
    browser: Browser, settings: Settings, tmp_path: Path
) -> None:
    with (
        served(settings, tmp_path, {"public": False}) as address,
        opened(browser, address) as page,
    ):
        page.goto("/login?then=/")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.locator("#now")).to_be_visible()

        page.context.clear_cookies()
        page.evaluate("document.dispatchEvent(new Event('acoupi:heard'))")

        expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_clip_has_a_picture_and_can_be_heard_at_every_speed(
    browser: Browser, address: str
) -> None:
    with opened(browser, address) as page:
        page.goto(f"/detections/{DETECTION}")
        eventually(lambda: page.evaluate("document.querySelector('.clip img').naturalWidth > 400"))

        lengths = {}
        for slow in (1, 10):
            page.get_by_role("link", name=f"{slow}×", exact=True).click()  # noqa: RUF001
            eventually(lambda: page.evaluate("document.querySelector('audio').readyState > 0"))
            lengths[slow] = page.evaluate("document.querySelector('audio').duration")
            page.evaluate("document.querySelector('audio').pause()")

        assert lengths[1] == pytest.approx(1.25, abs=0.05)
        assert lengths[10] == pytest.approx(12.5, abs=0.5)


def test_the_keyboard_goes_everywhere(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.goto("/species")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.keyboard.press("Tab")
        expect(page.get_by_label("From", exact=True)).to_be_focused()


def test_the_trend_of_the_microphone_is_drawn(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        levels = [
            {"time": f"2024-06-01T20:0{n}:00Z", "rms_dbfs": -40 - n, "noise_floor_dbfs": -60,
             "peak_dbfs": -20, "faults": []} for n in range(5)
        ]  # fmt: skip
        page.route("**/health", lambda route: _with_trend(route, levels))
        page.goto("/health")

        expect(page.locator("#trend canvas")).to_be_visible()


def _with_trend(route: Any, levels: list[dict[str, Any]]) -> None:
    """Answer for a sensor whose recordings were measured."""
    answer = route.fetch()
    if "/api/" in route.request.url:
        route.fulfill(json={**answer.json(), "levels": levels})
    else:
        plot = '<div id="trend" data-zone="UTC" data-plot="/api/v1/health" hidden></div>'
        route.fulfill(response=answer, body=answer.text().replace("<h2>Messages", plot + "<h2>M"))


def test_clips_are_judged_with_one_key_each(browser: Browser, home: Path, tmp_path: Path) -> None:
    settings = set_up(home)
    with served(settings, tmp_path) as address, opened(browser, address) as page:
        page.goto(f"/login?then=/detections/{DETECTION}%3Fspecies={BAT}")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/{DETECTION}?*")
        for key, number in (("r", 6), ("s", 9), ("o", 9)):
            page.keyboard.press(key)
            if key != "o":
                page.wait_for_url(f"**/{data.derived_id('detection', RECORDINGS - number)}?*")
        expect(page.get_by_label("Which species")).to_be_focused()
        page.keyboard.type("Myotis alcathoe")
        page.keyboard.press("Shift+Tab")
        page.get_by_role("button", name="Another species").click()
        page.wait_for_url(f"**/{data.derived_id('detection', RECORDINGS - 12)}?*")
        page.keyboard.press("q")
        page.wait_for_url("**/detections?*")

    reader = PageSensor(settings).reader
    said = [
        (row.verdict.verdict.value, row.verdict.species)
        for number in (3, 6, 9)
        if (row := reader.detection(data.derived_id("detection", RECORDINGS - number)))
        and row.verdict
    ]
    reader.close()
    assert said == [("right", None), ("other", "Myotis alcathoe")]
