"""``acoupi effort``: how every second of a deployment was spent."""

import csv
import datetime
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.heard import Hub, TokenFile, hub_reader
from acoupi.cli.output import example, print_json, print_record, print_table, warn, working
from acoupi.cli.table import single
from acoupi.cli.tables import width_of, wrapped
from acoupi.cli.timezones import shown_time
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.telling import shown_seconds, shown_share

if TYPE_CHECKING:
    from acoupi.components.types import Store
    from acoupi.data import EffortSpan, EffortState
    from acoupi.effort import CapturePlan
    from acoupi.exports.effort_report import Effort, GroupedSource, Tally
    from acoupi.programs import AcoupiProgram

__all__ = ["app", "plan_of"]

app = single()

EPILOG = example('acoupi effort --deployment "Old oak" --from 2024-06-01 --to 2024-06-07')
LEVELS = "▁▂▃▄▅▆▇█"
NOT_PLANNED, NOTHING = "·", "✗"
LEGEND = (
    f"{LEVELS[0]} to {LEVELS[-1]}: little to all of the plan; "
    f"{NOTHING}: nothing of it; {NOT_PLANNED}: nothing planned"
)
FIRST, WIDTH = 12, 80
"""Widths in characters: the dates before the bars; a line, where the terminal's is unknown."""
MOST_GAPS = 30
CSV_COLUMNS = (
    "start", "end", "duration_s", "state", "detail", "microphone_suspect_s", "analysed_fraction",
)  # fmt: skip
GAP_COLUMNS = {"start": "from", "end": "to", "lost": "lost", "state": "what", "detail": "why"}


@app.command(epilog=EPILOG)
def effort(
    deployment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_ID",
            help="The deployment; by default, the latest.",
            autocompletion=home.complete.deployments,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From this time on: 2024-06-01, yesterday."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Up to this time, or the end of this day."),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write every span to a file; - prints them."),
    ] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how much of the planned time was recorded, and why the rest was not.

    Every second of a deployment is exactly one of: recorded, off schedule,
    condition refused, device missing, overrun, disk full, not running, clock
    unknown. Times of day are in the time zone of the program.
    """
    from acoupi.exports.effort_report import find_deployment, measure, read_effort
    from acoupi.system.alarms import suspect_times
    from acoupi.system.choosing import time_of
    from acoupi.system.reading import zone_of

    zone = zone_of(home.settings()) if hub is None else datetime.UTC
    first, last = time_of("--from", since, zone), time_of("--to", until, zone, ends_day=True)
    if csv_file is not None and as_json:
        raise ConfigurationError(
            "--csv and --json cannot be given together.",
            "acoupi effort --csv effort.csv",
            why="both choose the format of the output.",
        )
    store, plan = _store_and_plan() if hub is None else (hub_reader(hub, token_file), None)
    with working("Adding up"):
        which = find_deployment(store, deployment)
        found, spans = read_effort(
            store,
            which,
            first,
            last,
            plan=plan,
            grouped=csv_file is None,
            suspect=suspect_times(home.settings()) if hub is None else (),
        )
        found.deleted, found.in_clips = store.get_given_up(which, found.since, found.until)
        found.for_room = store.count_given_up(which, found.since, found.until)
        if csv_file is not None:
            with _opened(csv_file) as file:
                measure(found, _written(found, spans, file))
        else:
            measure(found, spans)
    if as_json:
        print_json(found.as_json())
    elif csv_file != Path("-"):
        _show(found)


def _store_and_plan() -> "tuple[GroupedSource, CapturePlan | None]":
    """Return the store of the sensor and the plan of its program.

    If the program cannot be loaded, the plan in the store is used.
    """
    from acoupi.system.state import store_of

    found = home.sensor()
    try:
        program = home.load(found, only_reads=True)
    except AcoupiError as error:
        store = store_of(found.settings)
        if store is None:
            raise
        warn(f"the program cannot be loaded, so this comes from its store alone: {error.message}")
        return store, None
    return _store_of(program), plan_of(program)


def plan_of(program: "AcoupiProgram[Any]") -> "CapturePlan | None":
    """Return the recording plan of a program, if it has one."""
    ask = getattr(program, "get_capture_plan", None)
    return None if ask is None else ask(program.config)


def _store_of(program: "AcoupiProgram[Any]") -> "Store":
    from acoupi.components.types import Store

    store = getattr(program, "store", None)
    if not isinstance(store, Store):
        raise ConfigurationError(
            "this sensor keeps no record of its effort.",
            "acoupi setup --program default",
            why="its program does not store recordings.",
        )
    return store


# Files


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path == Path("-"):
        yield sys.stdout
        return
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise AcoupiError(
            f'cannot write "{path}".',
            "acoupi effort --csv effort.csv",
            why=f"{error.strerror or error}.",
        ) from error


def _written(
    found: "Effort", spans: Iterable["EffortSpan"], file: TextIO
) -> Iterator["EffortSpan"]:
    """Write spans as they are read."""
    writer = csv.writer(file)
    writer.writerow(CSV_COLUMNS)
    for span in spans:
        times = span.start.isoformat(), span.end.isoformat()
        suspect = found.suspect_in(span.state, span.start, span.end) / 1e6
        row = [f"{span.duration:.6f}", span.state.value, span.detail, f"{suspect:.6f}"]
        row.append(f"{span.analysed_fraction:.6g}")
        writer.writerow([*times, *row])
        yield span


# Output


def _given_up(found: "Effort") -> dict[str, str]:
    """Return how much sound was deleted or kept as clips, where clips are made."""
    if not found.in_clips:
        return {}
    given_up = shown_seconds(found.deleted - found.in_clips)
    return {"given up": f"{given_up} after analysis; {shown_seconds(found.in_clips)} kept as clips"}


def _for_room(found: "Effort") -> dict[str, str]:
    """Return how much sound was deleted for lack of room; its detections are kept."""
    parts = [f"{shown_seconds(one.seconds)} ({kind.value})" for kind, one in found.for_room.items()]
    return {"for room": f"sound of {', '.join(parts)} was deleted: acoupi disk"} if parts else {}


def _left_out(found: "Effort") -> dict[str, str]:
    """Return the share of recordings that is analysed, where it is not all of them."""
    total = found.total
    if not total.left_out or not total.recorded:
        return {}
    share = shown_share(total.analysed / total.recorded)
    return {"analysed": f"{share} of that, chosen by time alone: detections are a sample"}


def _captured(found: "Effort") -> dict[str, str]:
    """Return how much was recorded, and its share of the plan if there is one."""
    total = found.total
    if not found.has_plan:
        return {"captured": shown_seconds(total.recorded)}
    share = shown_share(total.share)
    return {
        "planned": shown_seconds(total.planned),
        "captured": f"{shown_seconds(total.recorded)}, {share} of the plan",
    }


def _show(found: "Effort") -> None:
    total, zone = found.total, found.timezone
    print_record(
        {
            "deployment": found.deployment.name,
            "from": shown_time(found.since, zone=zone),
            "to": f"{shown_time(found.until, zone=zone)} ({zone.key})",
            **_captured(found),
            **_left_out(found),
            **_given_up(found),
            **_for_room(found),
        }
    )
    if not found.has_plan:
        warn("the program does not say when it plans to record, so nothing counts as missed.")
    if found.unsynchronised:
        warn(
            f"{shown_seconds(found.unsynchronised / 1e6)} were recorded while no time server had "
            "set the board's clock; the times are those of its own clock."
        )
    if total.suspect:
        warn(
            f"{shown_seconds(total.suspect / 1e6)} were recorded by a microphone that seems to "
            "have gone deaf, by its own trend; they count as recorded: acoupi alarms --history"
        )
    print_table(_day_rows(found), _day_columns(found), empty="")
    _show_hours(found)
    _show_gaps(found)
    print_table(_total_rows(total), {"state": "in all", "time": "time", "share": "share"}, empty="")


def _states(tally: "Tally") -> list["EffortState"]:
    """Return the states of missed time that occur."""
    usual = ("recorded", "off_schedule")
    return [
        state
        for state, microseconds in tally.microseconds.items()
        if microseconds and state.value not in usual
    ]


def _day_columns(found: "Effort") -> dict[str, str]:
    total, has_plan = found.total, found.has_plan
    missed = {state.value: _words(state) for state in _states(total)}
    return {
        "date": "day",
        **({"planned": "planned"} if has_plan else {}),
        "recorded": "recorded",
        **({"share": "captured"} if has_plan else {}),
        **({"suspect": "mic. suspect"} if total.suspect else {}),
        **missed,
        "off_schedule": "off schedule",
        "total": "in all",
    }


def _day_rows(found: "Effort") -> list[dict[str, Any]]:
    return [
        {
            "date": day.date.isoformat(),
            "planned": shown_seconds(day.tally.planned),
            "share": shown_share(day.tally.share),
            "suspect": shown_seconds(day.tally.suspect / 1e6),
            **{
                state.value: shown_seconds(day.tally.seconds(state))
                for state in day.tally.microseconds
            },
            "total": shown_seconds(day.tally.total),
        }
        for day in found.days
    ]


def _show_hours(found: "Effort") -> None:
    ruler = "".join(f"{hour:<6}" for hour in (0, 6, 12, 18))
    typer.echo(f"{'hour':<{FIRST}}{ruler}({found.timezone.key})")
    for day in found.days:
        bar = "".join(_level(day.hours.get(hour)) for hour in range(24))
        typer.echo(f"{day.date.isoformat():<{FIRST}}{bar}".rstrip())
    for line in wrapped(LEGEND, width_of() or WIDTH, " " * FIRST):
        typer.echo(line)
    typer.echo()


def _level(hour: "Tally | None") -> str:
    """Return the bar of an hour: the coverage of its plan."""
    if hour is None:
        return " "
    if hour.share is None:
        return NOT_PLANNED
    if not hour.recorded:
        return NOTHING
    return LEVELS[int(hour.share * (len(LEVELS) - 1))]


def _show_gaps(found: "Effort") -> None:
    longest = sorted(found.gaps, key=lambda gap: -gap.lost)[:MOST_GAPS]
    rows = [
        {
            "start": shown_time(gap.start, zone=found.timezone),
            "end": shown_time(gap.end, zone=found.timezone),
            "lost": shown_seconds(gap.lost_seconds),
            "state": _words(gap.state),
            "detail": gap.detail,
        }
        for gap in sorted(longest, key=lambda gap: gap.start)
    ]
    columns = {**GAP_COLUMNS, "start": f"from ({found.timezone.key})"}
    none = "Everything planned was recorded.\n" if found.has_plan else ""
    print_table(rows, columns, empty=none)
    if others := len(found.gaps) - len(longest):
        lost = (sum(one.lost for one in found.gaps) - sum(one.lost for one in longest)) / 1e6
        typer.echo(
            f"and {others} shorter gaps, {shown_seconds(lost)} in total;  "
            "for all of them: acoupi effort --csv effort.csv\n"
        )


def _total_rows(total: "Tally") -> list[dict[str, Any]]:
    """Return the states that occur, with shares that add up to 100 %."""
    states = [state for state, microseconds in total.microseconds.items() if microseconds]
    shares = _percents([total.microseconds[state] for state in states])
    rows = [
        {
            "state": _words(state),
            "time": shown_seconds(total.seconds(state)),
            "share": f"{share / 100:.2f} %",
        }
        for state, share in zip(states, shares, strict=True)
    ]
    return [*rows, {"state": "total", "time": shown_seconds(total.total), "share": "100.00 %"}]


def _percents(parts: list[int]) -> list[int]:
    """Return parts as hundredths of a percent which add up to 100 %.

    Examples
    --------
    >>> _percents([1, 1, 1])
    [3334, 3333, 3333]
    """
    whole = sum(parts)
    floors = [part * 10_000 // whole for part in parts]
    missing = 10_000 - sum(floors)
    by_rest = sorted(range(len(parts)), key=lambda n: -(parts[n] * 10_000 % whole))
    for position in by_rest[:missing]:
        floors[position] += 1
    return floors


def _words(state: "EffortState") -> str:
    return state.value.replace("_", " ")
