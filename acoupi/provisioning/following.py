"""Following a hub's settings: signed, tried, and withdrawn if the hub does not confirm them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from acoupi import data
from acoupi.commit import read_whole
from acoupi.components.messengers.config import split_url
from acoupi.config.documents import Document
from acoupi.errors import ConfigurationError
from acoupi.offers import Envelope, Offer, require_key
from acoupi.provisioned import CACHE, CONFIRMED, Fetched, Followed
from acoupi.provisioning.fetching import cache_file, load_cached, shown_url
from acoupi.writing import PRIVATE, RenderedFile

__all__ = ["KEY", "Following", "Whom", "next_look", "seconds_to_next_look", "whom_variables_say"]

KEY, URL, EVERY = "ACOUPI_CONFIG_KEY", "ACOUPI_CONFIG_URL", "ACOUPI_CONFIG_EVERY"
MARGIN = timedelta(seconds=15)
"""Extra time after the minutes of a document, for the answer of the hub."""
USUAL, ON_TRIAL = 300.0, 10.0
"""Seconds between two queries of the hub; the second while on trial."""
NOTHING = Envelope(document="", signature="", confirmed=True)


@dataclass(frozen=True)
class Whom:
    """The hub that a sensor follows."""

    key: str
    """Public key of the operator."""
    url: str
    """Address of the settings, with the sensor's name and token as login."""
    sensor: str
    """Name of this sensor at the hub."""
    called: str
    """The variable or setting that holds the address."""


@dataclass(frozen=True)
class Following:
    """A hub's offer, and the configuration to apply from it."""

    envelope: Envelope
    """The newest one that is valid."""
    used: Offer
    followed: Followed
    fault: ConfigurationError | None
    whom: Whom

    @classmethod
    def read(
        cls,
        whom: Whom,
        config: Path,
        fetch: Callable[[str], Fetched],
        before: Followed | None,
    ) -> Self:
        """Query the hub; without a valid answer, its last offer stays.

        Raises
        ------
        ConfigurationError
            If the key is not valid, or the hub never gave anything valid.
        """
        before = before or Followed()
        require_key(whom.key)
        fault: ConfigurationError | None = None
        try:
            envelope = _valid(fetch(whom.url).text, whom, before)
        except ConfigurationError as error:
            kept = _kept(config, whom.url)
            if kept is None:
                raise
            envelope, fault = kept, error
        offer = envelope.opened(whom.key, whom.sensor)
        followed = _on(before, offer, envelope)
        if followed.given_up is not None:
            fault = _given_up(followed)
            offer = _confirmed(config).opened(whom.key, whom.sensor)
        return cls(
            envelope, offer, followed.model_copy(update={"in_force": offer.number}), fault, whom
        )

    @property
    def document(self) -> Document:
        """The configuration to apply."""
        return Document(json.dumps(self.used.settings), ".json", self.origin)

    @property
    def origin(self) -> str:
        """The document in force, in words."""
        return f"document {self.used.number} of {self.whom.called} ({shown_url(self.whom.url)})"

    def to_keep(self, config: Path) -> dict[Path, RenderedFile]:
        """Return the files that store the followed documents."""
        if self.fault is not None:
            return {}
        text = self.envelope.model_dump_json()
        files = {config / CACHE: cache_file(self.whom.url, Fetched(text, ".json"))}
        if self.envelope.confirmed:
            files[config / CONFIRMED] = RenderedFile(text, PRIVATE)
        return files

    def refused(self, before: Followed | None, why: str) -> Followed:
        """Return the state of following if the offer cannot be applied."""
        in_force = 0 if before is None else before.in_force
        if in_force == self.used.number:
            return self.followed  # the fault is not in the document
        return self.followed.model_copy(
            update={"in_force": in_force, "given_up": why, "since": None}
        )


def whom_variables_say(given: Mapping[str, str]) -> Whom:
    """Return the hub that a home follows that sets itself up.

    Raises
    ------
    ConfigurationError
        If the variables are incomplete.
    """
    key, url = given[KEY], given.get(URL, "")
    try:
        sensor = split_url(url)[1]
    except ValueError:
        sensor = None
    if not sensor:
        raise ConfigurationError(
            f"{KEY} is set, but {URL} does not name the hub and sensor.",
            f"{URL}=https://oak-1:TOKEN@hub.example.org/v1/settings",
            why="it must hold the name of the sensor at the hub, and its token.",
        )
    return Whom(key, url, sensor, called=URL)


def _valid(text: str, whom: Whom, before: Followed) -> Envelope:
    """Return the hub's document; raises if it is not signed, or older than an earlier one."""
    try:
        envelope = Envelope.model_validate_json(text)
    except ValidationError as error:
        raise _refused(whom, "the document is not signed") from error
    offer = envelope.opened(whom.key, whom.sensor)
    if offer.number < before.number:
        late = (
            f"it is document {offer.number}, older than document {before.number} that came before"
        )
        raise _refused(whom, late)
    return envelope


def _kept(config: Path, url: str) -> Envelope | None:
    """Return the hub's last offer, or None."""
    kept = load_cached(config, url)
    if kept is None:
        return None
    try:
        return Envelope.model_validate_json(kept.text)
    except ValidationError:  # from before the key was set
        return None


def _refused(whom: Whom, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the document from {whom.called} is refused.",
        "acoupi fleet set --status   (at the hub)",
        why=f"{why}.",
    )


def _on(before: Followed, offer: Offer, envelope: Envelope) -> Followed:
    """Return the state of following with the hub's current answer."""
    now = data.utc_now()
    if offer.number < before.number:  # kept, while the newest could not be put in force
        return before
    if envelope.confirmed:
        is_given_up = before.number == offer.number and before.given_up and before.since is None
        return Followed(number=offer.number, given_up=before.given_up if is_given_up else None)
    if offer.number != before.number:
        return Followed(number=offer.number, since=now)
    if before.given_up is not None:
        return before
    since = min(before.since or now, now)  # the clock may have been set back
    if now - since > timedelta(minutes=offer.minutes) + MARGIN:
        why = f"the hub did not confirm it within {offer.minutes:g} minutes"
        return Followed(number=offer.number, since=since, given_up=why)
    return Followed(number=offer.number, since=since)


def _given_up(followed: Followed) -> ConfigurationError:
    return ConfigurationError(
        f"document {followed.number} of the hub is not applied.",
        "acoupi fleet set --status   (at the hub)",
        why=f"{followed.given_up}.",
    )


def _confirmed(config: Path) -> Envelope:
    """Return the last document that the hub confirmed; one without settings if there was none."""
    try:
        return Envelope.model_validate_json(read_whole(config / CONFIRMED))
    except (OSError, ValueError):
        return NOTHING


def next_look(environ: Mapping[str, str], followed: Followed | None) -> float:
    """Return the seconds until the next query of a hub; infinite if there is none."""
    if not environ.get(KEY):
        return float("inf")
    return seconds_to_next_look(followed, float(environ.get(EVERY) or USUAL))


def seconds_to_next_look(followed: Followed | None, every: float = USUAL) -> float:
    """Return the seconds until a hub is to be asked again; soon while on trial."""
    is_on_trial = followed is not None and followed.since is not None and not followed.given_up
    return min(every, ON_TRIAL) if is_on_trial else every
