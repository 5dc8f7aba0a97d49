"""Pages of small tables: GUANO fields, effort states, exit codes, metrics."""

from markdown import code, first_paragraph, page, table, texts_below

from acoupi import data, errors
from acoupi.audio.guano import FIELDS
from acoupi.cli import handler
from acoupi.services.metrics import FAMILIES, PREFIX


def guano() -> str:
    """Return the page of the fields in files."""
    intro = (
        "Each WAV and FLAC file holds its metadata as "
        "[GUANO](https://github.com/riggsd/guano-spec) text: one `key: value` a line. "
        "Kaleidoscope, BatExplorer, `guano-py` and others read it. "
        "Acoupi's own fields begin with `Acoupi|`; a recording can be put back into an empty store "
        "from them alone. These are all that it writes:"
    )
    return page("GUANO fields", intro, [table(("field", "meaning"), _rows(FIELDS))])


def _rows(texts: dict[str, str]) -> list[tuple[str, str]]:
    return [(code(name), text) for name, text in texts.items()]


def effort_states() -> str:
    """Return the page of what a second can be."""
    intro = (
        "Every second of a deployment is exactly one of these: in `acoupi effort`, in "
        "`effort.csv` of each export, in the view `v_effort` "
        "([the stores as tables](../stores.md)) and in the metric `acoupi_effort_seconds`. "
        "How they are found is told under [deployments](../deployments.md)."
    )
    texts = texts_below(data.EffortState)
    rows = [(code(one.value), texts[one.name]) for one in data.EffortState]
    return page("Effort states", intro, [table(("state", "meaning"), rows)])


def exit_codes() -> str:
    """Return the page of exit codes, and of the errors behind them."""
    intro = (
        "What a command leaves for scripts. An error is three lines on stderr: what happened, why, "
        "and what to try; stdout stays clean, so that `--json` can be piped."
    )
    lines = (handler.__doc__ or "").split("\n")
    bars = [number for number, line in enumerate(lines) if line.startswith("=====")]
    rows = [line.split(maxsplit=1) for line in lines[bars[0] + 1 : bars[1]]]
    parts = [
        table(("exit code", "meaning"), rows),
        "## Errors in Python",
        "`acoupi.errors` holds one tree; whoever uses acoupi from Python catches these:",
        table(("error", "exit code", "meaning"), [
            (code(name), str(getattr(errors, name).exit_code),
             first_paragraph(getattr(errors, name)))
            for name in errors.__all__
        ]),
    ]  # fmt: skip
    return page("Exit codes", intro, parts)


def metric_families() -> str:
    """Return the page of metrics."""
    intro = (
        "What `acoupi metrics`, the page's `/metrics` and the text file for node_exporter hold; "
        "[metrics](../metrics.md) tells how to get at them. A counter ends in `_total`. What is "
        "not known is left out."
    )
    rows = [
        (code(PREFIX + one.name + ("_total" if one.kind == "counter" else "")), one.kind, one.help)
        for one in FAMILIES
    ]
    return page("Metric families", intro, [table(("family", "kind", "meaning"), rows)])
