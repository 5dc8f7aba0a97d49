"""The servers that tests start are real, and skipping is not for CI."""

from pathlib import Path

import pytest

from tests.services import Redis, free_port, json_lines, require


@pytest.mark.parametrize("unix", [False, True])
def test_a_redis_starts_and_ends(tmp_path: Path, unix: bool) -> None:
    with Redis(tmp_path / "redis", unix=unix) as redis:
        assert redis.pid is not None
        assert redis.url.startswith("redis")

    assert redis.pid is None


def test_what_is_absent_skips_on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception):
        require("no such thing", present=False)


def test_what_is_absent_fails_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")

    with pytest.raises(pytest.fail.Exception):
        require("no such thing", present=False)


def test_a_port_is_given_once_and_never_by_the_kernel_too() -> None:
    given = [free_port() for _ in range(50)]

    assert len(set(given)) == 50
    assert max(given) < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def test_a_line_that_is_being_written_is_for_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert json_lines(path) == []

    path.write_text('{"n": 1}\n{"n"')
    assert json_lines(path) == [{"n": 1}]


def test_what_is_there_is_used() -> None:
    require("it is there", present=True)
