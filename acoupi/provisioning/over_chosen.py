"""Following a hub in a home that a person set up: its settings override theirs.

It works like the commands of a person: `look` sets the sensor up with the hub's settings, as
``acoupi config set --apply`` does. Services may not change their own configuration there, so
this never runs in a service.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel

from acoupi import data
from acoupi.commit import changing, commit_files, is_there, read_whole
from acoupi.config.documents import Document, load_document, parsed_settings
from acoupi.config.from_hub import given_settings
from acoupi.config.hub import Hub
from acoupi.config.names import SENSOR
from acoupi.config.presets import put_over
from acoupi.config.sensor import dump_setting, is_about_sensor, sensor_schema, split_document
from acoupi.errors import AcoupiError, ConfigurationError, ProgramError
from acoupi.home import using_home
from acoupi.offers import Offer
from acoupi.provisioned import (
    FROM_HUB,
    MARKER,
    Fault,
    Fetched,
    FromHub,
    read_from_hub,
)
from acoupi.provisioning.fetching import fetch
from acoupi.provisioning.following import Following, Whom
from acoupi.provisioning.images import Containers, Images, run_from, went_back
from acoupi.stack.settings import Settings
from acoupi.system.lifecycle import set_up
from acoupi.system.planning import SetupRequest
from acoupi.system.sensor import Sensor
from acoupi.writing import RenderedFile

__all__ = ["look"]

ACT = "acoupi fleet follow"
CALLED = f"{SENSOR.section}.hub.url"
PAGE = "/v1/settings"
Fetch = Callable[[str], Fetched]
Tell = Callable[[str], None]
NOTHING = Offer(sensor="", number=0, minutes=60, settings={})


def look(
    settings: Settings, tell: Tell, fetch: Fetch | None = None, images: Images | None = None
) -> FromHub:
    """Query the hub once, and apply its settings; return what is in force then.

    Without a hub to follow, the sensor's own settings return.

    Parameters
    ----------
    tell
        Called with each step, in words.
    fetch
        Fetches a URL; None: over HTTP.
    images
        The operations on the sensor's image; None: those of the engine.

    Raises
    ------
    AcoupiError
        If this sensor cannot follow a hub, or the hub never gave anything valid.
    """
    return _Home(settings, tell, images).look(fetch)


class _Home:
    """A home that a person set up."""

    def __init__(self, settings: Settings, tell: Tell, images: Images | None) -> None:
        self.settings, self.tell = settings, tell
        self.images = images or Containers(Sensor.read(settings).target, tell)
        self.config = settings.program_config_file.parent

    def look(self, fetch: Fetch | None) -> FromHub:
        sensor = self._sensor()
        hub: Hub = sensor.own_config.hub  # type: ignore[attr-defined]
        before = read_from_hub(self.config) or FromHub(target=sensor.target_name)
        if hub.key is None:
            return self._without_hub(before)
        whom = _whom(hub)
        get = fetch or partial(_fetch, ca=hub.authority(self.settings.home))
        following = Following.read(whom, self.config, get, before.followed)
        fault: AcoupiError | None = following.fault
        followed = following.followed
        try:
            after = self._with(following.used, following.origin, before)
        except AcoupiError as error:
            after, fault = self._back(before, error), error
            followed = following.refused(before.followed, _words(error))
        if fault is None and went_back(self.images, after):
            fault = _gone_back(after)
            followed = followed.model_copy(update={"given_up": _words(fault), "since": None})
        known = before.fault
        found = fault and Fault(
            message=fault.message, why=fault.why, help=fault.help, since=data.utc_now()
        )
        if found and known and found.text() == known.text():
            found = known
        update = {"followed": followed, "fault": found, "target": sensor.target_name}
        after = after.model_copy(update=update)
        self._write(after, following.to_keep(self.config))
        return after

    def _sensor(self) -> Sensor:
        """Return the sensor.

        Raises
        ------
        AcoupiError
            If it sets itself up, or its program is not installed here.
        """
        if is_there(self.config / MARKER):
            raise ConfigurationError(
                "acoupi fleet follow is not for this sensor.",
                "acoupi help fleet-settings   (ACOUPI_CONFIG_URL and ACOUPI_CONFIG_KEY)",
                why="it sets itself up from variables, which may name a hub to follow.",
            )
        sensor = Sensor.read(self.settings)
        try:
            sensor.program_class  # noqa: B018 - raises
        except ProgramError as error:
            raise ConfigurationError(
                "the hub's settings cannot be checked here.",
                f"pip install the package of {sensor.program_name}   (where acoupi is installed)",
                why=f"{error.message} {error.why or ''}".strip(),
            ) from error
        return sensor

    def _without_hub(self, before: FromHub) -> FromHub:
        """Return to the sensor's own settings, if a hub's are in force."""
        after = self._with(NOTHING, f"{ACT}: no sensor.hub.key", before)
        after = FromHub(target=before.target, since=after.since)
        if before != after:
            self._write(after, {})
        return after

    def _with(self, offer: Offer, origin: str, before: FromHub) -> FromHub:
        """Apply a hub's settings, with a restart of services, then its image."""
        after = self._with_settings(offer.settings, origin, before)
        if offer.image != after.image:
            after = run_from(self.images, offer.image, offer.minutes, after)
            after = after.model_copy(update={"since": data.utc_now()})
            self._write(after, {})
        return after

    def _with_settings(self, given: dict[str, Any], origin: str, before: FromHub) -> FromHub:
        after = before
        if given != before.settings:
            after = self._set_up(given, origin, before)
            self.tell(f"in force: {origin}" if given else "in force: the sensor's own settings")
        if after.restart_due:
            target = Sensor.read(self.settings).target
            runs_here = target.starts_here and not target.renders_folder
            if runs_here and any(one.is_running for one in target.status()):
                self.tell("restarting the services: each finishes its current task")
                target.restart()
            after = after.model_copy(update={"restart_due": False, "since": data.utc_now()})
        return after

    def _back(self, before: FromHub, error: AcoupiError) -> FromHub:
        """Return to the previous settings after a failure."""
        now = read_from_hub(self.config) or before
        try:
            return self._with_settings(before.settings, "the previous settings", now)
        except AcoupiError as second:
            error.add_note(f"going back failed, too: {second}")
            return read_from_hub(self.config) or now

    def _set_up(self, given: dict[str, Any], origin: str, before: FromHub) -> FromHub:
        """Set the home up with a hub's settings, all or nothing."""
        with using_home(self.settings.home), changing(self.config, ACT):
            sensor = Sensor.read(self.settings)
            schema = sensor.program_class.get_config_schema()
            flat = given_settings(given, schema, "this sensor")
            base = _without(put_over(self._stored(schema), before.chosen), before.unset)
            chosen, unset = _stood(base, flat)
            wanted = put_over(base, flat)
            document = Document(json.dumps(wanted), ".json", origin, self.config)
            own, about = split_document(document, schema)
            assert own is not None
            program, of_sensor = load_document(own, schema), sensor.own_config
            if about is not None:
                known = frozenset(sensor_schema().model_fields)
                of_sensor = load_document(about, sensor_schema(), names=SENSOR, only=known)
            after = before.model_copy(
                update={
                    "settings": given,
                    "decided": {
                        name: json.loads(dump_setting(program, of_sensor, name)) for name in flat
                    },
                    "chosen": chosen,
                    "unset": unset,
                    "restart_due": True,
                }
            )
            request = SetupRequest(
                sensor.program_name,
                config=program,
                sensor=of_sensor,
                origin=origin,
                beside={self.config / FROM_HUB: _file(after)},
            )
            set_up(self.settings, request)
        return after

    def _stored(self, schema: type[BaseModel]) -> dict[str, Any]:
        """Return the settings as they are written; secrets are references."""
        stored = parsed_settings(self.settings.program_config_file)
        if is_about_sensor(schema):
            stored[SENSOR.section] = parsed_settings(self.settings.sensor_config_file)
        return stored

    def _write(self, state: FromHub, others: Mapping[Path, RenderedFile]) -> None:
        """Write changed files; services may read them, without secrets."""
        readable = {path: RenderedFile(one.text) for path, one in others.items()}
        files = {**readable, self.config / FROM_HUB: _file(state)}
        with changing(self.config, ACT):
            new = {path: one for path, one in files.items() if _text(path) != one.text}
            if new:
                commit_files(self.config, new)


def _whom(hub: Hub) -> Whom:
    """Return the hub that a sensor with a key follows."""
    token = hub.token.get_secret_value() if hub.token else ""
    sensor, (scheme, place, path, *_) = hub.name or "", urlsplit(hub.url or "")
    url = f"{scheme}://{quote(sensor, safe='')}:{quote(token, safe='')}@{place}{path}{PAGE}"
    return Whom(hub.key or "", url, sensor, called=CALLED)


def _fetch(url: str, ca: Path | str | None) -> Fetched:
    return fetch(url, called=CALLED, ca=ca)


def _stood(base: Mapping[str, Any], names: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the current values of settings to override, and those without a value."""
    chosen, unset = dict[str, Any](), list[str]()
    for name in names:
        here: Any = base
        keys = name.split(".")
        for number, key in enumerate(keys, 1):
            place = ".".join(keys[:number])
            if key not in here:
                unset.append(name)
                break
            here = here[key]
            if number == len(keys) or not isinstance(here, Mapping):
                chosen[place] = here
                break
    return chosen, unset


def _without(settings: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    left = dict(settings)
    for name in names:
        first, _, rest = name.partition(".")
        if not rest:
            left.pop(first, None)
        elif isinstance(left.get(first), Mapping):
            left[first] = _without(left[first], [rest])
    return left


def _file(state: FromHub) -> RenderedFile:
    return RenderedFile(state.model_dump_json(indent=2) + "\n")


def _text(path: Path) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        return read_whole(path)
    return None


def _gone_back(state: FromHub) -> ConfigurationError:
    return ConfigurationError(
        f"the hub's image {state.image} is not running.",
        "acoupi fleet unset …   (at the hub, or acoupi fleet update with another)",
        why="a person undid it here: acoupi rollback.",
    )


def _words(error: AcoupiError) -> str:
    return f"{error.message} {error.why or ''}".strip()
