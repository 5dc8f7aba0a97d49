"""What became of databases that were damaged: the notes beside them (`healing` writes them)."""

import contextlib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from acoupi import data
from acoupi.commit import read_whole
from acoupi.components.stores.database import Database
from acoupi.deferred import DeferredModel
from acoupi.writing import write_atomic

__all__ = ["MARK", "Healing", "database_of", "healings_of", "told_by"]

MARK = ".damaged-"
"""Before the time in the name of a database that was set aside."""


class Healing(DeferredModel):
    """What became of a damaged database."""

    store: str
    """What it is called: "metadata store"."""
    path: Path
    """Where it was, and the new one is."""
    aside: Path
    """Where it is now."""
    found_on: data.AwareDatetime
    why: str
    """What was wrong with it."""
    finished_on: data.AwareDatetime | None = None
    """When all was taken over that could be; None: not yet."""
    rows: dict[str, int] = Field(default_factory=dict)
    """Rows of each table that were taken over."""
    from_files: int = 0
    """Recordings that were found again by their files alone."""
    lost: list[str] = Field(default_factory=list)
    """What could not be rebuilt, in words."""

    @property
    def report(self) -> Path:
        """The file that holds this."""
        return self.aside.with_name(f"{self.aside.name}.json")

    def write(self) -> None:
        """Write it down."""
        write_atomic(self.report, self.model_dump_json(indent=2) + "\n")

    @property
    def told(self) -> str:
        """What happened, in one sentence."""
        rows = f"{sum(self.rows.values())} rows were saved"
        if self.from_files:
            rows += f", {self.from_files} recordings found from their files"
        if self.finished_on is None:
            rows = "its readable rows are still being saved"
        lost = "; lost: " + ", ".join(self.lost) if self.lost else ""
        return (
            f'the {self.store} was damaged ({self.why}) and was set aside as "{self.aside}" on '
            f"{self.found_on:%Y-%m-%d %H:%M} UTC; {rows}{lost}"
        )


def database_of(store: Any) -> Database | None:
    """Return the database of a store; None if it has none that is known here."""
    found = getattr(store, "_database", None)
    return found if isinstance(found, Database) else None


def healings_of(path: Path) -> list[Healing]:
    """Return the reports on damaged databases that had this name, oldest first.

    Whoever has seen it moves the files away.
    """
    found = []
    for report in sorted(path.parent.glob(f"{path.name}{MARK}*.json")):
        with contextlib.suppress(OSError, ValidationError):
            healing = Healing.model_validate_json(read_whole(report))
            if healing.aside.exists():
                found.append(healing)
    return found


def told_by(*stores: Any) -> tuple[str, ...]:
    """Return what became of damaged databases of some stores, in sentences."""
    databases = [one for one in map(database_of, stores) if one is not None]
    return tuple(healing.told for one in databases for healing in healings_of(one.path))
