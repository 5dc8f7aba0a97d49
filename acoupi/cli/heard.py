"""What ``acoupi recordings`` and ``acoupi detections`` share: filters, ids, files, tables."""

import dataclasses
import datetime
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from acoupi.cli import home
from acoupi.cli.hub_readers import Hub, TokenFile, hub_reader, no_hub
from acoupi.cli.output import print_json
from acoupi.cli.timezones import shown_time
from acoupi.errors import AcoupiError, ConfigurationError, ParameterError

if TYPE_CHECKING:
    from acoupi.components.stores.reader import StatementReader
    from acoupi.exports.remote import RemoteReader
    from acoupi.heard import DetectionRow, RecordingRow
    from acoupi.stack.settings import Settings

__all__ = [
    "After",
    "AsCsv",
    "By",
    "DetectionId",
    "Heard",
    "Hub",
    "Limit",
    "RecordingId",
    "TokenFile",
    "file_of",
    "filtered",
    "hub_reader",
    "no_hub",
    "opened",
    "print_more",
    "print_rows",
    "short",
    "the_only",
]

SHORTEST_ID = 8
MOST_FIT = 5

AsCsv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]
By = Annotated[str, typer.Option(metavar="WHAT", help="night, day, hour, species or deployment.")]
OF_ID = "Its id, or the first characters of it if they are unique."
DetectionId = Annotated[
    str, typer.Argument(metavar="ID", help=OF_ID, autocompletion=home.complete.detections)
]
RecordingId = Annotated[
    str, typer.Argument(metavar="ID", help=OF_ID, autocompletion=home.complete.recordings)
]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="The most to show.")]
After = Annotated[
    str | None, typer.Option(metavar="ID", help="Continue after this id, the last of a page.")
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """The options that choose what was heard, as they were given."""

    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help='From this time: "2024-06-01 21:30", yesterday.'
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Up to this time, or end of this day."),
    ] = None
    deployment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_ID",
            help="Only this deployment.",
            autocompletion=home.complete.deployments,
        ),
    ] = None
    model: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this model.")] = None
    species: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this species (or other tag).")
    ] = None
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only this tag.")] = (
        None
    )
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="SCORE", help="Lowest score, 0 to 1.")
    ] = None
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE", help="Its recording: captured, kept, clipped, deleted or lost."
        ),
    ] = None
    verdict: Annotated[
        list[str] | None,
        typer.Option(metavar="VERDICT", help="right, wrong, other, unsure, or none."),
    ] = None
    sample: Annotated[
        bool | None, typer.Option("--sample", help="Only the sample that is kept for review.")
    ] = None


CHOICES = dataclasses.fields(Chosen)


@dataclasses.dataclass(frozen=True)
class Heard:
    """The stores of the sensor, or a hub, open to be read."""

    reader: "StatementReader | RemoteReader"
    zone: datetime.tzinfo
    sensor: "Settings | None"
    """The home of the sensor; None for a hub, which has many sensors."""

    @property
    def settings(self) -> "Settings":
        """The home of the sensor.

        Raises
        ------
        ConfigurationError
            If this reads a hub.
        """
        if self.sensor is None:
            raise ConfigurationError(
                "this can be done on one sensor only.",
                "the same without --hub, on the sensor; for review and sound, with --hub https://HOST",
                why="a hub's database has only what sensors reported.",
            )
        return self.sensor

    @property
    def remote(self) -> "RemoteReader | None":
        """A hub over HTTP, which has sound and accepts verdicts; None otherwise."""
        from acoupi.components.stores.reader import StatementReader

        return None if isinstance(self.reader, StatementReader) else self.reader

    def with_file(self, row: "RecordingRow") -> "RecordingRow":
        """Return a recording whose file is on this machine; a hub's is fetched first.

        Raises
        ------
        RecordingFileError
            If the hub does not have its sound.
        ConfigurationError
            If only the database of a hub is read.
        """
        if self.remote is not None:
            return self.remote.with_sound(row)
        _ = self.settings
        return row

    def recording(self, id_: str) -> "RecordingRow":
        """Return the recording whose id begins so; see `the_only`."""
        found = self.reader.recording(the_only("recording", id_, self.reader.ids_of_recordings))
        assert found is not None
        return found

    def detection(self, id_: str) -> "DetectionRow":
        """Return the detection whose id begins so; see `the_only`."""
        found = self.reader.detection(the_only("detection", id_, self.reader.ids_of_detections))
        assert found is not None
        return found

    def shown(self, time: datetime.datetime) -> str:
        """Return a time in the zone of the sensor."""
        return shown_time(time, zone=self.zone)

    @property
    def title(self) -> str:
        """The title of a table with times."""
        return f"Times in {self.zone_name}"

    @property
    def zone_name(self) -> str:
        """The zone as a heading names it."""
        return getattr(self.zone, "key", None) or str(self.zone)


@contextmanager
def opened(hub: str | None = None, token_file: Path | None = None) -> Iterator[Heard]:
    """Open the stores of the sensor for reading; the sensor is not disturbed.

    With an address, those of a hub.
    """
    if hub is not None:
        with hub_reader(hub, token_file) as reader:
            yield Heard(reader, datetime.UTC, None)
        return
    from acoupi.system.reading import reader_of, zone_of

    found = home.settings()
    with reader_of(found) as reader:
        yield Heard(reader, zone_of(found), found)


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Chosen`; it gets what they choose as ``heard, filters``."""

    @wraps(command)
    def with_options(**given: Any) -> None:
        from acoupi.system.choosing import Choice, Choosing

        chosen = Choice(**{one.name: given.pop(one.name) for one in CHOICES})
        with opened(given.pop("hub"), given.pop("token_file")) as heard:
            choosing = Choosing(heard.reader, heard.zone, before="--")
            command(heard, choosing.filters(chosen), **given)

    own = list(inspect.signature(command).parameters.values())[2:]
    options = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=one.type
        )
        for one in CHOICES
    ]
    hubs = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in (("hub", Hub), ("token_file", TokenFile))
    ]
    own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    vars(with_options).pop("__wrapped__")
    with_options.__signature__ = inspect.Signature([*own, *options, *hubs])  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in (*own, *options, *hubs)}
    return with_options


# One recording or detection


def short(id_: UUID) -> str:
    """Return the start of an id, as tables show it."""
    return str(id_)[:SHORTEST_ID]


def the_only(what: str, text: str, find: Callable[[str, int], list[UUID]]) -> UUID:
    """Return the id that starts with this text.

    Raises
    ------
    ParameterError
        If no id does, or several.
    """
    found = find(text, MOST_FIT + 1)
    if len(found) == 1:
        return found[0]
    if not found or not text.replace("-", ""):
        raise ParameterError(
            text,
            f'there is no {what} "{text}".',
            f"acoupi {what}s list",
            why=f"no {what} of this sensor has an id that starts with this.",
        )
    some = ", ".join(map(str, sorted(found)[:MOST_FIT])) + (", …" if len(found) > MOST_FIT else "")
    raise ParameterError(
        text,
        f'"{text}" fits more than one {what}.',
        f"acoupi {what}s show {min(found)}",
        why=f"the ids {some} start with it.",
    )


def file_of(row: "RecordingRow") -> Path:
    """Return the file of a recording.

    Raises
    ------
    AcoupiError
        If it has none (any more).
    """
    if row.path is not None:
        return row.path
    reasons = {
        "clipped": "it was given up after its analysis; clips of it are kept",
        "deleted": "it was deleted after its analysis, by the saving filters or for lack of room",
        "lost": "it disappeared; acoupi did not delete it",
    }
    raise AcoupiError(
        f"the recording {row.id} has no file any more.",
        "acoupi recordings list --state kept",
        why=f"{reasons.get(row.state.value, 'there never was one')}. Its data are kept.",
    )


# Output


def print_more(rows: Sequence["DetectionRow | RecordingRow"], limit: int) -> None:
    """Say how to go on where there may be more rows."""
    if len(rows) == limit:
        typer.echo(f"More: --after {short(rows[-1].id)}, or --limit {10 * limit}")


def print_rows(flat: Iterable[Mapping[str, Any]], *, as_csv: bool) -> None:
    """Print rows as comma-separated values with a head (as they are read), or as JSON."""
    if not as_csv:
        print_json(list(flat))
        return
    from acoupi.exports.flat import CsvWriter

    writer = CsvWriter(sys.stdout)
    for number, row in enumerate(flat):
        if not number:
            writer.writerow(row)
        writer.writerow(row.values())
