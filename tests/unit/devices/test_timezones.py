"""Which time zone a sensor gets, and when to doubt it."""

import subprocess
import sys

import pytest

from acoupi.devices import timezones
from acoupi.devices.timezones import doubt_about_timezone, suggest_timezone, timezone_at
from tests.services import DEADLINE

BERLIN = (52.5, 13.4)


@pytest.fixture
def no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the package that knows the zones of places."""
    monkeypatch.setattr(timezones, "find_spec", lambda _: None)


@pytest.mark.parametrize(
    ("system", "place", "zone"),
    [
        ("Europe/Berlin", None, "Europe/Berlin"),
        ("Europe/Berlin", (51.5, -0.1), "Europe/Berlin"),
        ("Etc/UTC", BERLIN, "Europe/Berlin"),
        ("UTC", (-34.9, 138.6), "Australia/Adelaide"),
        ("Etc/UTC", None, "Etc/UTC"),
    ],
)
def test_the_zone_is_that_of_the_machine_or_of_the_coordinates(
    monkeypatch: pytest.MonkeyPatch, system: str, place: tuple[float, float] | None, zone: str
) -> None:
    monkeypatch.setenv("TZ", system)

    assert suggest_timezone(place) == zone


def test_without_the_map_a_container_stays_on_utc(
    monkeypatch: pytest.MonkeyPatch, no_map: None
) -> None:
    monkeypatch.setenv("TZ", "UTC")

    assert timezone_at(BERLIN) is None
    assert suggest_timezone(BERLIN) == "UTC"


@pytest.mark.parametrize(
    ("zone", "place", "is_doubted"),
    [
        ("Europe/London", BERLIN, True),
        ("Europe/Berlin", BERLIN, False),
        ("Europe/Paris", BERLIN, False),
        ("UTC", (51.5, -0.1), True),
        ("UTC", (5.6, -0.2), False),  # Accra has no summer time
        ("Pacific/Kiritimati", (1.9, -157.4), False),
        ("Pacific/Pago_Pago", (1.9, -157.4), True),
    ],
)
def test_a_zone_whose_clocks_are_not_those_of_the_place_is_doubted(
    zone: str, place: tuple[float, float], is_doubted: bool
) -> None:
    doubt = doubt_about_timezone(zone, place)

    assert (doubt is not None) is is_doubted
    assert doubt is None or (zone in doubt and f"{place[0]:g}, {place[1]:g}" in doubt)


@pytest.mark.parametrize(
    ("zone", "place", "is_doubted"),
    [
        ("Europe/London", BERLIN, False),  # too near for the sun to tell
        ("Asia/Shanghai", (39.5, 76.0), False),
        ("Europe/London", (-34.9, 138.6), True),
        ("America/Lima", BERLIN, True),
        ("Pacific/Kiritimati", (1.9, -157.4), False),
    ],
)
def test_without_the_map_the_sun_tells_of_hours(
    no_map: None, zone: str, place: tuple[float, float], is_doubted: bool
) -> None:
    assert (doubt_about_timezone(zone, place) is not None) is is_doubted


@pytest.mark.parametrize(
    ("system", "is_doubted"), [("Europe/Berlin", True), ("Europe/London", False), ("UTC", False)]
)
def test_without_a_place_the_zone_is_compared_with_that_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, system: str, is_doubted: bool
) -> None:
    monkeypatch.setenv("TZ", system)

    assert (doubt_about_timezone("Europe/London") is not None) is is_doubted


def test_the_map_stays_in_the_memory_of_nobody_who_asks() -> None:
    code = (
        "import sys; from acoupi.devices.timezones import timezone_at; "
        "assert timezone_at((52.5, 13.4)) == 'Europe/Berlin'; assert 'tzfpy' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE)
