"""Scripted faults of a simulated microphone."""

import re
import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

from pydantic import ConfigDict, Field

from acoupi import data
from acoupi.deferred import DeferredModel
from acoupi.errors import DeviceUnavailableError, RecordingError

__all__ = ["Fault", "Script", "parse_faults", "script_of"]

_FAULT = re.compile(r"(\w+):([^:]*):([^:]*)")


class Fault(DeferredModel):
    """One fault, and when it occurs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["unplug", "stall", "overrun", "loss", "drift", "dc", "clip"]
    """unplug: it disappears and returns after `amount` seconds. stall: it stays open and delivers
    nothing for `amount` seconds. overrun: `amount` seconds are lost. loss: the same, but the
    driver does not report it. drift: it runs fast by `amount` ppm throughout. dc: `amount` of full
    scale is added. clip: it is `amount` times louder."""
    at: float = Field(default=0, ge=0, allow_inf_nan=False)
    """Seconds since the microphone was first opened. Ignored for a drift."""
    amount: float = Field(allow_inf_nan=False)


def parse_faults(value: Any) -> Any:
    """Read ``unplug:20:10+drift:0:50``: kind, time and amount; other input stays as it is.

    Examples
    --------
    >>> parse_faults("unplug:20:10+drift:0:50")[1]
    {'kind': 'drift', 'at': '0', 'amount': '50'}
    """
    if not isinstance(value, str):
        return value
    found = [_FAULT.fullmatch(part.strip()) for part in value.split("+") if part.strip()]
    if not all(found):
        raise ValueError("a fault is kind:seconds:amount, for example unplug:20:10")
    return [{"kind": match[1], "at": match[2], "amount": match[3]} for match in found if match]


@dataclass
class Script:
    """What has happened to one simulated microphone, over all its openings."""

    faults: tuple[Fault, ...]
    began: float | None = None
    """When it was first opened, on the clock of `data.monotonic`."""
    frames: int = 0
    """Frames delivered so far, at the fastest pace."""
    now: float = 0.0
    """Time of the next sound, seconds since it was first opened."""
    gone_until: float = 0.0
    done: set[int] = field(default_factory=set)

    @property
    def speed(self) -> float:
        """How many times faster than nominal it runs."""
        return 1 + sum(fault.amount for fault in self.faults if fault.kind == "drift") * 1e-6

    def open(self, name: str) -> None:
        """Note that it is opened.

        Raises
        ------
        DeviceUnavailableError
            If it is unplugged.
        """
        now = data.monotonic()
        if now < self.gone_until:
            raise DeviceUnavailableError(
                f'cannot find the microphone "{name}".',
                "plug it in again",
                why="it is unplugged (simulated).",
            )
        if self.began is None:
            self.began = now

    def due(self, kind: str, time: float) -> Fault | None:
        """Return a fault that is due, and mark it as having happened; None if none is."""
        for number, fault in enumerate(self.faults):
            if fault.kind == kind and fault.at <= time and number not in self.done:
                self.done.add(number)
                return fault
        return None

    def unplug(self, fault: Fault, name: str) -> RecordingError:
        """Return the error raised when it is pulled out."""
        self.gone_until = data.monotonic() + fault.amount
        return RecordingError(
            f'the microphone "{name}" stopped.',
            "plug it in again",
            why="it was unplugged (simulated).",
        )

    def change(self, block: memoryview, time: float) -> memoryview:
        """Return a block of 16-bit samples with the faults that are active at this time applied."""
        active = [f for f in self.faults if f.kind in ("dc", "clip") and f.at <= time]
        if not active:
            return block
        import numpy as np  # noqa: PLC0415 - only where sound is simulated

        samples = np.frombuffer(block, dtype="<i2").astype(np.float64)
        for fault in active:
            samples = samples * fault.amount if fault.kind == "clip" else samples
            samples = samples + 32768 * fault.amount if fault.kind == "dc" else samples
        return np.clip(np.rint(samples), -32768, 32767).astype("<i2").data.cast("B")


_scripts: "WeakKeyDictionary[Any, Script]" = WeakKeyDictionary()
_lock = threading.Lock()


def script_of(owner: Hashable, faults: tuple[Fault, ...]) -> Script:
    """Return the script of an owner's microphone: the same one at each opening."""
    with _lock:
        try:
            script = _scripts.get(owner)
            if script is None or script.faults != faults:
                script = _scripts[owner] = Script(faults)
        except TypeError:  # A plain string has no identity to remember a script by.
            script = Script(faults)
        return script
