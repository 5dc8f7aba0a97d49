"""Reading what many sensors heard, from the database of their hub."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from acoupi.components.stores.reader import StatementReader
from acoupi.hub.database import Connection, HubDatabase

__all__ = ["HubReader"]


class HubReader(StatementReader):
    """Reads what sensors reported to a hub; see `acoupi.exports.Reader`.

    Parameters
    ----------
    database
        The hub's database, or its address; see `HubDatabase`. It is closed with the reader.
    longest
        Limit for one statement on the server, seconds; None: no limit.

    Raises
    ------
    HubError
        From every method: the database cannot be read.
    """

    def __init__(self, database: HubDatabase | str, longest: float | None = None) -> None:
        self._database = HubDatabase(database) if isinstance(database, str) else database
        self._longest = longest

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def reading(self) -> AbstractContextManager[Connection]:
        """Provide a connection that sees one consistent state."""
        return self._database.reading(self._longest)

    def stream(
        self, connection: Connection, statement: str, values: Mapping[str, Any]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement; memory does not grow with their number."""
        return connection.stream(statement, values)

    def count(
        self, connection: Connection, statement: str, values: Mapping[str, Any]
    ) -> dict[Any, int]:
        """Return the number of distinct rows for each key, counted by the server."""
        grouped = (
            f"SELECT key, count(DISTINCT number) FROM ({statement}) x (number, key) GROUP BY key"  # noqa: S608
        )
        return dict(connection.execute(grouped, values).fetchall())
