"""Running a sensor from another image, and going back automatically if that does not record.

Only for containers. The previous image and files are kept before anything is changed
(`update_records`); recordings and analyses then decide (`update_verdict`).
"""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from acoupi import clock
from acoupi.bundles.images import image_name
from acoupi.bundles.rendering import Manifest
from acoupi.bundles.variables import choose
from acoupi.components.message_stores.sql import SCHEMA as MESSAGES
from acoupi.components.stores.read_only import open_read_only
from acoupi.components.stores.sql import SCHEMA as HEARD
from acoupi.data import AnalysisState, Deployment, EffortState
from acoupi.errors import AcoupiError, TargetError
from acoupi.exports.effort_report import find_deployment, measure, read_effort
from acoupi.heard import Filters
from acoupi.programs.core.workers import DETECTION_QUEUE
from acoupi.stack.settings import Settings
from acoupi.system.deployments import read_deployment
from acoupi.system.home_files import configured_path
from acoupi.system.page import next_slot
from acoupi.system.reading import reader_of, store_of
from acoupi.system.state import microphone_state, unnamed_deployment
from acoupi.system.update_records import (
    KeptImage,
    UpdateRecord,
    all_records,
    forget_oldest,
    only_update,
    put_files_back,
    updates_folder,
)
from acoupi.system.update_verdict import Facts, judge
from acoupi.targets.containers import PROJECT_LABEL, SERVICE_LABEL
from acoupi.targets.running import RunningBundle
from acoupi.writing import make_folder

__all__ = ["Update", "Updated", "fetch", "load", "roll_back", "update"]

LOOK_EVERY = 1.0
WATCHED = 20
"""Most recordings waiting at the switch that are looked at, oldest first."""
PULL_PATIENCE = 3600.0
ASK_SCHEMAS = (
    "import json; from acoupi.components.stores.sql import SCHEMA as heard; "
    "from acoupi.components.message_stores.sql import SCHEMA as messages; "
    "print(json.dumps({'paths.db_metadata': heard.version, "
    "'messaging.messages_db': messages.version}))"
)
"""For a process in an image: the newest version of each store that it can open, by setting."""
ENDED_WELL = (AnalysisState.DONE, AnalysisState.SKIPPED, AnalysisState.HUB)
Tell = Callable[[str], None]


@dataclass(kw_only=True)
class Update:
    """The wanted image, and its time to prove itself."""

    get: Callable[[], str]
    """Bring the image onto this machine, and return its name."""
    minutes: float
    one_way: bool = False
    """Whether to go on even if the older image cannot open the converted stores."""
    render: Callable[[], None] | None = None
    """Writes the generated files again for the new version; None: they stay."""
    back_up: Callable[[Path], str] | None = None
    """Writes a backup into a folder, and returns its path; None: `one_way` is refused."""
    tell: Tell = field(default=lambda _: None)


class Updated(NamedTuple):
    """The result of an update."""

    image: str
    """The image that the sensor runs from."""
    record: UpdateRecord | None
    """The record for undoing it; None: the services already ran from that image."""
    lost_s: float
    """Seconds of planned recording lost since the switch."""


def fetch(target: RunningBundle, image: str) -> str:
    """Pull an image; return its name.

    Raises
    ------
    TargetError
        With the engine's output.
    """
    answer = target.engine.ask("pull", image, timeout=PULL_PATIENCE)
    if not answer.is_ok and not target.engine.has_image(image):
        raise TargetError(
            f'cannot get the image "{image}".',
            "acoupi update --file images.tar   (from a stick, after docker save elsewhere)",
            why=f"the engine answered: {answer.said[-300:]}",
        )
    return image


def load(target: RunningBundle, file: Path) -> str:
    """Load the image in a file that ``docker save`` wrote; return its name.

    Raises
    ------
    TargetError
        If there is not exactly one image with a name in it.
    """
    answer = target.engine.ask("load", "--input", str(file), timeout=PULL_PATIENCE)
    said = [line.partition(": ")[2] for line in answer.out.splitlines() if "Loaded image:" in line]
    if answer.is_ok and len(said) == 1:
        return said[0]
    names = f"it holds {', '.join(said) or 'no image with a name'}."
    raise TargetError(
        f'cannot update from "{file}".',
        f"docker save --output images.tar {image_name()}   (one image, by its name)",
        why=names if answer.is_ok else f"the engine answered: {answer.said[-300:]}",
    )


def update(target: RunningBundle, wanted: Update) -> Updated:
    """Get an image, switch to it, and wait for the verdict.

    Raises
    ------
    TargetError
        Before any change: if the image cannot be fetched, judged or undone. After that: why the
        update was undone.
    """
    settings = target.settings
    _refuse_variable()
    with only_update(settings):
        _refuse_unfinished(target)
        before = _running_image(target)
        with _name_kept(target, before):
            after = _image(target, wanted.get())
            if after.id == before.id:
                return Updated(after.name, None, 0.0)
            _refuse_other_stores(settings, after)
            _refuse_unjudged(target, wanted.minutes)
            backup = _backup(target, before, after, wanted)
            record = UpdateRecord.begin(settings, before, after, backup)
            _tag(target, record)
        known = _known(settings)
        wanted.tell(f"switching to {after.name}, after the recording in progress")
        try:
            _switch(target, record, wanted)
            why = _proven(target, record, wanted, known)
        except AcoupiError as error:
            why = " ".join(filter(None, (error.message, error.why)))
        if why is None:
            record.advance(settings, "good")
            for name in forget_oldest(settings):
                target.engine.ask("image", "rm", name)
            return Updated(after.name, record, _seconds_lost(target, record))
        wanted.tell(f"going back: {why}")
        _undo(target, record, why)
        raise TargetError(
            f"the update to {after.name} was undone.",
            "acoupi logs (and ask the maker of the image)",
            why=f"{why.rstrip('.')}. The sensor runs from {before.name} again; "
            f"{_seconds_lost(target, record):.0f} s of planned recording were lost.",
        )


def roll_back(target: RunningBundle) -> tuple[UpdateRecord, bool]:
    """Undo the last update; return its record, and whether files were restored, too.

    Raises
    ------
    TargetError
        If there is nothing to go back to, or the older image cannot open the stores.
    """
    _refuse_variable()
    with only_update(target.settings):
        found = next((one for one in all_records(target.settings) if one.stage != "undone"), None)
        if found is None:
            raise TargetError(
                "there is nothing to go back to.",
                "acoupi config history   (settings are undone separately)",
                why=f"there is no record of an update in {updates_folder(target.settings)}.",
            )
        return found, _undo(target, found, "acoupi rollback")


# --- before ---------------------------------------------------------------------------


def _refuse_variable() -> None:
    if os.environ.get("ACOUPI_IMAGE"):
        raise TargetError(
            "cannot change the sensor's image.",
            "unset ACOUPI_IMAGE",
            why="the variable ACOUPI_IMAGE of this shell overrides .env.",
        )


def _refuse_unfinished(target: RunningBundle) -> None:
    last = next(iter(all_records(target.settings)), None)
    if last is not None and last.stage in ("switching", "judging"):
        raise TargetError(
            f"the update to {last.after.name} was interrupted.",
            "acoupi rollback   (then update again)",
            why=f"it began at {last.began_on:%Y-%m-%d %H:%M} UTC, and was never judged.",
        )


def _running_image(target: RunningBundle) -> KeptImage:
    """Return the image that the recorder, or the first worker, runs from."""
    services = [target.recorder] if target.recorder else list(target.services[:1])
    labels = [
        f"label={PROJECT_LABEL}={target.project}",
        *(f"label={SERVICE_LABEL}={one.name}" for one in services),
    ]
    filters = [word for one in labels for word in ("--filter", one)]
    answer = target.engine.ask("ps", "--quiet", "--no-trunc", *filters)
    found = target.engine.inspect("container", *answer.out.split()[:1]) if answer.is_ok else []
    if not found:
        raise TargetError(
            "cannot update a sensor that is not running.",
            "acoupi start   (and then update)",
            why="an update is judged by recordings and analyses after it.",
        )
    config = found[0]["Config"]["Image"]
    return KeptImage(name=config, id=found[0]["Image"], schemas=_schemas(target, found[0]["Image"]))


@contextmanager
def _name_kept(target: RunningBundle, before: KeptImage) -> Iterator[None]:
    """Give the running image its name back if the block raises.

    A new image may have taken that name. Containers that are made again later would run from it
    without a verdict.
    """
    try:
        yield
    except BaseException:
        target.engine.ask("tag", before.id, before.name)
        raise


def _image(target: RunningBundle, name: str) -> KeptImage:
    found = target.engine.inspect("image", name)
    schemas = _schemas(target, name)
    if not found or not schemas:
        raise TargetError(
            f'"{name}" is not the image of a sensor.',
            f"acoupi update --image {image_name()}",
            why="acoupi does not answer in it." if found else "the engine does not have it.",
        )
    return KeptImage(name=name, id=found[0]["Id"], schemas=schemas)


def _schemas(target: RunningBundle, image: str) -> dict[str, int]:
    """Return the versions of the stores that an image can open; empty if unknown."""
    words = ("run", "--rm", "--network", "none", "--entrypoint", "python", image)
    answer = target.engine.ask(*words, "-c", ASK_SCHEMAS, timeout=120)
    with suppress(ValueError):
        return {name: int(version) for name, version in json.loads(answer.out).items()}
    return {}


def _refuse_other_stores(settings: Settings, after: KeptImage) -> None:
    """Raise if the image cannot open the current stores, or this acoupi not the converted ones."""
    if (newer := _too_new(settings, after)) is not None:
        raise TargetError(
            f"{after.name} is too old for this sensor.",
            "a newer image, or acoupi restore of an older backup in another home",
            why=newer,
        )
    ours = {"paths.db_metadata": HEARD.version, "messaging.messages_db": MESSAGES.version}
    if _converts(ours, after.schemas):
        raise TargetError(
            f"{after.name} is newer than the acoupi that is installed here.",
            "acoupi help moving-and-updating   (install that version first)",
            why="it converts the databases, and this acoupi could not read them to judge it.",
        )


def _refuse_unjudged(target: RunningBundle, minutes: float) -> None:
    """Raise if no recording is planned within the time for the verdict."""
    settings = target.settings
    deployment = _current(settings)
    now = clock.utc_now()
    store = store_of(settings)
    history = store.get_effort(deployment, now - timedelta(days=1), now) if deployment else None
    due = None if history is None else next_slot(history, now)
    if due is not None and due <= now + timedelta(minutes=minutes):
        return
    need = None if due is None else (due - now).total_seconds() / 60 + minutes
    raise TargetError(
        "cannot update now: there would be no recording to judge it by.",
        "try again while it records" + ("" if need is None else f", or --minutes {need:.0f}"),
        why=f"no recording is planned within {minutes:g} minutes"
        + (", nor in the next days." if due is None else f"; the next is at {due:%H:%M} UTC."),
    )


def _current(settings: Settings) -> Deployment | None:
    """Return the deployment of current recordings, named or unnamed."""
    found = read_deployment(settings)
    is_on = found is not None and found.ended_on is None
    return found if is_on else unnamed_deployment(settings)


def _converts(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    return any(version > before.get(name, 0) for name, version in after.items())


def _backup(
    target: RunningBundle, before: KeptImage, after: KeptImage, wanted: Update
) -> str | None:
    """Make a backup if there is no way back; raise unless that was agreed to."""
    if not _converts(before.schemas, after.schemas):
        return None
    if not wanted.one_way or wanted.back_up is None:
        raise TargetError(
            f"there is no way back from {after.name}.",
            "acoupi update … --one-way   (makes a backup first)",
            why="it converts the databases, and the running version could not open them.",
        )
    folder = updates_folder(target.settings)
    make_folder(folder, [])
    return wanted.back_up(folder)


# --- the switch -----------------------------------------------------------------------


def _tag(target: RunningBundle, record: UpdateRecord) -> None:
    answer = target.engine.ask("tag", record.before.id, record.kept_as)
    if not answer.is_ok:
        record.advance(target.settings, "undone", "the running image could not be kept")
        raise TargetError(
            "cannot update: the running image could not be kept.",
            "acoupi doctor",
            why=f"the engine answered: {answer.said}",
        )


def _switch(target: RunningBundle, record: UpdateRecord, wanted: Update) -> None:
    if wanted.render is not None:
        wanted.render()
    record.note_files(target.settings)
    choose(target.settings.home, {"ACOUPI_IMAGE": record.after.name})
    target.manifest = Manifest.read(target.settings.manifest_file)
    target.check()
    target.start()
    record.advance(target.settings, "judging")


class _Known(NamedTuple):
    """Facts from the stores before the switch."""

    was_silent: bool
    """Whether the last recording is silent."""
    waiting: list[UUID]
    """Recordings that wait for analysis."""


def _known(settings: Settings) -> _Known:
    last = microphone_state(settings, _current(settings))
    waiting = [one.id for one in store_of(settings).get_captured_recordings(WATCHED)]
    return _Known(bool(last and last.health and last.health.is_silent), waiting)


def _proven(
    target: RunningBundle, record: UpdateRecord, wanted: Update, known: _Known
) -> str | None:
    """Wait for the verdict on the update; return why it is bad, or None."""
    deadline = clock.monotonic() + wanted.minutes * 60
    said = ""
    while True:
        is_last = clock.monotonic() > deadline
        verdict = judge(_facts(target, record.began_on, known), is_last=is_last)
        if verdict.is_good is not None:
            within = f" within {wanted.minutes:g} minutes" if is_last else ""
            return None if verdict.is_good else verdict.why + within + _last_words(target)
        if verdict.why != said:
            wanted.tell(f"waiting: {verdict.why}")
            said = verdict.why
        threading.Event().wait(LOOK_EVERY)


def _last_words(target: RunningBundle) -> str:
    """Return the last log line of a service that is not well; empty if all are well."""
    name = next((one.name for one in target.status() if not one.is_well), None)
    lines = [] if name is None else target.logs(name, 30).get(name, [])
    last = next((line.strip() for line in reversed(lines) if line.strip()), None)
    return "" if last is None else f'; "{name}" logged last: {last}'


def _facts(target: RunningBundle, since: datetime, known: _Known) -> Facts:
    services = target.status()
    began = {one.name: one.started_on or clock.utc_now() for one in services}
    recorder = target.recorder
    models = [one.name for one in target.services if DETECTION_QUEUE in one.queues]
    modelled_since = max([since, *(began[name] for name in models if name in began)])
    recorded_since = max(since, began.get(recorder.name, since)) if recorder else since
    with closing(reader_of(target.settings)) as reader:
        new = [one.id for one in reader.recordings(Filters(since=recorded_since), limit=WATCHED)]
        captures = [reader.capture(one) for one in new]
        silent = [one for one in captures if one and one.health and one.health.is_silent]
        analyses = [
            one
            for id_ in (*known.waiting, *new)
            for one in reader.analyses(id_)
            if one.state in ENDED_WELL and one.updated_on >= modelled_since
        ]
    return Facts(
        services=services,
        recordings=len(new),
        silent=len(silent),
        was_silent=known.was_silent,
        analyses=len(analyses),
        needs_analysis=bool(models),
    )


# --- and back -------------------------------------------------------------------------


def _undo(target: RunningBundle, record: UpdateRecord, why: str) -> bool:
    """Run from the previous image again; return whether the files were restored, too.

    Raises
    ------
    TargetError
        If it can no longer open the stores; then nothing is changed.
    """
    settings = target.settings
    if (newer := _too_new(settings, record.before)) is not None:
        copy = f"acoupi restore {record.backup}" if record.backup else "acoupi help moving"
        record.advance(settings, "stuck", f"{why}; {newer}")
        raise TargetError(
            f"cannot go back to {record.before.name}.",
            f"another image, or {copy} in another home",
            why=f"{newer} Nothing was changed, and nothing is lost. ({why})",
        )
    went_back = put_files_back(settings, record)
    name = record.before.name
    found = target.engine.inspect("image", name)
    is_same = bool(found) and found[0].get("Id") == record.before.id
    choose(settings.home, {"ACOUPI_IMAGE": name if is_same else record.kept_as})
    target.manifest = (
        type(target.manifest).read(settings.manifest_file) if target.manifest else None
    )
    target.up()
    record.advance(settings, "undone", why)
    return went_back


def _too_new(settings: Settings, image: KeptImage) -> str | None:
    """Return in words which store an image cannot open since a newer version converted it."""
    for setting, version in image.schemas.items():
        path = configured_path(settings, setting)
        if path is None or not path.exists():
            continue
        with closing(open_read_only(path)) as store:
            now = int(store.execute("PRAGMA user_version").fetchone()[0])
        if now > version:
            return f"{path.name} was converted to version {now}; {image.name} only reads {version}."
    return None


def _seconds_lost(target: RunningBundle, record: UpdateRecord) -> float:
    """Return the seconds of planned recording lost since the switch, by the ledger."""
    try:
        store = store_of(target.settings)
        deployment = find_deployment(store, None)
        tally = measure(*read_effort(store, deployment, record.began_on, clock.utc_now())).total
    except AcoupiError:
        return 0.0
    return tally.seconds(EffortState.NOT_RUNNING)
