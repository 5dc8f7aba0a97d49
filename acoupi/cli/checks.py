"""``acoupi check`` and ``acoupi devices``."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.output import done, example, print_json, print_table, say, warn, working
from acoupi.cli.prompts import MICROPHONE_COLUMNS, microphones
from acoupi.cli.table import single
from acoupi.cli.timezones import warn_of_timezone
from acoupi.errors import AcoupiError, HealthCheckError

if TYPE_CHECKING:
    from acoupi.stack.settings import Settings
    from acoupi.system.sensor import Sensor

__all__ = ["AsJson", "check_app", "devices_app", "run_checks", "warn_of_settings"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


logger = logging.getLogger(__name__)

check_app = single()
devices_app = single()


@check_app.command(epilog=example("acoupi check"))
def check(as_json: AsJson = False) -> None:
    """Test everything: settings, microphone, model, servers.

    Records a tenth of a second, and runs the model once on made-up sound as long as a
    recording. Exit code 3: something does not work.
    """
    found = home.sensor()
    results: list[dict[str, Any]] = []
    try:
        run_checks(found, results, quiet=as_json, only_reads=True)
        if (shared := found.target.shared) is not None:
            next(one for one in results if one["name"] == "target")["notes"].append(shared)
            if not as_json:
                warn(f"{shared}.")
    finally:
        if as_json:
            is_well = bool(results) and all(one["ok"] for one in results)
            print_json({"ok": is_well, "checks": results})
    if not as_json:
        warn_of_timezone(found.settings)
        following = " Next: acoupi start" if found.target.starts_here else ""
        done(f"The sensor is ready.{following}")


def run_checks(
    found: "Sensor",
    results: list[dict[str, Any]],
    *,
    quiet: bool = False,
    only_reads: bool = False,
) -> None:
    """Run the checks in order, until one fails.

    Parameters
    ----------
    found
        What to check.
    results
        Receives the result of each check.
    quiet
        Whether nothing is printed.
    only_reads
        Whether the program's stores are opened for reading only.

    Raises
    ------
    HealthCheckError
        If something does not work.
    AcoupiError
        If the settings are wrong.
    """
    for name, what, step in _steps(found, only_reads=only_reads):
        notes: list[str] = []
        result: dict[str, Any] = {"name": name, "ok": False, "message": None, "notes": notes}
        results.append(result)
        try:
            with _noting(notes, quiet=quiet), working(what):
                said = step()
        except AcoupiError as error:
            result["message"] = error.message
            if error.exit_code != 1:
                raise
            raise HealthCheckError(error.message, error.help, why=error.why) from error
        result |= {"ok": True, "message": said}
        if not quiet:
            done(what if said is None else f"{what}; the model: {said}")


@contextmanager
def _noting(notes: list[str], *, quiet: bool) -> Iterator[None]:
    """Collect the warnings that acoupi logs, and show them unless quiet."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: notes.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("acoupi")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        for note in () if quiet else notes:
            warn(note)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        logger.warning(warning)


def _steps(found: "Sensor", *, only_reads: bool) -> list[tuple[str, str, Callable[[], Any]]]:
    from acoupi.config.plain_credentials import plain_credential_warnings
    from acoupi.config.sensor import check_sensor, unread_section_warnings
    from acoupi.home import using_home
    from acoupi.services.status import check_broker
    from acoupi.system.home_files import check_files
    from acoupi.system.model_trial import try_model

    target = found.target

    def check_all() -> None:
        check_files(found.settings, owns_data=not target.has_own_python)
        files = found.settings.program_config_file, found.settings.celery_config_file
        note = _detections_at_hub(found.settings)
        _warn([*plain_credential_warnings(*files), *([note] if note else [])])

    def check_settings() -> None:
        check_sensor(found.settings)
        _warn(unread_section_warnings(found.settings))
        home.load(found, only_reads=only_reads)

    def check_target() -> None:
        _require_channels(found.settings)
        if target.starts_here:
            target.check()
        for one in target.status():
            if one.last_error:
                logging.getLogger(__name__).warning("%s reports: %s", one.name, one.last_error)

    files = ("files", "The files of the sensor are intact", check_all)
    can_run = ("target", "The services can run here", check_target)
    if target.has_own_python:
        return [files, can_run, *target.program_checks()]

    def check_program() -> str | None:
        with using_home(found.settings.home):
            found.program.check(found.program.config)
            return try_model(found.program)

    return [
        files,
        ("configuration", "The settings are valid", check_settings),
        can_run,
        ("broker", "Messages pass between the services", lambda: check_broker(found.settings)),
        ("program", "The program works: microphone, model, servers", check_program),
    ]


def warn_of_settings(found: "Settings") -> None:
    """Warn of settings that are valid but may not do what was intended."""
    if doubt := _doubt_about_channels(found):
        warn(f"{doubt[0]}: nothing will be recorded. To change it: {doubt[1]}")
    if note := _detections_at_hub(found):
        warn(note)


def _detections_at_hub(found: "Settings") -> str | None:
    """Return a warning if the sensor's own servers get no detections, else None."""
    from acoupi.components.messengers.plug_ins import messengers_in
    from acoupi.config import load_answers
    from acoupi.config.sensor import load_sensor

    if load_sensor(found).analysis.where != "hub":
        return None
    names = messengers_in(load_answers(found.program_config_file).get("messaging"))
    servers = ", ".join(f"messaging.{name}" for name in names)
    return servers and (
        "models run at the hub, and messages about detections stay there: this sensor sends all "
        f"its other messages to {servers}, but no detections."
    )


def _require_channels(found: "Settings") -> None:
    if doubt := _doubt_about_channels(found):
        raise HealthCheckError(f"{doubt[0]}.", doubt[1], why="no sound would be recorded.")


def _doubt_about_channels(found: "Settings") -> tuple[str, str] | None:
    """Return what is wrong with the number of channels, and the command that corrects it."""
    from acoupi.config import load_answers
    from acoupi.devices.microphones import doubt_about_channels

    microphone = load_answers(found.program_config_file).get("microphone")
    if not isinstance(microphone, dict) or os.environ.get("ACOUPI_SIMULATED_AUDIO"):
        return None
    name, channels = microphone.get("device_name"), microphone.get("audio_channels")
    if microphone.get("simulated") or not isinstance(name, str) or not isinstance(channels, int):
        return None
    doubt = doubt_about_channels(name, channels)
    return None if doubt is None else (doubt, "acoupi config set microphone.audio_channels 1")


def _no_microphone() -> str:
    given = os.environ.get("ACOUPI_SIMULATED_AUDIO")
    if given:
        return f"No microphone is connected. Sound is simulated: ACOUPI_SIMULATED_AUDIO={given}"
    return (
        "No microphone is connected. To try without one: "
        "ACOUPI_SIMULATED_AUDIO=synthetic acoupi setup"
    )


@devices_app.command(epilog=example("acoupi devices"))
def devices(
    rates: Annotated[
        bool, typer.Option("--rates/--no-rates", help="Find the sample rates they support.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """List the connected microphones and their sample rates.

    To find the rates, each microphone is opened for a moment. No rates are shown for a
    microphone that is recording.
    """
    with working("Looking for microphones"):
        rows = microphones(with_rates=rates)
    if as_json:
        print_json(rows)
        return
    print_table(rows, MICROPHONE_COLUMNS, empty=_no_microphone())
    if rows:
        name = rows[0]["identity"] or rows[0]["name"]
        say(f'To use the first: acoupi config set microphone.device_name "{name}"')
