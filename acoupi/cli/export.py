"""``acoupi export``: what was heard, for other tools."""

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.heard import Heard, filtered
from acoupi.cli.output import done, example, warn, working
from acoupi.cli.table import single
from acoupi.errors import AcoupiError, ParameterError

if TYPE_CHECKING:
    from acoupi.effort import CapturePlan
    from acoupi.exports.formats import Format
    from acoupi.exports.source import Site
    from acoupi.heard import Filters

__all__ = ["app"]

app = single()

_PASSWORD = re.compile(r"://[^/@\s]+@")
"""Who logs in, in an address."""


def _purposes() -> str:
    from acoupi.exports.formats import FORMATS

    return "; ".join(f"{name} ({one.purpose})" for name, one in FORMATS.items())


@app.command(epilog=example("acoupi export csv -o heard --from 2024-06-01 --to 2024-06-30"))
@filtered
def export(
    heard: Heard,
    filters: "Filters",
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help=f"One of: {_purposes()}.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder for it.")
    ],
    boxes: Annotated[
        bool | None, typer.Option("--boxes", help="audacity: labels with frequencies.")
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio", help="Copy the sound files, too (not into a bundle).")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="camtrap-dp: 1.0.2, acoustic-2025 or pamdp."),
    ] = None,
    occasion: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="darwin-core: events are nights, or hours."),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            "--coordinates-precision",
            min=1e-6,
            max=10,
            metavar="DEGREES",
            help="Round all coordinates: 0.1 is about 10 km.",
        ),
    ] = None,
    latitude: Annotated[
        float | None,
        typer.Option(min=-90, max=90, metavar="DEGREES", help="Of sites that have none."),
    ] = None,
    longitude: Annotated[
        float | None,
        typer.Option(min=-180, max=180, metavar="DEGREES", help="Of sites that have none."),
    ] = None,
) -> None:
    """Export what was heard, and when, for R, Raven, GBIF and other tools.

    Every export is a folder that also holds effort.csv (what every second was used for) and
    failures.csv. A deployment that has not ended is exported up to its last known second.
    """
    from acoupi.exports import packages
    from acoupi.system.alarms import suspect_times

    options: dict[str, Any] = {"boxes": boxes, "profile": profile, "occasion": occasion}
    if audio and format_ == "bundle":
        raise ParameterError(
            format_,
            "bundle has no option --audio.",
            f"acoupi export camtrap-dp --audio -o {output}",
            why="a bundle is what can be attached to a paper.",
        )
    if format_ == "bundle":
        options["files"] = {} if heard.sensor is None else _configuration(precision)
    chosen = _format(format_, options)
    output = output.expanduser()
    with working("Exporting"):
        sites = packages.export(
            chosen,
            heard.reader,
            filters,
            output,
            precision=precision,
            place=_place(latitude, longitude),
            plan=_plan(heard),
            audio=heard.with_file if audio else None,
            suspect=() if heard.sensor is None else suspect_times(heard.sensor),
        )
    tables = "with effort.csv, failures.csv and calibration.csv"
    done(f"{output} holds {_named(sites)} as {chosen.name}, {tables}.")
    if (output / "audio-missing.csv").exists():
        warn(f"some sound files are missing: {output / 'audio-missing.csv'} lists them.")
    for site in sites:
        if site.is_open:
            end = f"{heard.shown(site.ended_on)} ({heard.zone_name})"
            warn(f"the deployment {site.deployment.name!r} has not ended: this is up to {end}.")


def _format(name: str, options: dict[str, Any]) -> "Format":
    """Return a format with its options.

    Raises
    ------
    ParameterError
        If there is none of that name, or it has no such option.
    """
    from acoupi.config.names import nearest
    from acoupi.exports.formats import FORMATS

    if name not in FORMATS:
        raise ParameterError(
            name,
            f'there is no format "{name}".',
            f"acoupi export {nearest(name, list(FORMATS)) or 'csv'} -o heard",
            why=f"it is one of {', '.join(FORMATS)}.",
        )
    kind: Any = FORMATS[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option in given.keys() - _options(kind):
        owners = [one.name for one in FORMATS.values() if option in _options(one)]
        raise ParameterError(
            name,
            f"{name} has no option --{option}.",
            f"acoupi export {owners[0]} --{option}",
            why=f"it is an option of {', '.join(owners)}.",
        )
    made: Format = kind(**given)
    return made


def _options(kind: Any) -> set[str]:
    return {one.name for one in dataclasses.fields(kind)}


def _plan(heard: Heard) -> "CapturePlan | None":
    """Return the plan of the program where the store lacks one, as ``acoupi effort`` does."""
    from acoupi.cli.effort import plan_of

    if heard.sensor is None:
        return None
    sites = heard.reader.get_deployments()
    histories = [heard.reader.get_effort(one, one.started_on, one.started_on) for one in sites]
    if all(one is None or one.plans for one in histories):
        return None
    try:
        return plan_of(home.load(home.sensor(), only_reads=True))
    except AcoupiError as error:
        warn(f"without the program, effort is from the store alone: {error.message}")
        return None


def _configuration(precision: float | None) -> dict[str, str]:
    """Return the settings of the sensor as a file; secrets and exact places are not in it."""
    from acoupi.config.sensor import dump_setting
    from acoupi.exports.source import rounded

    try:
        found = home.sensor()
        settings = json.loads(dump_setting(found.config, found.own_config, "", 2))
    except AcoupiError as error:
        warn(f"the configuration is left out, as it cannot be read: {error.message}")
        return {}

    def cleaned(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: cleaned(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [cleaned(item) for item in value]
        if isinstance(value, float) and name in ("latitude", "longitude"):
            return rounded(value, precision)
        return _PASSWORD.sub("://***@", value) if isinstance(value, str) else value

    return {
        "configuration.json": json.dumps(cleaned(settings), indent=2, ensure_ascii=False) + "\n"
    }


def _place(latitude: float | None, longitude: float | None) -> tuple[float, float] | None:
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        raise ParameterError(
            str(latitude or longitude),
            "a place has a latitude and a longitude.",
            "--latitude 51.5 --longitude -0.1",
            why="only one of them was given.",
        )
    return latitude, longitude


def _named(sites: "list[Site]") -> str:
    names = list(dict.fromkeys(one.deployment.name for one in sites))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
