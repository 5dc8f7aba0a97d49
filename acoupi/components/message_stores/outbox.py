"""The daily budget of a destination, and the order of messages.

The rules where a day has a budget (`OutboxLimits.bytes_per_day`):

* Kinds go in the order of `KINDS`. Within a kind the order is kept, also across retries
  (`Delivery.holds_up`).
* A message costs its content, `MESSAGE_BYTES` for headers, and the first of each claim also
  `CLAIM_BYTES` for the connection. The bytes are reserved when it is claimed. They are spent
  when something was sent, whatever the server answered, and also when the process that claimed
  it was killed: it may have sent it.
* Days are days in UTC. All kinds together never spend more than the budget of a day. Alarms may
  spend all of it; deployments and heartbeats leave half of the kept share to them; the
  rest leaves all of it.
* A message that is larger than its kind may spend in a day goes when anything is left. What it
  costs beyond that is an excess: summaries and what comes after them wait until later days
  have saved as much.
* Sound for a hub goes last, in chunks that fit: it has what is left of half the bytes that the
  rest may use, and never an excess.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from acoupi import data

__all__ = [
    "CLAIM_BYTES",
    "KINDS",
    "MESSAGE_BYTES",
    "Day",
    "OutboxLimits",
    "day_number",
    "kind_name",
]

KINDS: tuple[data.MessageType | None, ...] = (
    data.MessageType.ALARM,
    data.MessageType.DEPLOYMENT,
    data.MessageType.HEARTBEAT,
    data.MessageType.SUMMARY,
    data.MessageType.DETECTION,
    data.MessageType.RECORDING,
    None,
)
"""Order of kinds; None: messages without a kind."""
_ABOUT_SENSOR = frozenset({data.MessageType.DEPLOYMENT, data.MessageType.HEARTBEAT})

MESSAGE_BYTES = 1024
"""Headers of a request and of its answer, and those of their packets."""
LEAST_CHUNK = 16_384
"""Bytes of sound that are worth a request."""
CLAIM_BYTES = 6144
"""A connection with TLS: certificates, keys, its packets, and its end."""


def kind_name(kind: data.MessageType | None) -> str:
    """Return what a kind is called in settings; messages without one are "other"."""
    return "other" if kind is None else kind.value


@dataclass(frozen=True)
class OutboxLimits:
    """What one destination may cost."""

    bytes_per_day: int | None = None
    """None: there is no budget, and the order is that of the program."""
    kept_share: float = 0.2
    """Part of the day's bytes that only alarms, deployments and heartbeats may use."""
    batch: int = 20
    """Messages claimed at once."""
    longest_ages: dict[str, float] = field(default_factory=dict)
    """Seconds after which a message of a kind is no longer sent; those not named never expire."""

    def allowed(self, kind: data.MessageType | None) -> int:
        """Return what a kind may spend, with those before it, on a day without any excess.

        Examples
        --------
        >>> limits = OutboxLimits(1_000_000)
        >>> [limits.allowed(kind) for kind in KINDS][:4]
        [1000000, 900000, 900000, 800000]
        """
        part = 0.5 if kind in _ABOUT_SENSOR else 1.0
        kept = 0.0 if kind is data.MessageType.ALARM else self.kept_share * part
        return int((self.bytes_per_day or 0) * (1 - kept))


def day_number(time: datetime.datetime) -> int:
    """Return the day in UTC, counted from year 1."""
    return time.astimezone(datetime.UTC).toordinal()


@dataclass
class Day:
    """What is left of a day's budget, while messages are claimed."""

    limits: OutboxLimits
    spent: int = 0
    """Sent today or reserved, without what exceeded a day."""
    owed: int = 0
    """What earlier or claimed messages cost beyond a day, and later days have not yet saved."""
    is_empty: bool = True
    """Whether nothing has been claimed yet."""

    @classmethod
    def after(cls, limits: OutboxLimits, today: int, traffic: Iterable[Sequence[int]]) -> "Day":
        """Return today's account after earlier days: day, bytes and excess of each day, in order.

        Examples
        --------
        >>> Day.after(OutboxLimits(100_000), 9, [(5, 100_000, 250_000), (7, 20_000, 0)]).owed
        0
        >>> Day.after(OutboxLimits(100_000), 7, [(5, 100_000, 250_000), (7, 20_000, 0)]).owed
        150000
        """
        budget, owed, begun = limits.bytes_per_day or 0, 0, today
        for day, sent, excess in traffic:
            owed = max(0, owed - budget * max(0, day - begun))  # days on which nothing was sent
            if day == today:
                return cls(limits, sent, owed + excess)
            owed, begun = max(0, owed + excess - max(0, budget - sent)), day + 1
        return cls(limits, 0, max(0, owed - budget * max(0, today - begun)))

    def reserve(self, kind: data.MessageType | None, size: int) -> tuple[int, int] | None:
        """Reserve what a message costs: bytes of today, and excess; None: it must wait.

        Parameters
        ----------
        size
            Bytes of its content.
        """
        cost = size + MESSAGE_BYTES + CLAIM_BYTES * self.is_empty
        most = self.limits.allowed(kind)
        is_urgent = kind is data.MessageType.ALARM or kind in _ABOUT_SENSOR
        left = most - self.spent - (0 if is_urgent else self.owed)
        if left < cost and (left <= 0 or cost <= most):
            return None
        today = min(cost, left)
        self.spent, self.owed, self.is_empty = self.spent + today, self.owed + cost - today, False
        return today, cost - today

    def reserve_sound(self, most: int) -> tuple[int, int]:
        """Reserve room for a chunk of sound: what it may have, and what it costs.

        It never exceeds a day, and leaves half of it to messages and reports.

        Examples
        --------
        >>> Day(OutboxLimits(1_000_000)).reserve_sound(262_144)
        (262144, 269312)
        >>> Day(OutboxLimits(1_000_000), spent=200_000, is_empty=False).reserve_sound(262_144)
        (198976, 200000)
        >>> Day(OutboxLimits(1_000_000), spent=399_000).reserve_sound(262_144)
        (0, 0)
        """
        headers = MESSAGE_BYTES + CLAIM_BYTES * self.is_empty
        left = self.limits.allowed(None) // 2 - self.spent - self.owed - headers
        size = min(most, left)
        if size < min(most, LEAST_CHUNK):
            return 0, 0
        self.spent, self.is_empty = self.spent + size + headers, False
        return size, size + headers
