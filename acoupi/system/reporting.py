"""The progress of a sensor's reports to its hub."""

import datetime
from pathlib import Path

from acoupi import clock
from acoupi.components.stores.unreported import hub_standing
from acoupi.components.stores.unsent import sound_standing
from acoupi.config.sensor import load_sensor
from acoupi.data import AwareDatetime
from acoupi.deferred import DeferredModel
from acoupi.errors import AcoupiError
from acoupi.printing import printable
from acoupi.space import HubAudio
from acoupi.stack.settings import Settings
from acoupi.system.home_files import configured_path

__all__ = ["HubState", "SoundState", "hub_state"]


class SoundState(DeferredModel):
    """The sound that the hub should get and does not have yet."""

    policy: HubAudio
    """`sensor.hub.audio`."""
    waiting: int = 0
    """Files."""
    oldest_on: AwareDatetime | None = None
    """When the oldest of them was recorded."""
    sent_on: AwareDatetime | None = None
    """When the hub last acknowledged one."""
    trouble: str | None = None
    """Why the last one was refused."""
    rests_until: AwareDatetime | None = None
    """Nothing is sent before this time."""

    def words(self) -> str:
        """Describe it.

        Examples
        --------
        >>> SoundState(policy="all", waiting=1).words()
        '1 sound file to send'
        """
        since = f" (since {self.oldest_on:%Y-%m-%d %H:%M} UTC)" if self.oldest_on else ""
        return f"{self.waiting} sound file{'' if self.waiting == 1 else 's'} to send{since}"


class HubState(DeferredModel):
    """What the hub of the sensor has, and does not have yet."""

    url: str
    acknowledged_on: AwareDatetime | None = None
    """When it last acknowledged a report; None: never."""
    waiting: int = 0
    """Recordings, verdicts, deployments and hours of the ledger still to report."""
    trouble: str | None = None
    """Why the last report, or a part of it, was refused."""
    rests_until: AwareDatetime | None = None
    """Nothing is reported before this time."""
    sound: SoundState | None = None
    """Sound to send; None: the hub gets no sound."""

    def words(self) -> str:
        """Describe it.

        Examples
        --------
        >>> HubState(url="https://hub.example.org", waiting=3).words()
        'nothing reported yet, 3 to report'
        """
        done = "nothing reported yet"
        if self.acknowledged_on is not None:
            done = f"last report {self.acknowledged_on:%Y-%m-%d %H:%M:%S} UTC"
        sound = "" if self.sound is None else f", {self.sound.words()}"
        return f"{done}, {self.waiting} to report{sound}"

    def warning(self) -> str | None:
        """Return what is wrong, and the time of the next attempt, or None."""
        if self.trouble is not None:
            return _told("reports", self.trouble, self.rests_until)
        if self.sound is not None and self.sound.trouble is not None:
            return _told("sound", self.sound.trouble, self.sound.rests_until)
        return None


def _told(what: str, trouble: str, rests_until: datetime.datetime | None) -> str:
    again = f" (again at {rests_until:%H:%M:%S} UTC)" if rests_until else ""
    return f"the hub does not accept {what}: {printable(trouble)}{again}"


def hub_state(settings: Settings) -> HubState | None:
    """Return the progress of reports; None if there is no hub, or the store cannot be read."""
    try:
        hub = load_sensor(settings).hub
        url = hub.url
        path = configured_path(settings, "paths.db_metadata") if url is not None else None
        found = None if path is None else hub_standing(path)
        sound = _sound_state(hub.sends, path)
    except AcoupiError:
        return None  # `program_state` reports it
    if url is None:
        return None
    if found is None:
        return HubState(url=url, sound=sound)
    return HubState(
        url=url,
        acknowledged_on=found.acknowledged_on,
        waiting=found.waiting,
        trouble=found.trouble,
        rests_until=_ahead(found.rests_until),
        sound=sound,
    )


def _sound_state(policy: HubAudio, path: Path | None) -> SoundState | None:
    if policy == "none" or path is None:
        return None
    found = sound_standing(path)
    if found is None or found.policy != policy:  # the worker has not started yet
        return SoundState(policy=policy)
    return SoundState(
        policy=policy,
        waiting=found.waiting,
        oldest_on=found.oldest_on,
        sent_on=found.sent_on,
        trouble=found.trouble,
        rests_until=_ahead(found.rests_until),
    )


def _ahead(time: datetime.datetime | None) -> datetime.datetime | None:
    return time if time is not None and time > clock.utc_now() else None
