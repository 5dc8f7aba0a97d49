"""What became of the messages: the sensors' stores on one side, the servers on the other.

HTTP and MQTT (QoS 1) deliver at least once: where the answer is lost, the
sensor cannot know that the message arrived and sends it again, under the same
id. So there are two numbers. `repeats` is what came more than once, as the
servers saw it; it is the price of a bad link and no fault. `doubled` is what
a consumer that drops ids it knows would still count twice: one content under
two ids. That is a fault.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

__all__ = ["Arrival", "Created", "Tally", "account", "percentile"]


@dataclass(frozen=True)
class Created:
    """A message in a sensor's store."""

    id: str
    time: float
    """When it was made, seconds since 1970."""
    digest: str
    """Of its content."""
    state: str
    """What the store believes of one transport: pending, acknowledged or dead."""


@dataclass(frozen=True)
class Arrival:
    """A message as a server got it."""

    sensor: str
    transport: str
    id: str
    """Empty: it came without one."""
    time: float
    digest: str


@dataclass
class Tally:
    """What became of the messages of one sensor through one transport, or of several."""

    created: int = 0
    delivered: int = 0
    """Arrived, each counted once."""
    repeats: int = 0
    """Arrivals beyond the first under one id."""
    doubled: int = 0
    """Contents that came under more than one id, or again without any."""
    late: int = 0
    """Of those delivered: after more than the time that is still in time."""
    lost: int = 0
    """The sensor believes them delivered, and they never arrived."""
    given_up: int = 0
    """Dead letters that never arrived."""
    waiting: int = 0
    """Never arrived, and the sensor knows that they have not."""
    altered: int = 0
    """Arrived with another content than was stored."""
    unknown: int = 0
    """Arrivals that no store knows of."""
    delays: list[float] = field(default_factory=list)
    """From being made to the first arrival, seconds."""

    @property
    def is_complete(self) -> bool:
        """Whether every message was delivered once, and there were any."""
        faults = (
            self.lost, self.given_up, self.waiting, self.doubled, self.altered, self.unknown,
        )  # fmt: skip
        return self.created > 0 and self.delivered == self.created and not any(faults)

    def __add__(self, other: Self) -> Self:
        """Return both together."""
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def figures(self) -> dict[str, Any]:
        """Return the counts, and the spread of the delays."""
        counts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "delays"}
        spread = (("p50", 50), ("p95", 95), ("max", 100))
        return counts | {
            f"delay_{name}_s": round(percentile(self.delays, share), 1) if self.delays else None
            for name, share in spread
        }


def account(
    created: Iterable[Created], arrivals: Sequence[Arrival], late_after: float = 60.0
) -> Tally:
    """Compare what one sensor made with what one transport delivered.

    Parameters
    ----------
    created
        Every message of the sensor's store.
    arrivals
        What the server got from this sensor.
    late_after
        Seconds after which a message is late.
    """
    tally = Tally()
    messages = list(created)
    id_of = {message.digest: message.id for message in messages}
    came: dict[str, list[Arrival]] = defaultdict(list)
    counted: dict[str, list[str]] = defaultdict(list)
    for arrival in arrivals:
        # Without an id, only the content tells what it is.
        came[arrival.id or id_of.get(arrival.digest, "")].append(arrival)
        if not arrival.id or arrival.id not in counted[arrival.digest]:
            counted[arrival.digest].append(arrival.id)
    tally.doubled = sum(len(ids) - 1 for ids in counted.values())
    for message in messages:
        tally.created += 1
        _add(tally, message, came.pop(message.id, []), late_after)
    tally.unknown = sum(len(each) for each in came.values())
    return tally


def _add(tally: Tally, message: Created, arrivals: list[Arrival], late_after: float) -> None:
    if not arrivals:
        what = {"acknowledged": "lost", "dead": "given_up"}.get(message.state, "waiting")
        setattr(tally, what, getattr(tally, what) + 1)
        return
    delay = min(arrival.time for arrival in arrivals) - message.time
    tally.delivered += 1
    tally.repeats += len(arrivals) - 1
    tally.late += delay > late_after
    tally.altered += any(arrival.digest != message.digest for arrival in arrivals)
    tally.delays.append(delay)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` percent do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * share / 100), 1) - 1]
