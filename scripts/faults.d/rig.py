"""Lets a plan of faults happen to a sensor, and keeps a log of its own."""

import datetime
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arrivals import Servers
from books import Claims, Trouble, is_corrected, stored_until
from clocks import Clock
from disk import Disk
from plan import Event

__all__ = ["Rig"]

LOOK_EVERY = 0.1
READY_WITHIN = 240.0
QUIET_WITHIN = 240.0


@dataclass
class Waiting:
    """A service that was killed and is not back yet."""

    trouble: Trouble
    before: object
    """What its process was."""


class Rig:
    """Something goes wrong, again and again.

    Parameters
    ----------
    sensor
        To what: `processes.ProcessSensor` or `containers.ComposeSensor`.
    disk
        Of its home; None: that of this machine, which nothing is done to.
    servers
        That it sends to.
    microphone
        The file that its microphone does what it says; None: it only counts.
    say
        Is told what happens.
    clock
        That it sees; None: that of this machine, which nothing is done to.
    """

    def __init__(
        self,
        sensor: Any,
        disk: Disk | None,
        servers: Servers | None,
        microphone: Path | None,
        say: Callable[[str], None],
        *,
        clock: Clock | None = None,
    ) -> None:
        self.sensor = sensor
        self.disk = disk
        self.servers = servers
        self.microphone = microphone
        self.clock = clock
        self.say = say
        self.log: list[Trouble] = []
        self.broken: list[str] = []
        """What a power cut took that had been claimed before."""
        self.loads: list[float] = []
        """Of the machine, at each fault: how many wanted to run, for each of its processors."""
        self._waiting: dict[str, Waiting] = {}
        self._over: list[tuple[float, Callable[[], None]]] = []
        """What ends by itself, and when, on the monotonic clock."""

    def show_clock(self) -> None:
        """Show its clock to a sensor that sees only its home."""
        if self.clock and self.disk and self.sensor.clock_place:
            self.disk.show(self.clock.folder, self.sensor.home / self.sensor.clock_place)

    def run(self, events: Iterable[Event]) -> None:
        """Let all of it happen."""
        self.wait_until_ready()
        for number, event in enumerate(events, 1):
            self._pass(event.gap)
            self.loads.append(os.getloadavg()[0] / (os.cpu_count() or 1))
            self.say(f"{number:4} {event.kind} {event.what} {event.lasts:.1f}")
            getattr(self, "_" + event.kind.replace(" ", "_").replace("-", "_"))(event)
        self._pass(2)
        for _, end in self._over:
            end()
        self._over.clear()

    def wait_until_ready(self) -> None:
        """Wait until every service works."""
        self._wait(lambda: all(map(self.sensor.works, self.sensor.services)), READY_WITHIN)

    def wait_until_quiet(self) -> float:
        """Wait until all that was made by now is done; return how long it took, seconds."""
        begun, now, files = time.monotonic(), time.time(), self._unfinished()

        def is_quiet() -> bool:
            is_done = not self.sensor.left(now) and not files & self._unfinished()
            return is_done and self._is_corrected()

        self._wait(is_quiet, QUIET_WITHIN)
        return time.monotonic() - begun

    def _unfinished(self) -> set[str]:
        """Return the names of files that are not complete, or where recordings wait.

        One of a recorder that was killed has no row until recovery adopts it.
        """
        data = self.sensor.home / "data"
        paths = (*data.rglob(".*.part"), *(data / "spool").rglob("[!.]*.*"))
        return {path.name.removeprefix(".").removesuffix(".part") for path in paths}

    def _wait(self, claim: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not claim() and time.monotonic() < end:
            self._pass(LOOK_EVERY)

    def _pass(self, seconds: float) -> None:
        """Let time pass; see who comes back, and end what is over."""
        end = time.monotonic() + seconds
        while True:
            self._look()
            for item in [one for one in self._over if one[0] <= time.monotonic()]:
                self._over.remove(item)
                item[1]()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LOOK_EVERY))

    def _look(self) -> None:
        for service, waiting in list(self._waiting.items()):
            if self.sensor.works(service) and self.sensor.life(service) != waiting.before:
                del self._waiting[service]
                trouble = waiting.trouble
                trouble.recovered = max(trouble.recovered or 0, time.time() - trouble.end)

    def _note(self, event: Event, *services: str) -> Trouble:
        """Write down that it begins now; these services are to come back after it."""
        now = time.time()
        trouble = Trouble(event.kind, event.what, now)
        if "recording" in services:
            trouble.stored_until = stored_until(self.sensor.home, now)
        self.log.append(trouble)
        for service in services:
            if earlier := self._waiting.get(service):
                earlier.trouble.is_interrupted = True
            self._waiting[service] = Waiting(trouble, self.sensor.life(service))
        return trouble

    def _later(self, trouble: Trouble, seconds: float, undo: Callable[[], object]) -> None:
        def end() -> None:
            undo()
            trouble.end = time.time()

        trouble.end = time.time() + seconds
        self._over.append((time.monotonic() + seconds, end))

    # --- what goes wrong ---

    def _kill(self, event: Event) -> None:
        trouble = self._note(event, event.what)
        trouble.missed = not self.sensor.signal(event.what, signal.SIGKILL)
        trouble.end = time.time()

    def _freeze(self, event: Event) -> None:
        trouble = self._note(event)
        life = self.sensor.life(event.what)
        trouble.missed = not self.sensor.signal(event.what, signal.SIGSTOP)
        self._pass(event.lasts)
        if self.sensor.life(event.what) == life:
            self.sensor.signal(event.what, signal.SIGCONT)
        trouble.end = time.time()

    def _kill_all(self, event: Event) -> None:
        trouble = self._note(event, *self.sensor.services)
        self.sensor.kill_all()
        self._boot(trouble)

    def _boot(self, trouble: Trouble) -> None:
        trouble.end = time.time()
        self.sensor.up()

    def _wipe_broker(self, event: Event) -> None:
        self._note(event)
        self.sensor.wipe_broker()

    def _broker_down(self, event: Event) -> None:
        self._later(self._note(event), event.lasts, self.sensor.broker_down())

    def _servers(self, event: Event) -> None:
        if self.servers is None:
            self._later(self._note(event), event.lasts, self.sensor.servers_down(event.what))
            return
        self.servers.up()
        self.servers.down(event.what)
        self._later(self._note(event), event.lasts, self.servers.up)

    def _microphone(self, event: Event) -> None:
        assert self.microphone is not None
        self.microphone.write_text(event.what)
        self._later(self._note(event), event.lasts, self.microphone.unlink)
        self._pass(event.lasts + 2 * LOOK_EVERY)

    def _disk_full(self, event: Event) -> None:
        assert self.disk is not None
        trouble = self._note(event)
        with self.disk.full():
            self._pass(event.lasts)
        trouble.end = time.time()

    def _disk_slow(self, event: Event) -> None:
        assert self.disk is not None
        trouble = self._note(event)
        with self.disk.frozen():
            time.sleep(event.lasts)  # whoever looks at its files waits, too
        trouble.end = time.time()

    def _read_only(self, event: Event) -> None:
        assert self.disk is not None
        trouble = self._note(event, *self.sensor.services)
        self.disk.fail()
        self._pass(event.lasts)
        self.sensor.kill_all()
        self.disk.unmount()
        self.disk.mend()
        self.disk.mount()
        self._boot(trouble)

    def _power_cut(self, event: Event) -> None:
        trouble = self._note(event, *self.sensor.services)
        self._cut()
        self._boot(trouble)

    def _clock_step(self, event: Event) -> None:
        assert self.clock is not None
        self.clock.step(seconds_of(event.what))
        self._later(self._note(event), event.lasts, self.clock.put_right)

    def _boot_without_a_clock(self, event: Event) -> None:
        assert self.clock is not None
        self._wait(self._is_corrected, READY_WITHIN)
        trouble = self._note(event, *self.sensor.services)
        if self.disk is None:
            self.sensor.kill_all()
        else:
            self._cut()
        self.clock.boot()
        self.clock.step(seconds_of(event.what))
        self._over.append((time.monotonic() + event.lasts, self.clock.put_right))
        self._boot(trouble)

    def _is_corrected(self) -> bool:
        """Return whether the clock is right, and times of this boot can have been corrected.

        Of another boot nobody knows by how much its clock was off.
        """
        if self.clock is None:
            return True
        since = self.clock.right_since
        return since is not None and is_corrected(
            self.sensor.home, time.time() - time.monotonic() + since
        )

    def _cut(self) -> None:
        """Cut the power of its disk, and mount it again once all are dead."""
        assert self.disk is not None
        claims = Claims.of(self.sensor.home)
        with ExitStack() as stack:
            stack.callback(self.disk.mount)
            self.disk.cut()
            self.sensor.kill_all()
            self.disk.unmount()
        self.broken += claims.broken_in(self.sensor.home)


def seconds_of(what: str) -> float:
    """Return how far from the true time a clock is that was set so.

    Examples
    --------
    >>> seconds_of("-2 h"), seconds_of("+3 min")
    (-7200.0, 180.0)
    """
    if what[0] in "+-":
        number, unit = what.split()
        return float(number) * {"min": 60, "h": 3600}[unit]
    begins = datetime.datetime(int(what), 1, 1, tzinfo=datetime.UTC)
    return begins.timestamp() - time.time()
