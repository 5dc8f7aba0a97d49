"""Text of strangers does nothing to a terminal."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi.cli import handler, output, terminal
from acoupi.errors import AcoupiError
from acoupi.printing import printable
from acoupi.services.logs import configure_logging, tell
from acoupi.stack.settings import Settings

HOSTILE = "mic\x1b]0;PWNED\x07\x1b[31m\x9b2J\x7f\u202egnp\u2066\r\x00"
HARMFUL = {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), *"\u202a\u202b\u202c\u202d\u202e"}
HARMFUL |= {*"\u2066\u2067\u2068\u2069"}


def harmful(text: str) -> set[str]:
    return HARMFUL.intersection(text) - {"\n"}


@given(st.text())
def test_nothing_harmful_is_left_and_nothing_else_changes(text: str) -> None:
    shown = printable(text)
    assert not HARMFUL.intersection(shown)
    if not HARMFUL.intersection(text):
        assert shown == text
    assert printable(text, keep="\n\t").count("\n") == text.count("\n")


def test_other_writing_is_kept() -> None:
    assert printable("Fledermäuse 蝙蝠 خفاش 🦇 é") == "Fledermäuse 蝙蝠 خفاش 🦇 é"


def test_tables_records_and_lines_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table([{"a": HOSTILE}], {"a": "a"}, empty="")
    output.print_record({"a": HOSTILE})
    output.done(HOSTILE)
    output.warn(HOSTILE)
    terminal.echo(HOSTILE)
    output.say(HOSTILE)
    handler.show_error(AcoupiError(f"cannot open {HOSTILE}.", HOSTILE, why=HOSTILE))
    printed = capsys.readouterr()
    assert "PWNED" in printed.out
    assert "PWNED" in printed.err
    assert not harmful(printed.out)
    assert not harmful(printed.err)


def test_colours_of_acoupi_stay_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("typer.echo", lambda text="", **_: written.append(text))
    handler.show_error(AcoupiError(f"it failed {HOSTILE}."))
    output.done(HOSTILE)
    assert all(text.startswith("\x1b[") for text in written)
    assert all("\\x1b]0;PWNED" in text for text in written)


def test_json_says_the_same_and_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": HOSTILE})
    printed = capsys.readouterr().out
    assert not harmful(printed)
    assert json.loads(printed) == {"a": HOSTILE}


def test_the_log_is_harmless(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        configure_logging(Settings(home=home), "recording")
        logging.getLogger("acoupi").warning("the server answered %s", HOSTILE)
        tell(AcoupiError(HOSTILE, HOSTILE, why=HOSTILE))
        for each in root.handlers:
            each.close()
    finally:
        root.handlers, root.level = handlers, level
    log = (home / "log" / "recording.log").read_text()
    assert "PWNED" in log
    assert not harmful(log)
    assert not harmful(capsys.readouterr().err)
