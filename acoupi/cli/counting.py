"""``count`` of recordings and of detections: by night, day, hour, species or deployment."""

from typing import TYPE_CHECKING, Any

from acoupi.cli.output import say, shown
from acoupi.cli.tables import width_of
from acoupi.errors import ParameterError

if TYPE_CHECKING:
    from acoupi.cli.heard import Heard
    from acoupi.heard import Filters

__all__ = ["count"]

WIDTH = 80
LONGEST_NAME = 32
EIGHTHS = " ▏▎▍▌▋▊▉"


def count(
    what: str, by: str, heard: "Heard", filters: "Filters", *, as_json: bool, as_csv: bool
) -> None:
    """Print how many there are, beside the number of recordings that were made.

    Parameters
    ----------
    what
        "recordings" or "detections".
    by
        One of `exports.counting.BY`.
    """
    from acoupi.cli.heard import print_rows
    from acoupi.exports import counting

    if by not in counting.BY:
        raise ParameterError(
            by,
            f'--by cannot be "{by}".',
            "--by night",
            why=f"it is one of {', '.join(counting.BY)}.",
        )
    rows = counting.count(heard.reader, what, by, filters, heard.zone)
    if as_json or as_csv:
        print_rows(rows, as_csv=as_csv)
    else:
        _show(rows, by, what)


def _show(rows: list[dict[str, Any]], by: str, what: str) -> None:
    if not rows:
        say("Nothing was heard." if what == "detections" else "Nothing was recorded.")
        return
    names = [name for name in rows[0] if name != by]
    first = min(max(len(by), *(len(str(row[by])) for row in rows)), LONGEST_NAME)
    widths = [max(len(name), *(len(str(row[name])) for row in rows)) for name in names]
    heads = "  ".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    say(f"{by:<{first}}  {heads}")
    most = max(row[what] for row in rows)
    room = min(width_of() or WIDTH, WIDTH) - first - sum(widths) - 2 * len(widths) - 2
    for row in rows:
        numbers = "  ".join(
            f"{shown(row[name]):>{width}}" for name, width in zip(names, widths, strict=True)
        )
        label = str(row[by])
        if len(label) > first:
            say(label)
            label = ""
        say(f"{label:<{first}}  {numbers}  {_bar(row[what], most, room)}".rstrip())


def _bar(number: int, most: int, width: int) -> str:
    """Return a bar in eighths of a character; any count above 0 gets at least one.

    Examples
    --------
    >>> _bar(4, 8, 4), _bar(1, 1000, 4), _bar(0, 8, 4)
    ('██', '▏', '')
    """
    eighths = max(number and 1, number * width * 8 // most) if most else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
