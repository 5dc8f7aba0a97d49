"""``acoupi hub analyse``: recordings made by other recorders, analysed on a hub."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli.checks import AsJson
from acoupi.cli.deployment import UNHEALTHY
from acoupi.cli.hub_options import Database, opened_database
from acoupi.cli.output import done, example, print_json, print_table, say, warn, working
from acoupi.cli.setup import ANY_OPTION
from acoupi.cli.table import single
from acoupi.clock import monotonic
from acoupi.errors import HubUnavailableError, ParameterError

if TYPE_CHECKING:
    from acoupi.hub.archive_rows import Season
    from acoupi.hub.archive_runs import Done, Outcome
    from acoupi.hub.archives import TakenIn

__all__ = ["app"]

app = single()

SAID_EVERY = 5.0
"""Seconds between two lines on progress."""
EXAMPLE = 'acoupi hub analyse /media/card --program sounds --deployment "Old oak"'


@app.command("analyse", context_settings=ANY_OPTION, epilog=example(EXAMPLE))
def analyse(
    context: typer.Context,
    place: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|s3://BUCKET/PREFIX", help="Where the recordings are; they stay there."
        ),
    ],
    program: Annotated[
        str,
        typer.Option(
            metavar="P",
            help="The program whose model analyses them. Its settings are options, as in setup.",
        ),
    ],
    deployment: Annotated[
        str, typer.Option(metavar="NAME", help="A name for where and when they were recorded.")
    ],
    database: Database,
    sensor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the recorder at the hub; by default, that of the deployment.",
        ),
    ] = None,
    latitude: Annotated[
        float | None,
        typer.Option(
            min=-90, max=90, metavar="DEG", help="Degrees north; by default, from the files."
        ),
    ] = None,
    longitude: Annotated[
        float | None, typer.Option(min=-180, max=180, metavar="DEG", help="Degrees east.")
    ] = None,
    timezone: Annotated[
        str,
        typer.Option(
            metavar="ZONE",
            help="Zone of times without one: Europe/London, or +01:00 if the recorder had no "
            "summer time.",
        ),
    ] = "UTC",
    piece: Annotated[
        float,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="Longer files are analysed in equal pieces; they stay whole.",
        ),
    ] = 60,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Analyse in N processes on this machine; 0: leave it to the hub's workers.",
        ),
    ] = 0,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="With --workers: folder of files that settings may name. Repeatable.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all is analysed.")
    ] = True,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Analyse again recordings that failed in earlier runs."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Analyse the recordings of other recorders: AudioMoth, Song Meter, Bugg and more.

    Times come from GUANO, wamd, AudioMoth's comment, or the file's name. A second run continues
    where the first stopped. Exit code 3: some files were not analysed; they are listed.
    """
    if (latitude is None) != (longitude is None):
        raise ParameterError(
            "--latitude",
            "a place has a latitude and a longitude.",
            "--latitude 51.5 --longitude -0.1",
            why="only one of them is given.",
        )
    with opened_database(database), working("Taking in") as show:
        from acoupi.hub.archive_rows import Season
        from acoupi.hub.archive_runs import Order, analyse_archive, program_of, zone_of

        season = Season(
            sensor or _as_name(deployment),
            deployment,
            program_of(program, context.args),
            latitude,
            longitude,
            zone_of(timezone),
        )
        order = Order(
            place, season, piece, workers, tuple(files or ()),
            is_awaited=wait, is_retried=retry_failed,
        )  # fmt: skip
        outcome = analyse_archive(database, order, _Watching(show))
    if as_json:
        print_json(_as_json(season, outcome))
    else:
        _show(deployment, outcome)
    if outcome.troubles:
        raise typer.Exit(UNHEALTHY)


def _as_name(deployment: str) -> str:
    """Return the hub's name for the recorder of a deployment.

    Examples
    --------
    >>> _as_name("Old oak, 2024")
    'Old-oak-2024'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", deployment).strip("-._")[:64]


class _Watching:
    """Prints the progress, now and then."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._began, self._said_at = show, monotonic(), 0.0
        self._first: int | None = None

    def taking_in(self, found: "TakenIn") -> None:
        """Report how many files were taken in, and how fast."""
        rate = found.files / (monotonic() - self._began)
        self._say(f"Taking in: {found.files:,} files, {rate:,.0f} a second")

    def analysing(self, now: "Done") -> None:
        """Report how many recordings were analysed, how fast, and the time left."""
        over = now.done + now.failed
        if self._first is None:
            self._first, self._began = over, monotonic()
        since = over - self._first
        rate = since / max(monotonic() - self._began, 0.001)
        left = f", about {now.left / rate / 60:,.0f} minutes left" if since else ""
        self._say(
            f"Analysing: {over:,} of {over + now.left:,} recordings, {rate:.1f} a second{left}"
        )

    def unavailable(self, error: HubUnavailableError) -> None:
        """Warn that something does not answer."""
        warn(f"{error.message} Nothing is lost: acoupi will try again.")

    def without_workers(self, program: str) -> None:
        """Warn that no worker analyses, and what to do."""
        warn(
            f"no worker has the program {program}: start one (acoupi help hub-analysis), "
            "or run this again with --workers 2"
        )

    def _say(self, text: str) -> None:
        if monotonic() - self._said_at >= SAID_EVERY:
            self._said_at = monotonic()
            self._show(text)


def _as_json(season: "Season", outcome: "Outcome") -> dict[str, Any]:
    taken, now = outcome.taken, outcome.analysed
    return {
        "sensor": season.sensor,
        "deployment": season.deployment,
        "deployment_id": season.deployment_id,
        "files": {**taken.by_fate, "no_sound": dict(taken.others)},
        "recordings": {
            "new": taken.recordings, "done": now.done, "failed": now.failed, "left": now.left,
        },
        "species": outcome.species,
        "troubles": [one._asdict() for one in outcome.troubles],
    }  # fmt: skip


def _show(deployment: str, outcome: "Outcome") -> None:
    taken, now = outcome.taken, outcome.analysed
    words = ", ".join(f"{count:,} {fate}" for fate, count in taken.by_fate.items() if count)
    say(f"Sound files: {words or 'none'}.")
    if taken.others:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in taken.others.most_common(5))
        say(f"Other files, not read: {kinds}.")
    for one in outcome.troubles:
        say(f"  {one.fate}: {one.key}: {one.why}")
    rows = [{"species": name or "-", "detections": f"{n:,}"} for name, n in outcome.species.items()]
    if rows:
        print_table(rows, {"species": "species", "detections": "detections"}, empty="")
    if now.left:
        say(f"{now.left:,} recordings wait for a worker: acoupi hub workers")
    failed = f", {now.failed:,} failed" if now.failed else ""
    done(f"{now.done:,} recordings of {deployment} are analysed{failed}.")
    name = shlex.quote(deployment)
    say(f"To export them: acoupi export csv --deployment {name} -o {_as_name(deployment)}")
