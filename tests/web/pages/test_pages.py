"""The pages, read as a browser without JavaScript does."""

import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from acoupi import clips, data
from acoupi.config.web import Web
from acoupi.heard import Filters, Verdict
from acoupi.stack.settings import Settings
from acoupi.system import setup_program
from acoupi.system.reading import reader_of
from acoupi.web.access import PageAccess
from acoupi.web.app import make_app
from acoupi.web.door_sensor import DoorSensor
from acoupi.web.help_pages import topics
from acoupi.web.parts import SENSOR
from tests.web.heard_home import (
    BAT,
    BIRD,
    NOCTULE,
    POND,
    RECORDINGS,
    Visitor,
    hear,
    page_of,
    set_up,
    store_of,
)

DETECTION = data.derived_id("detection", 0)
RECORDING = data.derived_id("recording", 0)
PAGES = [
    *(f"/{path}" for path in SENSOR.menu),
    f"/detections/{DETECTION}",
    f"/recordings/{RECORDING}",
    f"/species/when?species={BAT}",
    "/help/heard",
    "/nowhere",
]
MOST_BYTES = 100_000
"""Of the first page, with all that it loads, compressed."""


def rows(html: str) -> list[str]:
    """The ids of the detections on a page, in order."""
    return re.findall(r'href="/detections/([0-9a-f-]{36})', html)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_needs_what_its_policy_forbids(visitor: Visitor, path: str) -> None:
    html = visitor.get(path).text

    assert html.startswith("<!doctype html>")
    assert not re.search(r"\s(style|on[a-z]+)=", html), "styles and scripts stand in files"
    assert re.findall(r"<script[^>]*>", html) == re.findall(r"<script src=[^>]*>", html)
    assert "<style" not in html
    loaded = re.findall(r'(?:<script src|<img src|<link [^>]*href)="([^"]*)"', html)
    assert loaded
    assert all(url.startswith("/") and not url.startswith("//") for url in loaded)


def test_the_first_page_is_small_and_loads_nothing_from_elsewhere(visitor: Visitor) -> None:
    html = visitor.get("/").text
    urls = re.findall(r'(?:<script src|<link [^>]*href)="([^"]*)"', html)

    parts = [html.encode(), *(visitor.get(url).content for url in urls)]

    assert all(visitor.get(url).status_code == 200 for url in urls)
    assert sum(len(gzip.compress(part)) for part in parts) <= MOST_BYTES


def test_what_the_page_says_of_itself(visitor: Visitor) -> None:
    answer = visitor.get("/")

    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert 'aria-current="page">Now<' in answer.text
    assert "Europe/Berlin" in answer.text


def test_now_tells_what_was_just_heard_and_what_became_of_it(visitor: Visitor) -> None:
    html = visitor.get("/").text

    assert rows(html)[0] == str(data.derived_id("detection", RECORDINGS - 2))
    assert NOCTULE in html
    assert "1 found; file deleted, by the saving filters" in html


FILTERED: Mapping[str, tuple[str, set[int]]] = {
    "everything": ("", {0, 1}),
    "a species": (f"species={BAT}", {0}),
    "two species": (f"species={BAT}&species={NOCTULE}", {0, 1}),
    "kept files": ("state=captured", {0}),
    "not reviewed": ("verdict=none", {0, 1}),
    "another verdict": ("verdict=right", set()),
    "a tag": (f"tag=species={NOCTULE}", {1}),
    "what is empty is not given": ("species=&min_score=&from=", {0, 1}),
}


@pytest.mark.parametrize("case", FILTERED)
def test_detections_are_filtered_as_on_the_command_line(visitor: Visitor, case: str) -> None:
    query, rests = FILTERED[case]
    wanted = [
        str(data.derived_id("detection", one)) for one in range(RECORDINGS) if one % 3 in rests
    ]

    found = visitor.get(f"/detections?{query}&limit=500").text

    assert rows(found) == wanted[::-1]


def test_a_score_and_a_site_choose_too(visitor: Visitor) -> None:
    high = visitor.get("/detections?min_score=0.8").text
    assert {float(one) >= 0.8 for one in re.findall(r'class="number">([0-9.]+)', high)} == {True}

    site = visitor.get("/detections", params={"deployment": POND.name}).text
    assert len(rows(site)) == RECORDINGS / 3
    assert "Pond &lt;b&gt;" in site
    assert "<b>" not in site


def test_pages_hold_every_detection_once_and_keep_the_filters(visitor: Visitor) -> None:
    address, seen, pages = f"/detections?species={BAT}&limit=5", list[str](), 0
    while address:
        html = visitor.get(address).text
        seen += rows(html)
        more = re.search(r'id="more".*?href="([^"]+)"', html, re.DOTALL)
        address = more[1].replace("&amp;", "&") if more else ""
        pages += 1

    numbers = [one for one in range(RECORDINGS) if one % 3 == 0][::-1]
    assert seen == [str(data.derived_id("detection", one)) for one in numbers]
    assert pages == -(-len(numbers) // 5)


def test_a_detection_tells_everything_and_leads_on(visitor: Visitor) -> None:
    last = data.derived_id("detection", RECORDINGS - 3)
    html = visitor.get(f"/detections/{last}?species={BAT}").text

    older = data.derived_id("detection", RECORDINGS - 6)
    for told in (BAT, "0.250 to 0.750 s, 30-50 kHz", "bats 1.2", "5f" * 32, "to 4 ms"):
        assert told in html
    assert f'data-key="s" href="/detections/{older}?species=Myotis+nattereri"' in html
    audio = f"/api/v1/recordings/{data.derived_id('recording', RECORDINGS - 3)}/audio.wav"
    assert f"{audio}?start=0.000&amp;end=1.250&amp;slow=10" in html, "ultrasound is slowed down"
    assert html.count("data-slow") == 4


def test_a_detection_without_a_file_says_why(visitor: Visitor) -> None:
    html = visitor.get(f"/detections/{data.derived_id('detection', 1)}").text

    assert "by the saving filters" in html
    assert "<audio" not in html


def test_where_only_a_clip_was_kept_it_is_shown(home: Path, tmp_path: Path) -> None:
    settings = set_up(home)
    id_ = data.derived_id("recording", 0)
    kept = clips.Clip(
        id=uuid4(), path=Path("/data/clip.wav"), stream_id=uuid4(), first_frame=0, frames=256_000,
        samplerate=256_000, parts={id_: 0.0},
    )  # fmt: skip
    store = store_of(settings)
    store.put_clip(kept)
    (whole,) = (row for row, _ in store.get_recordings([id_]))
    store.end_recording(whole, data.RecordingState.DELETED)
    store.close()
    with Visitor(page_of(settings, tmp_path)) as visitor:
        detection = visitor.get(f"/detections/{DETECTION}").text
        recording = visitor.get(f"/recordings/{id_}").text
        listed = visitor.get("/detections?state=clipped").text

    audio = f"/api/v1/recordings/{id_}/audio.wav?start=0.000&amp;end="
    assert f"{audio}1.000&amp;clip={kept.id}&amp;slow=10" in detection
    assert "Download the whole clip" in detection
    assert "from 0.250 s in" in detection
    assert f"{audio}1.000&amp;clip={kept.id}&amp;slow=10" in recording
    assert rows(listed) == [str(DETECTION)]


def test_who_may_not_write_sees_no_buttons(visitor: Visitor) -> None:
    assert 'name="verdict" value="right"' not in visitor.get(f"/detections/{DETECTION}").text
    assert "Show what would change" not in visitor.get("/settings").text

    visitor.log_in()

    assert 'name="verdict" value="right"' in visitor.get(f"/detections/{DETECTION}").text
    assert "Show what would change" in visitor.get("/settings").text


def test_species_tell_when_they_were_heard_and_their_best_clip(visitor: Visitor) -> None:
    html = visitor.get("/species").text
    each = RECORDINGS // 3
    assert re.findall(r'class="number">(\d+)<', html) == [str(each), str(each)]
    assert BIRD not in html.partition("<tbody>")[2]

    html = visitor.get(f"/species/when?species={BAT}").text
    assert f"/detections/{data.derived_id('detection', RECORDINGS - 3)}" in html, "highest score"
    assert html.count("<rect") == 24 + 2, "hours, and the two nights"


def test_effort_shows_hours_and_the_gaps_with_their_reasons(visitor: Visitor) -> None:
    html = visitor.get("/effort?deployment=Old oak").text

    assert "Planned" in html
    assert "of the plan" in html
    assert "not running" in html
    assert re.search(r'class="hour l-[1-8]"', html)
    assert html.count('scope="row"') == 2, "the two local days of it"


def test_health_settings_deployment_and_export_show_what_there_is(visitor: Visitor) -> None:
    assert "stopped" in visitor.get("/health").text
    settings = visitor.get("/settings").text
    assert 'name="recording.duration" type="number"' in settings
    assert 'name="sensor.alarms.enabled"' in settings
    assert "Old oak" in visitor.get("/deployment").text
    assert "camtrap-dp" in visitor.get("/export").text


def test_help_is_the_documentation_and_its_links_lead_on(visitor: Visitor) -> None:
    index = visitor.get("/help").text
    names = {one for one in links_of(index) if one}
    pages = {name: visitor.get(f"/help/{name}") for name in topics()}

    assert names | {"index"} == set(topics())
    assert {answer.status_code for answer in pages.values()} == {200}
    for name, answer in pages.items():
        assert links_of(answer.text) <= set(topics()) | {""}, name
        assert not re.search(r'(src|<link[^>]*href)="(https?:)?//', answer.text), name


def links_of(html: str) -> set[str]:
    """The pages of the help that a page leads to."""
    main = re.findall(r"<main.*", html, re.DOTALL)[0]
    return set(re.findall(r'<a href="/help/?([^"#]*)', main))


def test_pictures_of_the_help_are_there(visitor: Visitor) -> None:
    pictures = re.findall(r'<img src="([^"]+)"', visitor.get("/help/page").text)

    assert pictures == ["/help/page-desk.jpg", "/help/page-phone.jpg"]
    for picture in pictures:
        answer = visitor.get(picture)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content.startswith(b"\xff\xd8")


WRONG: Mapping[str, tuple[int, str]] = {
    "/detections/none": (404, "not an id"),
    f"/detections/{RECORDING}": (404, "no detection"),
    f"/recordings/{DETECTION}": (404, "no recording"),
    "/detections?after=x": (404, "not an id"),
    "/detections?species=Myotis natterer": (422, f"species &#34;{BAT}&#34;"),
    "/detections?min_score=2": (422, "a number from 0 to 1"),
    "/detections?limit=100000": (422, "a number from 1 to 500"),
    "/detections?from=teatime": (422, "from"),
    "/detections?verdict=maybe": (422, "one of right"),
    "/effort?deployment=Moon": (422, "no deployment"),
    "/species/when": (422, "species=NAME"),
    "/help/..%2F..%2Ferrors": (404, ""),
    "/help/nowhere": (404, "no page"),
    "/static/..%2Fapp.py": (404, ""),
    "/static/%2Fetc%2Fpasswd": (404, ""),
}


@pytest.mark.parametrize("path", WRONG)
def test_what_cannot_be_asked_is_told_with_the_right_status(visitor: Visitor, path: str) -> None:
    status, words = WRONG[path]

    answer = visitor.get(path)

    assert answer.status_code == status
    assert words in answer.text
    assert "To the first page" in answer.text


def test_a_sensor_that_does_not_answer_is_told_and_the_help_stays(tmp_path: Path) -> None:
    web = Web(public=True)
    access = PageAccess(web, tmp_path / "keys.json")
    app = make_app(DoorSensor(tmp_path / "door"), web, access=access)
    with Visitor(app) as visitor:
        page, twin, help_ = (visitor.get(one) for one in ("/", "/api/v1/now", "/help"))

    assert page.status_code == twin.status_code == 503
    assert page.headers["Refresh"] == twin.headers["Retry-After"] == "5"
    assert "acoupi workers status" in page.text
    assert "reloads every few seconds" in page.text
    assert twin.json()["try"] == "acoupi workers status"
    assert help_.status_code == 200
    assert "does not answer" in help_.text


def test_a_home_that_has_recorded_nothing_has_pages_too(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,pace=fast")
    setup_program(Settings(home=home), "connected", [])
    with Visitor(page_of(Settings(home=home), tmp_path)) as visitor:
        answers = {path: visitor.get(f"/{path}").status_code for path in SENSOR.menu}

    assert answers == dict.fromkeys(SENSOR.menu, 200)


@pytest.mark.parametrize("is_stripped", [True, False])
def test_behind_a_proxy_everything_is_below_its_path(
    heard: Settings, tmp_path: Path, is_stripped: bool
) -> None:
    with Visitor(page_of(heard, tmp_path, {"path_prefix": "/oak"})) as visitor:
        before = "" if is_stripped else "/oak"
        html = visitor.get(f"{before}/detections").text
        twin = visitor.get(f"{before}/api/v1/detections")
        missing = visitor.get(f"{before}/api/v1/nothing")

    local = re.findall(r'(?:href|src|action|hx-get)="(/[^"]*)"', html)
    assert all(urlsplit(one).path.startswith("/oak/") for one in local), local
    assert 'aria-current="page">Detections<' in html
    assert len(twin.json()["detections"]) > 1
    assert missing.status_code == 404
    assert "error" in missing.json()


# Settings


@pytest.fixture
def owner(visitor: Visitor) -> Visitor:
    visitor.log_in()
    return visitor


def plan(owner: Visitor, **fields: str) -> str:
    return owner.post("/settings/plan", data={"csrf": owner.csrf(), **fields}).text


def test_a_change_is_shown_before_it_is_made(owner: Visitor, heard: Settings) -> None:
    before = heard.program_config_file.read_bytes()

    html = plan(owner, **{"recording.duration": "3", "recording.interval": "10.0"})

    assert re.search(r"recording.duration</th><td><del>1.0</del></td><td><ins>3(\.0)?</ins>", html)
    assert html.count("<del>") == 1, "what stays is not among it"
    assert json.loads(
        html.partition('name="changes" value="')[2].partition('"')[0].replace("&#34;", '"')
    ) == {"recording.duration": "3"}
    assert heard.program_config_file.read_bytes() == before


def test_a_form_that_comes_back_as_it_was_changes_nothing(owner: Visitor) -> None:
    html = owner.get("/settings").text
    fields = dict(re.findall(r'name="([a-z_.0-9]+)"[^>]*? value="([^"]*)"', html))
    assert len(fields) > 20

    assert "Nothing would change" in plan(owner, **fields)


def test_what_a_setting_cannot_be_is_told_and_cannot_be_applied(owner: Visitor) -> None:
    answer = owner.post("/settings/plan", data={"csrf": owner.csrf(), "recording.duration": "-1"})

    assert answer.status_code == 422
    assert "This is not possible" in answer.text
    assert "Apply" not in answer.text


def test_nobody_plans_who_has_not_logged_in(visitor: Visitor) -> None:
    answer = visitor.post("/settings/plan", data={"recording.duration": "3"})

    assert answer.status_code in {401, 403}
    assert "<ins>" not in answer.text


# Verdicts


def test_a_verdict_is_stored_and_the_next_clip_is_shown(home: Path, tmp_path: Path) -> None:
    settings = set_up(home)
    with Visitor(page_of(settings, tmp_path)) as visitor:
        visitor.log_in()
        first = f"/detections/{data.derived_id('detection', 3)}"
        html = visitor.get(f"{first}?species={BAT}").text
        then = html.partition('name="then" value="')[2].partition('"')[0]
        answer = visitor.post(
            f"{first}/verdict",
            data={"csrf": visitor.csrf(), "verdict": "wrong", "then": then},
            follow_redirects=False,
        )
        wrong = visitor.get("/detections?verdict=wrong").text

    assert answer.status_code == 303
    assert answer.headers["location"] == f"/detections/{DETECTION}?species=Myotis+nattereri"
    assert rows(wrong) == [str(data.derived_id("detection", 3))]
    assert "✗" in wrong


@pytest.mark.parametrize(
    ("thing", "verdict", "species"),
    [("detections", "other", "Bubo bubo"), ("detections", "wrong", None),
     ("recordings", "wrong", "Bubo bubo"), ("recordings", "right", None)],
)  # fmt: skip
def test_a_species_is_named_where_the_command_line_asks_for_it(
    home: Path, tmp_path: Path, thing: str, verdict: str, species: str | None
) -> None:
    settings = set_up(home)
    number = 0 if thing == "detections" else 2
    with Visitor(page_of(settings, tmp_path)) as visitor:
        visitor.log_in()
        fields = {"csrf": visitor.csrf(), "verdict": verdict, "species": "Bubo bubo"}
        id_ = data.derived_id(thing.removesuffix("s"), number)
        answer = visitor.post(f"/{thing}/{id_}/verdict", data=fields)
    assert answer.status_code == 200

    with reader_of(settings) as reader:
        (said,) = reader.verdicts(Filters())
    assert (said.verdict, said.species, said.reviewer) == (Verdict(verdict), species, "owner")


def test_a_detection_is_on_the_page_once_it_is_stored(home: Path, tmp_path: Path) -> None:
    settings = set_up(home)
    with Visitor(page_of(settings, tmp_path)) as visitor:
        before = rows(visitor.get("/").text)
        store = store_of(settings)
        made = hear(settings, store, RECORDINGS)
        store.close()
        after = rows(visitor.get("/").text)

    assert str(made.detections[0].id) not in before
    assert after[0] == str(made.detections[0].id)
