"""Watching services start, until each works or reports why it does not."""

import re
import sys
import threading
from typing import TYPE_CHECKING

import typer

from acoupi import data
from acoupi.cli.output import console, done, say, shown
from acoupi.cli.terminal import painted
from acoupi.errors import TargetError

if TYPE_CHECKING:
    from rich.table import Table

    from acoupi.targets import ServiceStatus, Target

__all__ = ["Watch", "watch"]

INTERVAL = 0.5
"""Seconds between two looks."""
RESTARTS_TOO_MANY = 3
"""A service that has ended this many times will not start, however long the wait."""
LOG_LINES = 10
COMPLAINT = re.compile(r"^Error: |\b\w*(Error|Exception)\b: | (ERROR|CRITICAL) ")
"""A line that reports an error: from acoupi, a traceback, or a log entry."""


def watch(target: "Target", timeout: float, *, started: bool = True) -> None:
    """Show the services until all are ready.

    Parameters
    ----------
    target
        Where they run.
    timeout
        How long they may take, seconds.
    started
        Whether the engine reported that it started them all.

    Raises
    ------
    TargetError
        If a service is not ready in time, or has failed; its last lines are shown.
    """
    if not started and all(service.state == "stopped" for service in target.status()):
        raise TargetError(
            "nothing was started.", "acoupi doctor", why="the output of docker compose is above."
        )
    watching = Watch(target, timeout)
    services = watching.on_terminal() if sys.stderr.isatty() else watching.in_lines()
    # Services that ended come first: others may just not be ready yet.
    ordered = sorted(services, key=lambda service: -service.restarts)
    wrong = [service for service in ordered if not service.is_well]
    if not wrong and services:
        done(f"All {len(services)} services are working, after {watching.seconds:.0f} s.")
        return
    if not services:
        raise TargetError("nothing was started.", "acoupi doctor", why="there are no services.")
    raise _not_ready(wrong, watching.seconds, _show_logs(target, wrong))


class Watch:
    """Looks at services at intervals, until all are ready or one has failed.

    Parameters
    ----------
    target
        Where they run.
    timeout
        Seconds.
    """

    def __init__(self, target: "Target", timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self.began = data.monotonic()
        self.pause = threading.Event()

    @property
    def seconds(self) -> float:
        """How long it has taken so far, seconds."""
        return data.monotonic() - self.began

    def is_over(self, services: "list[ServiceStatus]") -> bool:
        """Return whether the wait is over."""
        if self.seconds >= self.timeout:
            return True
        # A working service may have been restarted often during its long life.
        if any(one.restarts >= RESTARTS_TOO_MANY and not one.is_well for one in services):
            return True
        return bool(services) and all(service.is_well for service in services)

    def in_lines(self) -> "list[ServiceStatus]":
        """Print each change in a line: for logs and pipes."""
        last: dict[str, str] = {}
        while True:
            services = self.target.status()
            for service in services:
                text = describe(service)
                if last.get(service.name) != text:
                    say(f"  {service.name:<12} {text}", err=True)
                last[service.name] = text
            if self.is_over(services):
                return services
            self.pause.wait(INTERVAL)

    def on_terminal(self) -> "list[ServiceStatus]":
        """Show a table that is updated in place."""
        from rich.live import Live

        with Live(console=console(err=True), auto_refresh=False) as live:
            while True:
                services = self.target.status()
                live.update(table_of(services, self.seconds), refresh=True)
                if self.is_over(services):
                    return services
                self.pause.wait(INTERVAL)


def describe(service: "ServiceStatus") -> str:
    """Return the state of a service, in a line."""
    return f"{service.state} ({service.message})" if service.message else str(service.state)


def table_of(services: "list[ServiceStatus]", seconds: float) -> "Table":
    """Return the services as a table, with the elapsed time."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, caption=f"{seconds:.0f} s", caption_justify="left"
    )
    for heading in ("service", "state", "doing", "MB", ""):
        table.add_column(heading, overflow="fold")
    for service in services:
        colour = "green" if service.is_well else "yellow"
        memory = round(service.memory_bytes / 1e6) if service.memory_bytes else None
        table.add_row(
            Text(service.name),
            Text(service.state, style=colour),
            Text(shown(service.task)),
            Text(shown(memory)),
            Text(service.message or ""),
        )
    return table


def _show_logs(target: "Target", services: "list[ServiceStatus]") -> str | None:
    """Print the last lines of each failing service; return the first one's error."""
    complaint = None
    for service in services:
        lines = target.logs(service.name, LOG_LINES).get(service.name, [])
        typer.echo(painted(f"--- {service.name}: {service.state}", bold=True), err=True)
        for line in lines or ["(it logged nothing)"]:
            say(f"    {line}", err=True)
        complaint = complaint or find_complaint(lines)
    return complaint


def find_complaint(lines: list[str]) -> str | None:
    """Return the last line that looks like an error, else the last; None if there are none.

    Examples
    --------
    >>> find_complaint(["INFO starting", "ValueError: no such file", "INFO stopped"])
    'ValueError: no such file'
    >>> find_complaint([])
    """
    said = [line.strip() for line in lines if line.strip(" ^~")]
    errors = [line for line in said if COMPLAINT.search(line)]
    return next(iter([*errors[-1:], *said[-1:]]), None)


def _not_ready(
    services: "list[ServiceStatus]", seconds: float, complaint: str | None
) -> TargetError:
    names = ", ".join(service.name for service in services)
    first = services[0]
    verb = "does" if len(services) == 1 else "do"
    reason = (first.message or complaint or "").removeprefix("Error: ")
    return TargetError(
        f"{names} {verb} not work, after {seconds:.0f} s.",
        f"acoupi compose logs {first.name}   (the others run; to stop them: acoupi compose down)",
        why=f"{first.name} is {first.state}{f': {reason}' if reason else ' and logged nothing'}",
    )
