"""The live picture and the sound in the engines of all browsers that people have."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from acoupi.audio.live_ring import COLUMNS, SOUND
from acoupi.components.stores import SqliteStore
from tests.services import eventually
from tests.stores import detection, output, recording
from tests.web.browsers import BROWSERS, Window, opened
from tests.web.heard_home import page_of, set_up
from tests.web.watched import Recorder, serving

pytestmark = pytest.mark.integration

LISTEN = "#live button:nth-of-type(2)"
COLOURS = """
const canvas = document.querySelector("#live canvas");
const { data } = canvas.getContext("2d").getImageData(canvas.width - 20, 0, 20, canvas.height);
const found = new Set();
for (let at = 0; at < data.length; at += 4) found.add(data.slice(at, at + 3).join());
return found.size;
"""
COUNT_SOUND = """
const start = AudioBufferSourceNode.prototype.start;
window.played = 0;
AudioBufferSourceNode.prototype.start = function (...when) {
  for (const sample of this.buffer.getChannelData(0)) if (sample) window.played += 1;
  return start.apply(this, when);
};
"""
HIDE = """
Object.defineProperty(document, "hidden", { configurable: true, value: true });
document.dispatchEvent(new Event("visibilitychange"));
"""
TEXT = "return document.body.innerText"
SHOW = HIDE.replace("value: true", "value: false")


class Counted:
    """An application, and which of its streams are open."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.open: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        is_live = path.startswith("/api/v1/live")
        if is_live:
            self.open.append(path)
        try:
            await self._app(scope, receive, send)
        finally:
            if is_live:
                self.open.remove(path)


@pytest.fixture(params=sorted(BROWSERS))
def window(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Window]:
    folder = tmp_path / "browser"
    folder.mkdir(mode=0o700)
    with opened(request.param, folder) as window:
        yield window


def test_who_looks_sees_and_hears_what_happens(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,pace=fast")
    settings = set_up(tmp_path / "home")
    store = SqliteStore(settings.home / "data" / "metadata.db")
    recorders = [Recorder(settings.home, name) for name in (COLUMNS, SOUND)]
    (tmp_path / "web").mkdir()
    app = Counted(page_of(settings, tmp_path / "web", {"live_audio": "everybody"}))
    with serving(app) as port:
        window.go(f"http://127.0.0.1:{port}/")
        eventually(lambda: window.run(COLOURS) > 50)
        assert "-40 dBFS, peak -20" in window.run(TEXT)

        one = recording(seconds=10**7, deployment=store.get_current_deployment())
        store.store_recording(one)
        store.store_model_output(output(one, detection(0.9, ("species", "Yeti", 0.9))))
        eventually(lambda: "Yeti" in window.run(TEXT))

        window.run(COUNT_SOUND)
        window.press(LISTEN)
        eventually(lambda: window.run("return window.played") > 10_000)

        assert sorted(app.open) == ["/api/v1/live", "/api/v1/live/audio"]
        window.run(HIDE)
        eventually(lambda: not app.open)
        window.run(SHOW)
        eventually(lambda: app.open == ["/api/v1/live"])
        window.go("about:blank")
        eventually(lambda: not app.open)
    for recorder in recorders:
        recorder.close()
