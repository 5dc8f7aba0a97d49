"""How values are written in columns."""

import datetime
import time
from collections.abc import Iterator

import pytest

from acoupi.components.stores.values import from_microseconds, to_microseconds


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.delenv("TZ")
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_a_time_without_a_zone_is_utc_wherever_the_sensor_is() -> None:
    naive = datetime.datetime(2024, 6, 1, 12)  # noqa: DTZ001 - the case at hand

    assert to_microseconds(naive) == to_microseconds(naive.replace(tzinfo=datetime.UTC))


@pytest.mark.parametrize("year", [1, 1969, 1970, 2024, 9999])
def test_times_of_any_year_come_back_to_the_microsecond(year: int) -> None:
    exact = datetime.datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC)

    assert from_microseconds(to_microseconds(exact)) == exact
