"""Asking: the questions that the configuration describes, put to a person."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from acoupi.cli.output import print_table, say
from acoupi.errors import AcoupiError
from acoupi.printing import printable

if TYPE_CHECKING:
    from acoupi.config import Question

__all__ = ["ask", "ask_for_program", "microphones"]

MICROPHONE_COLUMNS = {
    "number": "",
    "name": "microphone",
    "identity": "identity",
    "channels": "channels",
    "samplerates": "sample rates (Hz)",
    "resampled_by": "may be resampled by",
}


def microphones(*, with_rates: bool = True) -> list[dict[str, Any]]:
    """Return the microphones that are there, as rows of a table.

    Parameters
    ----------
    with_rates
        Find out which sample rates they take, by opening each for a moment.

    Raises
    ------
    DeviceUnavailableError
        If PortAudio is not installed or does not start.
    """
    from acoupi.audio.portaudio import list_devices, offered_samplerates
    from acoupi.devices.microphones import list_microphones

    found = list_devices()
    return [
        {
            "number": number,
            "name": microphone.name,
            "identity": microphone.identity,
            "channels": microphone.channels,
            "samplerate": microphone.samplerate,
            "samplerates": offered_samplerates(device) if with_rates else [],
            "is_default": device.is_default,
            "resampled_by": microphone.resampled_by,
        }
        for number, (microphone, device) in enumerate(
            zip(list_microphones(devices=lambda: found), found, strict=True), start=1
        )
    ]


def ask(question: "Question") -> Any:
    """Put one question to the person at the terminal, and return the answer."""
    if question.problem is not None:
        typer.secho(
            printable(f"  Not accepted: {question.problem.why}"), err=True, fg=typer.colors.RED
        )
    if question.is_section:
        return _ask_section(question)
    if question.secret:
        return _ask_secret(question)
    if question.kind == "yes or no":
        return typer.confirm(_text(question), default=bool(question.default))
    return _ask_text(question, _choices(question))


def _text(question: "Question") -> str:
    name = question.name.replace(".", " > ")
    return f"{name}: {question.description}" if question.description else name


def _ask_section(question: "Question") -> bool:
    typer.echo()
    asked = "Use" if question.kind == "optional section" else "Go through the settings of"
    meant = f" ({question.description})" if question.description else ""
    name = question.name.replace(".", " > ")
    return typer.confirm(f"{asked} {name}{meant}?", default=question.default)


def _ask_secret(question: "Question") -> Any:
    kept = " (Enter keeps the present one)" if question.default else " (Enter for none)"
    hint = "" if question.required else kept
    default: Any = None if question.required else ""
    return typer.prompt(_text(question) + hint, default, hide_input=True, show_default=False)


def _ask_text(question: "Question", choices: Sequence[str]) -> Any:
    present = _shown(question.default)
    hint = f" [{present}]" if present else ""
    kind = "" if choices else f" ({question.kind})"
    default: Any = None if question.required and not present else ""
    answer = typer.prompt(f"{_text(question)}{kind}{hint}", default, show_default=False)
    answer = str(answer).strip()
    if not answer:
        return question.default
    number = int(answer) if answer.isdigit() and answer not in choices else 0
    return choices[number - 1] if 0 < number <= len(choices) else answer


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    if value is None or isinstance(value, dict):
        return ""
    return str(getattr(value, "value", value))


def _choices(question: "Question") -> Sequence[str]:
    """Show what there is to choose from, and return it."""
    sources: dict[str, Callable[[Question], Sequence[str]]] = {
        "microphones": _show_microphones,
        "timezones": _show_timezone,
    }
    if question.choices_from in sources:
        return sources[question.choices_from](question)
    for number, choice in enumerate(question.choices, start=1):
        say(f"  {number}  {choice}")
    return question.choices


def _show_microphones(question: "Question") -> list[str]:
    del question
    try:
        rows = microphones()
    except AcoupiError as error:
        say(f"  {error.message} {error.why or ''}")
        return []
    empty = "  No microphone is plugged in here; its name can be given all the same."
    print_table(rows, MICROPHONE_COLUMNS, empty=empty)
    return [row["identity"] or row["name"] for row in rows]


def _show_timezone(question: "Question") -> list[str]:
    del question
    from acoupi.devices.clock import get_system_timezone

    zone = get_system_timezone()
    if zone:
        typer.echo(f"  1  {zone} (of this machine)")
    return [zone] if zone else []


def ask_for_program(present: str | None) -> str:
    """Let the person choose a program; Enter keeps the present one."""
    from acoupi.stack.loading import available_programs, load_program_class

    names = list(available_programs())
    typer.echo("What should the sensor do?")
    for number, name in enumerate(names, start=1):
        try:
            first = (load_program_class(name).__doc__ or "").strip().partition("\n")[0]
        except AcoupiError as error:
            first = f"({error.message})"
        typer.echo(f"  {number}  {name:<12} {first}")
    default = present or ("default" if "default" in names else names[0])
    answer = str(typer.prompt("Program, by number or name", default)).strip()
    return names[int(answer) - 1] if answer.isdigit() and 0 < int(answer) <= len(names) else answer
