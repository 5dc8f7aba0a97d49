"""The effort that every export holds: ``effort.csv`` and ``failures.csv``."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from acoupi.clock import to_microseconds
from acoupi.data import Deployment, EffortSpan, EffortState
from acoupi.effort import Captured, CapturePlan, EffortHistory
from acoupi.errors import ParameterError
from acoupi.exports.effort_report import Effort, Part, Times, measure, read_parts
from acoupi.exports.flat import CsvWriter, iso_time
from acoupi.exports.format import write_table, written
from acoupi.exports.given_up import GivenUp
from acoupi.exports.reader import Reader
from acoupi.exports.source import Site
from acoupi.heard import Filters

__all__ = ["EFFORT", "FAILURES", "EffortColumns", "write_effort"]

EffortColumns = dict[str, tuple[str, str]]
"""Type and meaning of each column, by its name."""

EFFORT: EffortColumns = {
    "deploymentID": ("string", "the deployment"),
    "start": ("datetime", "first moment of the span, UTC"),
    "end": ("datetime", "first moment after it, UTC"),
    "duration_s": ("number", "its length, seconds"),
    "state": ("string", f"one of {', '.join(state.value for state in EffortState)}"),
    "reason": ("string", "why, in words"),
    "samplingFraction": (
        "number",
        "share of the hours of its schedule that it records, 0 to 1; empty: unknown",
    ),
    "clockError_s": (
        "number",
        "largest error of the clock by its own estimate, seconds; empty: unknown",
    ),
    "microphoneSuspect_s": (
        "number",
        "seconds of it in which the microphone was deaf, by its own trend; they count as recorded",
    ),
    "givenUp_s": (
        "number",
        "seconds of it that were recorded and then given up, and are no longer in any file or clip",
    ),
    "analysedFraction": (
        "number",
        "share of its recordings that models analyse, 0 to 1: rate = detections / (hours x share)",
    ),
}
FAILURES: EffortColumns = {
    "deploymentID": ("string", "the deployment"),
    "failureStart": ("datetime", "start of the time without recording, UTC"),
    "failureEnd": ("datetime", "its end, UTC"),
    "failureType": ("string", "state in effort.csv"),
    "failureReason": ("string", "why, in words"),
    "lost_s": ("number", "planned time between the two, seconds"),
}


def write_effort(
    reader: Reader,
    filters: Filters,
    folder: Path,
    plan: CapturePlan | None = None,
    suspect: Times = (),
) -> list[Site]:
    """Write the effort of the deployments that are chosen, and return them with it.

    Only the deployment and the time of the filters choose: a sensor that listened for one
    species has listened for all. `plan` is of those for which the store knows none, `suspect`
    when the microphone heard nothing by its own trend.
    """
    sites = []
    with written(folder / "effort.csv") as file:
        writer = CsvWriter(file)
        writer.writerow(EFFORT)
        for deployment in _chosen(reader, filters):
            site = _measured(reader, deployment, filters, writer, plan=plan, suspect=suspect)
            if site is not None:
                sites.append(site)
    write_table(folder / "failures.csv", list(FAILURES), _failures(sites))
    return sites


def _chosen(reader: Reader, filters: Filters) -> Iterator[Deployment]:
    for one in reader.get_deployments():
        if filters.deployments is None or one.id in filters.deployments:
            yield one


def _measured(
    reader: Reader,
    deployment: Deployment,
    filters: Filters,
    writer: Any,
    *,
    plan: CapturePlan | None,
    suspect: Times,
) -> Site | None:
    """Write a deployment's spans; None if it does not reach into the time of the filters."""
    try:
        whole, _ = read_parts(reader, deployment, as_known=True, plan=plan)
        effort, parts = read_parts(
            reader, deployment, filters.since, filters.until, as_known=True, plan=plan,
            suspect=suspect,
        )  # fmt: skip
    except ParameterError:
        return None
    last: list[EffortHistory] = []
    rows = _written(effort, parts, GivenUp(reader, deployment), writer, last)
    measure(effort, rows)
    return Site(deployment, whole.until, effort, last[-1].plans if last else ())


def _written(
    effort: Effort,
    parts: Iterable[Part],
    given_up: GivenUp,
    writer: Any,
    last: list[EffortHistory],
) -> Iterator[EffortSpan]:
    """Write spans as they are read, and keep the last history."""
    for spans, history in parts:
        last[:] = [history]
        starts = [one.start for one in history.captured]
        for span in spans:
            writer.writerow([
                effort.deployment.id,
                iso_time(span.start),
                iso_time(span.end),
                f"{span.duration:.6f}",
                span.state.value,
                span.detail,
                _sampling_fraction(span, history),
                _clock_error(span, history.captured, starts),
                f"{effort.suspect_in(span.state, span.start, span.end) / 1e6:.6f}",
                f"{given_up.within(span) / 1e6:.6f}",
                f"{span.analysed_fraction:.6g}",
            ])  # fmt: skip
            yield span


def _sampling_fraction(span: EffortSpan, history: EffortHistory) -> str:
    plans = [one.plan for one in history.plans if one.since <= span.start] or [
        one.plan for one in history.plans[:1]
    ]
    return f"{min(1.0, plans[-1].duration / plans[-1].interval):.6g}" if plans else ""


def _clock_error(span: EffortSpan, captured: Sequence[Captured], starts: Sequence[int]) -> str:
    if span.state is not EffortState.RECORDED:
        return ""
    begin, number = to_microseconds(span.start), bisect_left(starts, to_microseconds(span.end))
    errors: list[float | None] = []
    while number and captured[number - 1].end > begin:
        number -= 1
        errors.append(captured[number].clock_error_s)
    known = [one for one in errors if one is not None]
    return f"{max(known):.6g}" if known and len(known) == len(errors) else ""


def _failures(sites: Iterable[Site]) -> Iterator[list[Any]]:
    for site in sites:
        for gap in site.effort.gaps:
            yield [
                site.deployment.id,
                iso_time(gap.start),
                iso_time(gap.end),
                gap.state.value,
                gap.detail,
                f"{gap.lost_seconds:.6f}",
            ]
