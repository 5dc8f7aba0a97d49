"""Asking: the questions that the configuration describes, put to a person."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from acoupi.cli.output import print_table, say
from acoupi.cli.tables import width_of, wrapped
from acoupi.cli.terminal import painted
from acoupi.errors import AcoupiError
from acoupi.printing import printable

if TYPE_CHECKING:
    from acoupi.config import Question

__all__ = ["GoBack", "ask", "ask_for_program", "microphones", "shown_answer", "yes_or_no"]

BACK, EXPLAIN = "<", "?"
YES, NO = ("y", "yes"), ("n", "no")
TEXT_WIDTH = 76

MICROPHONE_COLUMNS = {
    "number": "",
    "name": "microphone",
    "identity": "identity",
    "channels": "channels",
    "samplerates": "sample rates (Hz)",
    "resampled_by": "may be resampled by",
}


def microphones(*, with_rates: bool = True) -> list[dict[str, Any]]:
    """Return the connected microphones as rows of a table.

    Parameters
    ----------
    with_rates
        Also find their sample rates, by opening each for a moment.

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


class GoBack(Exception):  # noqa: N818 - no error: the person wants the question before
    """The person wants to answer the previous question again."""


def ask(question: "Question") -> Any:
    """Put one question to the person at the terminal, and return the answer.

    Raises
    ------
    GoBack
        If the person wants the previous question.
    """
    if question.problem is not None:
        typer.echo(
            painted(printable(f"  Not accepted: {question.problem.why}"), fg=typer.colors.RED),
            err=True,
        )
    if question.is_section:
        return _ask_section(question)
    if question.secret:
        return _ask_secret(question)
    if question.kind == "yes or no":
        return yes_or_no(_text(question), default=bool(question.default), about=question)
    return _ask_text(question, _choices(question))


def _text(question: "Question") -> str:
    name = question.name.replace(".", " > ")
    return f"{name}: {question.description}" if question.description else name


def _prompt(
    text: str, about: "Question | None" = None, *, default: Any = "", hidden: bool = False
) -> str:
    """Return the typed answer; "?" explains the question, "<" goes back."""
    while True:
        *lines, last = wrapped(text, width - 2) if (width := width_of()) else [text]
        for line in lines:
            say(line)
        answer = str(typer.prompt(last, default, hide_input=hidden, show_default=False)).strip()
        if answer == BACK:
            raise GoBack
        if answer != EXPLAIN:
            return answer
        for line in _explained(about):
            say(f"  {line}")


def _explained(question: "Question | None") -> Iterator[str]:
    if question is not None:
        yield from wrapped(question.description or "This setting has no description.", TEXT_WIDTH)
        kind = ", ".join(question.choices) or question.kind
        yield f"Possible values: {kind}."
        if not question.is_section:
            names = f"{question.name.replace('.', '__').upper()}"
            section = "ACOUPI_" if question.name.startswith("sensor.") else "ACOUPI_CONFIG__"
            yield f"As an option: --{question.name}; as a variable: {section}{names}"
    yield "Enter takes what is in brackets. < goes back. Ctrl-C keeps the answers for next time."


def yes_or_no(text: str, *, default: bool, about: "Question | None" = None) -> bool:
    """Ask for yes or no.

    Raises
    ------
    GoBack
        If the person wants the previous question.
    """
    while True:
        answer = _prompt(f"{text} [{'Y/n' if default else 'y/N'}]", about).lower()
        if not answer:
            return default
        if answer in YES or answer in NO:
            return answer in YES
        say("  Not accepted: answer y or n.", err=True)


def _ask_section(question: "Question") -> bool:
    typer.echo()
    asked = "Use" if question.kind == "optional section" else "Go through the settings of"
    meant = f" ({question.description})" if question.description else ""
    name = question.name.replace(".", " > ")
    return yes_or_no(f"{asked} {name}{meant}?", default=bool(question.default), about=question)


def _ask_secret(question: "Question") -> Any:
    kept = " (Enter keeps the current one)" if question.default else " (Enter for none)"
    hint = "" if question.required else kept
    default: Any = None if question.required else ""
    return _prompt(_text(question) + hint, question, default=default, hidden=True)


def _ask_text(question: "Question", choices: Sequence[str]) -> Any:
    present = shown_answer(question.default)
    hint = f" [{present}]" if present else ""
    kind = "" if choices else f" ({question.kind})"
    default: Any = None if question.required and not present else ""
    answer = _prompt(f"{_text(question)}{kind}{hint}", question, default=default)
    if not answer:
        return question.default
    number = int(answer) if answer.isdigit() and answer not in choices else 0
    return choices[number - 1] if 0 < number <= len(choices) else answer


def shown_answer(value: Any) -> str:
    """Return a value as a question or a summary shows it; empty: none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(shown_answer(item) for item in value)
    if value is None or isinstance(value, dict):
        return ""
    return str(getattr(value, "value", value))


def _choices(question: "Question") -> Sequence[str]:
    """Show the choices, and return them."""
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
    try:
        rows = microphones()
    except AcoupiError as error:
        say(f"  {error.message} {error.why or ''}")
        return []
    empty = "  No microphone is plugged in here; you can still type its name."
    print_table(rows, MICROPHONE_COLUMNS, empty=empty)
    return [row["identity"] or row["name"] for row in rows]


def _show_timezone(question: "Question") -> list[str]:
    from acoupi.devices.clock import get_system_timezone

    zone = get_system_timezone()
    if zone:
        typer.echo(f"  1  {zone} (the zone of this machine)")
    return [zone] if zone else []


def ask_for_program(present: str | None) -> str:
    """Let the person choose a program; Enter keeps the current one."""
    from acoupi.stack.loading import load_program_class, programs_to_choose

    places = programs_to_choose()
    names = list(places)
    typer.echo("What should the sensor do?")
    for number, name in enumerate(names, start=1):
        try:
            first = (load_program_class(places[name]).__doc__ or "").strip().partition("\n")[0]
        except AcoupiError as error:
            first = f"({error.message})"
        typer.echo(f"  {number}  {name:<12} {first}")
    default = present or ("default" if "default" in names else names[0])
    answer = str(typer.prompt("Program, by number or name", default)).strip()
    return names[int(answer) - 1] if answer.isdigit() and 0 < int(answer) <= len(names) else answer
