"""What a recorder shows on the page, and who lets it."""

import threading
from pathlib import Path
from typing import Any

import pytest

from acoupi.audio.live import LiveThread
from acoupi.config.web import Web
from acoupi.services.showing import showing
from acoupi.stack.doors import WEB
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service
from tests.services import DEADLINE


def shown(home: Path, role: str = "recorder", **web: Any) -> set[str]:
    """The rings that a worker of this role may write, below ``run/live/``."""
    service = Service("recording", role, ())
    before = set(threading.enumerate())
    with showing(service, Settings(home=home), Web.model_validate({"enabled": True, **web})):
        live = [
            one
            for one in threading.enumerate()
            if isinstance(one, LiveThread) and one not in before
        ]
        pairs = [pair for one in live for pair in one._marks.items()]
    rings = {ring.relative_to(home / "run" / "live") for ring, _ in pairs}
    marks = {mark._path.relative_to(home / "run" / "live") for _, mark in pairs}
    for one in live:
        one.join(DEADLINE)
        assert not one.is_alive()
    assert marks == {Path(WEB, ring.name) for ring in rings}
    return {str(ring) for ring in rings}


def test_a_recorder_shows_columns_and_sound_where_there_is_a_page(home: Path) -> None:
    assert shown(home) == {"recording/columns", "recording/sound"}


def test_sound_leaves_the_recorder_only_where_somebody_may_listen(home: Path) -> None:
    assert shown(home, live_audio="nobody") == {"recording/columns"}


@pytest.mark.parametrize(("role", "enabled"), [("recorder", False), ("worker", True)])
def test_nothing_runs_without_a_page_or_in_another_worker(
    home: Path, role: str, enabled: bool
) -> None:
    assert shown(home, role, enabled=enabled) == set()
