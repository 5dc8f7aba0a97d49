"""All commands: their modules and their one-line descriptions.

A command is imported when it is run (or when a shell completes it), so that
``acoupi --help`` answers at once on a slow board.
"""

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

__all__ = ["COMMANDS", "LazyCommands", "WholeLines", "group", "single"]

_WHOLE = 1000
"""Characters; no first paragraph is longer."""


class Entry(NamedTuple):
    """A command, or a group of them."""

    place: str
    """Module below `acoupi.cli`, and the name of the `typer.Typer` in it."""
    purpose: str
    """One line for the list of commands."""
    is_advanced: bool = False
    """Whether it is for people who know Docker, Celery or a hub."""


COMMANDS = {
    "try": Entry("trying:try_app", "Run a whole sensor for a minute, without a microphone."),
    "setup": Entry(
        "setup:app", "Set this board up as a sensor: choose a program and its settings."
    ),
    "check": Entry("checks:check_app", "Test everything: settings, microphone, model, servers."),
    "start": Entry("daily:start_app", 'Start recording at a site, until "acoupi stop".'),
    "stop": Entry(
        "daily:stop_app", "Stop recording, finish the work in progress, and end the deployment."
    ),
    "status": Entry(
        "daily:status_app", "Show whether it records, what was heard today, and what is wrong."
    ),
    "watch": Entry(
        "daily:watch_app", "Show the state of the sensor, updated every two seconds, until Ctrl-C."
    ),
    "logs": Entry("daily:logs_app", "Show the last lines that the services logged."),
    "devices": Entry(
        "checks:devices_app", "List the connected microphones and their sample rates."
    ),
    "config": Entry("config:app", "Show the settings, or change one."),
    "deployment": Entry(
        "deployment:app",
        "Start or stop recording at a site; show the state of the sensor.",
        is_advanced=True,
    ),
    "effort": Entry(
        "effort:app", "Show how much of the planned time was recorded, and why the rest was not."
    ),
    "disk": Entry(
        "disk:app",
        "Show free space, how long it lasts, what is deleted next and why, and what was deleted.",
    ),
    "alarms": Entry("alarms:app", "Show the faults that the sensor has found in itself."),
    "stores": Entry(
        "stores:app", "Show which databases were damaged, what was saved, and what was lost."
    ),
    "metrics": Entry("metrics:app", "Print the state of the sensor as metrics for Prometheus."),
    "recordings": Entry(
        "heard_recordings:app", "Look up what was recorded; listen to it, draw it, copy it."
    ),
    "detections": Entry(
        "heard_detections:app", "Look up what was heard: list, count, listen, draw, copy."
    ),
    "review": Entry("review:app", "Review detections; see how often the model is right, by score."),
    "export": Entry(
        "export:app", "Export what was heard, and when, for R, Raven, GBIF and other tools."
    ),
    "backup": Entry(
        "backup:backup_app", "Copy the settings and the databases of a sensor into one file."
    ),
    "restore": Entry(
        "backup:restore_app", "Restore a sensor from a backup, into an empty ACOUPI_HOME."
    ),
    "update": Entry(
        "update:update_app",
        "Run from a newer image; go back automatically if that does not record.",
    ),
    "rollback": Entry("update:rollback_app", "Undo the last update."),
    "hub": Entry("hub:app", "Collect what many sensors heard in one database.", is_advanced=True),
    "fleet": Entry(
        "fleet_status:app",
        "Show which of many sensors are silent or unwell; change their settings.",
        is_advanced=True,
    ),
    "help": Entry(
        "help:app", "Read the documentation, which is on this machine: no network is needed."
    ),
    "compose": Entry(
        "compose:app", "Run the sensor in containers, one per worker.", is_advanced=True
    ),
    "doctor": Entry(
        "doctor:doctor_app",
        "Check whether this machine can run the sensor: Docker, disk, memory, microphone, clock.",
    ),
    "web": Entry(
        "web:app", "Log in to the sensor's web page; apply changes that it cannot make itself."
    ),
    "program": Entry(
        "program:app", "Start a program of your own, or try one on the recordings of a folder."
    ),
    "task": Entry("tasks:app", "List the tasks of the program, or run one now.", is_advanced=True),
    "messages": Entry(
        "messages:app", "Show messages that were sent, are waiting, or were refused; retry them."
    ),
    "workers": Entry(
        "workers:app",
        "Start, stop and inspect the worker processes; a deployment does this for you.",
        is_advanced=True,
    ),
    "services": Entry(
        "services:app", "Have systemd start the sensor when the board starts.", is_advanced=True
    ),
    "celery": Entry(
        "workers:celery_app",
        "Run a Celery command on this sensor (for Celery users).",
        is_advanced=True,
    ),
}


class WholeLines(TyperGroup):
    """A group whose list of commands is not truncated."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what each command is for: the first paragraph of its help."""
        shown = {name: one for name, one in self.commands.items() if not one.hidden}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(limit=_WHOLE)) for name, one in shown.items()]
            )


class LazyCommands(MutableMapping[str, Any]):
    """The commands of the table, each built when it is first looked up."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a command; KeyError if there is no command of that name."""
        if name not in self._built:
            module, _, attribute = COMMANDS[name].place.partition(":")
            app = getattr(import_module(f"acoupi.cli.{module}"), attribute)
            self._built[name] = typer.main.get_command(app)
            self._built[name].name = name
        return self._built[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is such a command; imports nothing."""
        return name in COMMANDS

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        del self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def group(name: str) -> typer.Typer:
    """Return an empty group of commands, to be filled by its module."""
    return typer.Typer(
        name=name,
        cls=WholeLines,
        help=COMMANDS[name].purpose,
        rich_markup_mode=None,
        no_args_is_help=True,
        add_completion=False,
    )


def single() -> typer.Typer:
    """Return a typer app for a single command that is not in a group."""
    return typer.Typer(rich_markup_mode=None, add_completion=False)
