"""Statements about deployments; the home decides which one is running."""

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID, uuid4, uuid5

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.database import Database
from acoupi.components.stores.effort_tables import alive_until, plans_of
from acoupi.components.stores.rows import deployment_of, deployment_values
from acoupi.components.stores.rules import unknown_deployment
from acoupi.components.stores.values import from_microseconds
from acoupi.deployed import Deployed
from acoupi.effort import NOTE_SECONDS

__all__ = ["DeploymentTables"]

UNNAMED = "unnamed_%Y%m%d_%H%M%S"
"""Name of an unnamed deployment, from its start (UTC)."""


class DeploymentTables:
    """The part of `SqliteStore` that holds the deployments."""

    _database: Database
    _deployed: Callable[[], Deployed]

    def get_current_deployment(self) -> data.Deployment:
        """Return the deployment that recordings belong to now.

        That is the one that ``config/deployment.json`` says is running. If none
        is, it is an unnamed one, which begins with the first recording and ends
        when a named one starts. In a home without that file it is the latest
        stored one that has not ended.
        """
        deployed = self._deployed()
        with self._database.reading() as connection:
            settled = _is_settled(connection, deployed)
            current = _current(connection, deployed) if settled else None
        if current is not None:
            return current
        with self._database.writing() as connection:
            _settle(connection, deployed)
            return _current(connection, deployed) or _begin_unnamed(connection, deployed)

    def settle_deployments(self) -> list[data.Deployment]:
        """Bring the store into line with ``config/deployment.json``, in one transaction.

        Whatever is open and not current is ended: when the files say so, else
        when its last trace or the start of the current one says so. The current
        one is stored with its name and place.

        Returns
        -------
        list of Deployment
            What was ended.
        """
        deployed = self._deployed()
        with self._database.reading() as connection:
            if _is_settled(connection, deployed):
                return []
        with self._database.writing() as connection:
            return _settle(connection, deployed)

    def get_unnamed_deployment(self) -> data.Deployment | None:
        """Return the unnamed deployment of current recordings, or None."""
        deployed = self._deployed()
        if deployed.current is not None:
            return None
        with self._database.reading() as connection:
            return _current(connection, deployed)

    def store_deployment(self, deployment: data.Deployment) -> None:
        """Store a deployment; one with the same id is replaced."""
        with self._database.writing() as connection:
            connection.execute(sql.PUT_DEPLOYMENT, deployment_values(deployment))

    def update_deployment(self, deployment: data.Deployment) -> None:
        """Change name, place and end of a stored deployment; its start stays.

        Raises
        ------
        MetadataStoreError
            If no deployment of this id is stored.
        """
        with self._database.writing() as connection:
            if not _update(connection, deployment):
                raise unknown_deployment(deployment)

    def get_deployments(self) -> list[data.Deployment]:
        """Return all deployments, in order of their start."""
        with self._database.reading() as connection:
            return [deployment_of(row) for row in connection.execute(sql.DEPLOYMENTS)]


# Within a transaction


def _open(connection: sqlite3.Connection) -> list[data.Deployment]:
    """Return the deployments that have not ended, the latest first."""
    return [deployment_of(row) for row in connection.execute(sql.OPEN_DEPLOYMENTS)]


def _stored(connection: sqlite3.Connection, id_: UUID) -> data.Deployment | None:
    row = connection.execute(sql.DEPLOYMENT_BY_ID, {"id": id_.bytes}).fetchone()
    return None if row is None else deployment_of(row)


def _update(connection: sqlite3.Connection, deployment: data.Deployment) -> bool:
    changed = connection.execute(sql.UPDATE_DEPLOYMENT, deployment_values(deployment))
    return changed.rowcount > 0


def _unnamed_after(
    connection: sqlite3.Connection, last: data.Deployment
) -> tuple[UUID, data.Deployment | None]:
    """Return id and row of the unnamed deployment after the last one; None if it is not stored.

    The id follows from that of the last deployment, so that a wrong clock
    cannot confuse it with what was left open before.
    """
    number = 0
    while True:
        id_ = uuid5(last.id, f"unnamed {number}")
        found = _stored(connection, id_)
        if found is None or found.ended_on is None:
            return id_, found
        number += 1


def _current(connection: sqlite3.Connection, deployed: Deployed) -> data.Deployment | None:
    """Return the row that recordings belong to; None if it is still to be written."""
    if deployed.current is not None:
        return _stored(connection, deployed.current.id)
    if deployed.last is None:
        return next(iter(_open(connection)), None)
    return _unnamed_after(connection, deployed.last)[1]


def _begin_unnamed(connection: sqlite3.Connection, deployed: Deployed) -> data.Deployment:
    now, last = data.utc_now(), deployed.last
    id_ = uuid4() if last is None else _unnamed_after(connection, last)[0]
    deployment = data.Deployment(id=id_, name=now.strftime(UNNAMED), started_on=now)
    connection.execute(sql.PUT_DEPLOYMENT, deployment_values(deployment))
    return deployment


def _left_over(connection: sqlite3.Connection, deployed: Deployed) -> list[data.Deployment]:
    """Return the open deployments that are not current."""
    if deployed.last is None:
        return []
    current = deployed.current or _current(connection, deployed)
    return [one for one in _open(connection) if current is None or one.id != current.id]


def _is_settled(connection: sqlite3.Connection, deployed: Deployed) -> bool:
    if _left_over(connection, deployed):
        return False
    wanted = deployed.current
    if wanted is None:
        return True
    stored = _stored(connection, wanted.id)
    if stored is None:
        return False
    return stored == wanted.model_copy(update={"started_on": stored.started_on})


def _settle(connection: sqlite3.Connection, deployed: Deployed) -> list[data.Deployment]:
    current = deployed.current
    if current is not None and not _update(connection, current):
        connection.execute(sql.PUT_DEPLOYMENT, deployment_values(current))
    ended = []
    known = {one.id: one.ended_on for one in deployed.every}
    for one in _left_over(connection, deployed):
        end = known.get(one.id) or _end_of(connection, one, deployed)
        ended.append(one.model_copy(update={"ended_on": max(end, one.started_on)}))
        _update(connection, ended[-1])
    return ended


def _end_of(connection: sqlite3.Connection, one: data.Deployment, deployed: Deployed) -> datetime:
    """Return when a deployment that was left open ended.

    It is the start of the next one if the recorder was running then, and
    otherwise the end of the last thing it recorded or noted.
    """
    last = alive_until(connection, one)
    alive = one.started_on if last is None else from_microseconds(last)
    starts = [_start(connection, each) for each in deployed.every if each.id != one.id]
    following = min((each for each in starts if each >= one.started_on), default=None)
    if following is None:
        return alive
    return following if alive + _patience(connection, one) >= following else alive


def _start(connection: sqlite3.Connection, deployment: data.Deployment) -> datetime:
    """Return the start of a deployment; a correction of the clock may have moved it."""
    return (_stored(connection, deployment.id) or deployment).started_on


def _patience(connection: sqlite3.Connection, deployment: data.Deployment) -> timedelta:
    """Return the longest time that a working recorder may leave no trace."""
    plans = plans_of(connection, deployment)
    between = plans[-1].plan.duration + 2 * plans[-1].plan.interval if plans else 0.0
    return timedelta(seconds=NOTE_SECONDS + between)
