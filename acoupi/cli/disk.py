"""``acoupi disk``: free space, what is deleted when it runs out, and what was deleted."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.hub_readers import TokenFile, hub_over_http, is_over_http
from acoupi.cli.output import example, print_json, print_record, print_table, say
from acoupi.cli.table import single
from acoupi.cli.timezones import shown_time

if TYPE_CHECKING:
    from acoupi.fleet.room import SensorRoom
    from acoupi.services.space_state import SpaceState
    from acoupi.space import FileClass
    from acoupi.tasks.space import Demand, Going, Room

__all__ = ["app"]

app = single()

MOST_SHOWN = 20
WHY = {
    "refused": "no saving filter keeps it: deleted at the next file management",
    "unremarkable": "nothing was found in it",
    "beyond_best": "its night has enough better or newer recordings of each species",
    "review": "only the sample for review keeps it",
    "protected": "protected by a person",
    "new": "new, while the disk was full and nothing else could be deleted",
}
CLASS_COLUMNS = {"class": "class", "files": "files now", "size": "size", "why": "why"}
GONE_COLUMNS = {"class": "class", "files": "files", "time": "sound", "size": "size", "last": "last"}
ROOM_COLUMNS = {
    "sensor": "sensor", "left": "disk full in", "heartbeat": "heartbeat (UTC)", "gone": "gave up",
}  # fmt: skip
NEXT_COLUMNS = {"time": "recorded", "class": "class", "size": "size", "path": "file"}


@app.command(epilog=example("acoupi disk --plan"))
def disk(
    plan: Annotated[
        bool, typer.Option("--plan", help="List what would be deleted now, and change nothing.")
    ] = False,
    hub: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Show every sensor of the hub at https://HOST (for its operators)."
        ),
    ] = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show free space, how long it lasts, what is deleted next and why, and what was deleted.

    For a hub: the sensors by their last heartbeats, those with the least room first.
    """
    if hub is not None:
        _show_rooms(_rooms(hub, token_file), as_json=as_json)
        return
    from acoupi.services.space_state import space_state
    from acoupi.system.space import store_and_policy
    from acoupi.tasks.space import Room

    store, policy = store_and_policy(home.settings())
    state, room = space_state(store, policy), Room(store, policy)
    classes = [_class(kind, room) for kind in policy.order]
    demands = list(room.demands()) if plan else []
    going = [one for demand in demands for one in room.chosen(demand)]
    if as_json:
        told = state.model_dump(mode="json") | {"hours_left": state.hours_left, "classes": classes}
        print_json(told | ({"plan": [_row(one) for one in going]} if plan else {}))
        return
    _show(state, classes)
    if plan:
        _show_plan(going, demands)


def _rooms(hub: str, token_file: Path | None) -> "list[SensorRoom]":
    if is_over_http(hub):
        with hub_over_http(hub, token_file) as reader:
            return reader.rooms()
    from acoupi.cli.hub_options import opened_database

    with opened_database(hub) as database:
        from acoupi.hub.room import rooms_of

        return rooms_of(database)


def _show_rooms(rooms: "list[SensorRoom]", *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(one) for one in rooms])
        return
    rows = [
        {
            "sensor": one.sensor,
            "left": "not sent" if one.hours_left is None else f"{one.hours_left:.0f} h",
            "heartbeat": one.heartbeat_on and shown_time(one.heartbeat_on),
            "gone": ", ".join(
                f"{_size(gone.bytes)} ({kind})" for kind, gone in sorted(one.given_up.items())
            ),
        }
        for one in rooms
    ]
    print_table(rows, ROOM_COLUMNS, empty="No sensors yet: acoupi hub add-sensor NAME")


def _class(kind: "FileClass", room: "Room") -> dict[str, Any]:
    """Return how much there is of a class; only the filters know what they refuse."""
    files, size = (None, None) if kind.value == "refused" else room.used(kind, lambda _: True)
    found = {"class": kind.value, "files": files, "bytes": size, "why": WHY[kind.value]}
    if room.store.hub_audio == "none":
        return found
    return found | {"not_at_hub": room.used(kind, lambda _: True, owed=True)[0]}


def _row(going: "Going") -> dict[str, Any]:
    return {
        "path": str(going.spare.path),
        "created_on": going.spare.created_on.isoformat(),
        "class": going.kind.value,
        "bytes": going.bytes,
        "reason": going.reason,
    }


def _show(state: "SpaceState", classes: list[dict[str, Any]]) -> None:
    for one in state.disks:
        acts, until = one.acts_below_bytes / 1e9, one.acts_until_bytes / 1e9
        goes = f"when less than {acts:.2f} GB are free, until {until:.2f} GB are"
        print_record({"disk": str(one.folder), "room": one.words(), "sound goes": goes})
    for mount in state.not_mounted:
        say(f"No disk is mounted at {mount}: nothing is written there.")
    if state.is_full:
        say(f"Full: recording has stopped for lack of room (on_full: {state.on_full}).")
    for one in state.disks:
        if one.is_full and not state.is_full:
            say(f"Full: recordings for {one.folder} wait in the spool.")
    rows = [one | {"size": _size(one["bytes"])} for one in classes]
    owes = any("not_at_hub" in one for one in classes)
    columns = CLASS_COLUMNS | ({"not_at_hub": "not at the hub"} if owes else {})
    print_table(rows, columns, title="What goes, the first class first", empty="")
    if any(one.get("not_at_hub") for one in classes):
        say("In every class, files that the hub does not have yet go last.")
    gone = [
        {
            "class": kind.value,
            "files": one.recordings,
            "time": _seconds(one.seconds),
            "size": _size(one.bytes),
            "last": f"{shown_time(one.last_on)} UTC",
        }
        for kind, one in state.given_up.items()
    ]
    print_table(gone, GONE_COLUMNS, title="What went", empty="Nothing was given up so far.")


def _show_plan(going: "list[Going]", demands: "list[Demand]") -> None:
    if not going:
        reasons = [f"Nothing may be deleted, although {one.reason}." for one in demands]
        say("\n".join(reasons) or "Nothing would be deleted now.")
        return
    rows = [
        {**_row(one), "time": shown_time(one.spare.created_on), "size": _size(one.bytes)}
        for one in islice(going, MOST_SHOWN)
    ]
    title = f"To be deleted now: {len(going)} files, {_size(sum(one.bytes for one in going))}"
    print_table(rows, NEXT_COLUMNS, title=title, empty="")
    for reason in dict.fromkeys(one.reason for one in going):
        say(f"Why: {reason}.")
    if len(going) > MOST_SHOWN:
        say(f"The first {MOST_SHOWN} are shown; all of them: acoupi disk --plan --json")


def _seconds(seconds: float) -> str:
    from acoupi.telling import shown_seconds

    return shown_seconds(seconds)


def _size(size: float | None) -> str | None:
    if size is None:
        return None
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
