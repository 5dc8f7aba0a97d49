"""What goes wrong, and when: the same for the same seed."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

__all__ = ["Event", "plan"]

SERVICES = ("recording", "detection", "default", "beat")
LINKS = ("refused", "frozen", "unanswered", "dropped")
MICROPHONES = ("unplugged", "stalled", "dead")
STEPS = ("+3 min", "-3 min", "+2 h", "-2 h")
BOOTS = ("1970", "2024", "-10 min")
"""Where the clock begins: its epoch, the build of an image, what was saved to the disk before."""


@dataclass(frozen=True)
class Event:
    """Something that goes wrong."""

    gap: float
    """Seconds after the one before is over."""
    kind: str
    what: str = ""
    """Which service, or how."""
    lasts: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it takes in all, roughly."""
        return self.gap + self.lasts + _TAKES.get(self.kind, 0.0)


_TAKES = {"power cut": 6.0, "read-only": 6.0, "kill all": 4.0, "boot without a clock": 6.0}
_KINDS: Mapping[str, tuple[tuple[str, ...], float, float]] = {
    "kill": (SERVICES, 0, 0),
    "freeze": (SERVICES, 1, 12),
    "kill all": (("",), 0, 0),
    "wipe broker": (("",), 0, 0),
    "broker down": (("",), 1, 15),
    "servers": (LINKS, 3, 20),
    "microphone": (MICROPHONES, 2, 10),
    "disk full": (("",), 2, 20),
    "disk slow": (("",), 1, 8),
    "read-only": (("",), 2, 8),
    "power cut": (("",), 0, 0),
    "clock step": (STEPS, 3, 20),
    "boot without a clock": (BOOTS, 3, 30),
}
"""What each may hit, and the least and most seconds that it lasts."""


def plan(
    seed: int,
    weights: Mapping[str, float],
    *,
    seconds: float = 0,
    counts: Mapping[str, int] | None = None,
    mean_gap: float = 3.0,
    services: Sequence[str] = SERVICES,
) -> list[Event]:
    """Return events for a time, and so many more of some kinds among them."""
    chance = Chance(seed, services, mean_gap)
    events = list(_within(seconds, chance.events(weights)))
    for kind, count in (counts or {}).items():
        for _ in range(count):
            events.insert(chance.randint(0, len(events)), chance.event(kind))
    return events


class Chance(random.Random):
    """Draws events."""

    def __init__(self, seed: int, services: Sequence[str], mean_gap: float) -> None:
        super().__init__(seed)
        self._services = services
        self._mean_gap = mean_gap

    def events(self, weights: Mapping[str, float]) -> Iterator[Event]:
        """Yield them without an end."""
        while True:
            (kind,) = self.choices(list(weights), list(weights.values()))
            yield self.event(kind)

    def event(self, kind: str) -> Event:
        """Return one of a kind."""
        hit, least, most = _KINDS[kind]
        gap = min(self.expovariate(1 / self._mean_gap), 4 * self._mean_gap)
        what = self.choice(self._services if hit is SERVICES else hit)
        return Event(gap, kind, what, self.uniform(least, most))


def _within(seconds: float, events: Iterator[Event]) -> Iterator[Event]:
    spent = 0.0

    def fits(event: Event) -> bool:
        nonlocal spent
        spent += event.seconds
        return spent <= seconds

    return takewhile(fits, events)
