"""A sensor on the board, as the README says it is set up: under systemd, or in containers."""

import json
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from board import PATIENCE, Board, BoardError

SETTINGS = (
    "--recording.interval 5 --recording.schedule_start 00:00:00 --recording.schedule_end 00:00:00"
    " --recording_saving.starttime 00:00:00 --recording_saving.endtime 23:59:59 --no-prompt"
)
"""All day, every five seconds, and all of it is kept."""
FREQUENCY, LEVEL = 3000, -20
"""Of the tone that its microphone hears: Hz, and dB below full scale."""


class Sensor(ABC):
    """A sensor, and what the walk asks it."""

    home: str
    command: str
    """How its user calls acoupi."""
    recorder: str
    """Its name where services run."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def run(self, command: str, *, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command as the user of the board; return what it printed."""
        code, output = self.board.run(f"su - ranger -c {shlex.quote(command)}")
        if code not in codes:
            raise BoardError(f"{command}\n{output}")
        return output

    def acoupi(self, words: str, *, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command of acoupi."""
        return self.run(f"{self.command} {words}", codes=codes)

    def set_up(self, microphone: str) -> None:
        """Set it up and start it, in the README's words."""
        self.acoupi(f"setup --program default {self.target} {microphone} {SETTINGS}")
        self.acoupi('start "Old oak" --at 51.54,-0.02')

    def hear(self) -> dict[str, Any]:
        """Wait for a new recording of the tone; return what was heard."""
        words = (self.home, FREQUENCY, LEVEL, PATIENCE)
        command = f"/opt/acoupi/bin/python /mnt/ear.py {' '.join(map(str, words))}"
        _, output = self.board.run(command)
        heard: dict[str, Any] = json.loads(output.splitlines()[-1])
        return heard

    def tells(self) -> str:
        """Return what it says of itself, for whoever looks for a fault."""
        log = f"tail -n 20 {self.home}/log/recording.log {self.home}/log/recording/*.log"
        words = "cat /proc/asound/cards; ls -l /dev/snd"
        _, output = self.board.run(f"{log}; {words}; systemctl --failed --no-pager; dmesg | tail")
        return self.acoupi("status", codes=(0, 1, 2, 3)) + output

    def effort(self) -> dict[str, Any]:
        """Return what became of every second."""
        found: dict[str, Any] = json.loads(self.acoupi("effort --json"))
        return found

    def recordings(self) -> list[dict[str, Any]]:
        """Return all that it says it has recorded."""
        found: list[dict[str, Any]] = json.loads(
            self.acoupi("recordings list --limit 100000 --json")
        )
        return found

    def files(self) -> dict[str, float]:
        """Return the seconds of sound in each recording's file, by its name."""
        _, output = self.board.run(f"python3 /mnt/files.py {self.home}")
        found: dict[str, float] = json.loads(output)
        return found

    def damaged_databases(self) -> list[str]:
        """Return those that SQLite finds fault with."""
        _, output = self.board.run(f"python3 /mnt/databases.py {self.home}")
        return [one for one in output.splitlines() if not one.endswith(": ok")]

    @property
    @abstractmethod
    def target(self) -> str:
        """The options of setup that say where it runs."""

    @abstractmethod
    def processes(self) -> dict[str, str]:
        """Return the number of the process of each service, by its name."""


class UnderSystemd(Sensor):
    """Units of the system."""

    home, command = "/var/lib/acoupi", "sudo ACOUPI_HOME=/var/lib/acoupi acoupi"
    target, recorder = "--target systemd --system", "acoupi-recording.service"

    def processes(self) -> dict[str, str]:
        """Return the main processes of its units."""
        units = "systemctl list-units --plain --no-legend --state=running 'acoupi-*'"
        names = f"$({units} | cut -d' ' -f1)"
        show = f"for one in {names}; do systemctl show -p MainPID --value $one; echo $one; done"
        _, output = self.board.run(show)
        lines = output.split()
        return dict(zip(lines[1::2], lines[::2], strict=True))


class InContainers(Sensor):
    """The compose bundle."""

    home, command = "/home/ranger/.acoupi", "acoupi"
    target, recorder = "--target compose", "recording"

    def processes(self) -> dict[str, str]:
        """Return the main processes of its containers."""
        form = '{{ index .Config.Labels "com.docker.compose.service" }} {{ .State.Pid }}'
        _, output = self.board.run(f"docker ps -q | xargs -r docker inspect -f '{form}'")
        return dict(line.split() for line in output.splitlines())


def until(holds: Callable[[], bool], patience: float = PATIENCE / 3) -> bool:
    """Ask until it holds; return whether it did in time."""
    deadline = time.monotonic() + patience
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(1)
    return held
