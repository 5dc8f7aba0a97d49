"""``acoupi alarms``: faults that the sensor has found in itself."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.output import example, print_json, print_table
from acoupi.cli.table import single
from acoupi.cli.timezones import shown_time

if TYPE_CHECKING:
    from acoupi.system.alarms import AlarmState

__all__ = ["app"]

app = single()

ACTIVE = 3
COLUMNS = {
    "alarm": "alarm",
    "since": "since (UTC)",
    "until": "until (UTC)",
    "detail": "what was seen",
}


@app.command(epilog=example("acoupi alarms --history"))
def alarms(
    history: Annotated[
        bool, typer.Option("--history", help="Also show alarms that are over.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the faults that the sensor has found in itself.

    Exit code 3: an alarm is active. To have the sensor look for faults:
    acoupi config set sensor.alarms.enabled true
    """
    from acoupi.system.alarms import active_alarms, every_alarm

    found = home.sensor()
    is_on = found.own_config.alarms.enabled  # type: ignore[attr-defined]
    active = active_alarms(found.settings)
    shown = every_alarm(found.settings) if history else active
    if as_json:
        print_json({"enabled": is_on, "alarms": [one.model_dump(mode="json") for one in shown]})
    else:
        print_table([_row(one) for one in shown], COLUMNS, empty=_nothing(is_on))
    if active:
        raise typer.Exit(ACTIVE)


def _nothing(is_on: bool) -> str:
    if is_on:
        return "No alarm is active."
    return "Alarms are off. To turn them on: acoupi config set sensor.alarms.enabled true"


def _row(alarm: "AlarmState") -> dict[str, Any]:
    return {
        "alarm": alarm.alarm,
        "since": shown_time(alarm.since),
        "until": "active" if alarm.until is None else shown_time(alarm.until),
        "detail": alarm.detail,
    }
