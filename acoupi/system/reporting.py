"""How far a sensor has come in reporting to its hub."""

from pydantic import BaseModel

from acoupi import clock
from acoupi.components.stores.unreported import hub_standing
from acoupi.config.sensor import load_sensor
from acoupi.data import AwareDatetime
from acoupi.errors import AcoupiError
from acoupi.printing import printable
from acoupi.stack.settings import Settings
from acoupi.system.home_files import configured_path

__all__ = ["HubState", "hub_state"]


class HubState(BaseModel):
    """What the hub of the sensor knows, and does not know."""

    url: str
    acknowledged_on: AwareDatetime | None = None
    """When it last acknowledged a report; None: never."""
    waiting: int = 0
    """Recordings, verdicts, deployments and hours of the ledger that it does not know."""
    trouble: str | None = None
    """Why the last report was not taken, or a part of it."""
    rests_until: AwareDatetime | None = None
    """Nothing is reported before."""

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
        return f"{done}, {self.waiting} to report"

    def warning(self) -> str | None:
        """Return what is wrong, and when it is tried again; None: nothing."""
        if self.trouble is None:
            return None
        again = f" (again at {self.rests_until:%H:%M:%S} UTC)" if self.rests_until else ""
        return f"the hub does not take reports: {printable(self.trouble)}{again}"


def hub_state(settings: Settings) -> HubState | None:
    """Return how far the sensor has come; None if it has no hub, or its store cannot be read."""
    try:
        url = load_sensor(settings).hub.url
        path = configured_path(settings, "paths.db_metadata") if url is not None else None
        found = None if path is None else hub_standing(path)
    except AcoupiError:
        return None  # `program_state` tells it
    if url is None:
        return None
    if found is None:
        return HubState(url=url)
    rests = found.rests_until
    return HubState(
        url=url,
        acknowledged_on=found.acknowledged_on,
        waiting=found.waiting,
        trouble=found.trouble,
        rests_until=rests if rests is not None and rests > clock.utc_now() else None,
    )
