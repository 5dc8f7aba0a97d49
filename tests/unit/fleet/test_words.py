"""How a sensor of a fleet is shown."""

from datetime import UTC, datetime

from acoupi.fleet.judging import Row
from acoupi.fleet.words import COLUMNS, ON_PAGE, row_words

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_whatever_is_said_of_a_sensor_has_a_column() -> None:
    """A column that is added in `row_words` alone would be seen nowhere."""
    row = Row("oak", None, "well", [], NOW, 1.0)

    assert set(row_words(row, NOW)) == set(COLUMNS)
    assert set(ON_PAGE) <= set(COLUMNS)
