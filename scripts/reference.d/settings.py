"""The pages of every setting and every variable."""

from collections.abc import Iterator, Sequence
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from markdown import code, page, table

from acoupi.config.problems import show
from acoupi.config.questions import kind_of
from acoupi.config.sensor import sensor_schema
from acoupi.config.tree import ConfigTree, describe
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.loading import load_program_class
from acoupi.stack.variables import COMMAND_VARIABLES, SERVICE_VARIABLES, VARIABLES

USUAL = ("default", "connected", "demo")
PROGRAMS = (*USUAL, "test")

SETTINGS = """\
Every setting of the programs that come with acoupi, of the sensor itself, and of Celery. Give one
as an option (`--recording.duration 5`), with `acoupi config set recording.duration 5`, in a file,
or as a variable (`ACOUPI_CONFIG__RECORDING__DURATION=5`); [settings](../settings.md) tells which
of these wins. A program of your own has those of its template and its own: `acoupi config schema`
lists what is set up here.

"null" means: none. `ACOUPI_HOME` stands for the folder of the sensor. Where a setting differs
between programs, each is named with its default."""

VARIABLE_PAGE = """\
Every variable of the environment that acoupi reads. Those of the first table can be given to a
board that sets itself up ([fleets](../fleets.md)); the others belong to the services, to the
containers, or to a single command."""

SCOPES = {
    "configuration": "what the sensor does",
    "deployment": "where it is",
    "device": "which one it is",
    "running": "how its services run",
    "bundle": "set by setup, or by who renders the services",
}
WORDS = {Ge: "at least", Gt: "more than", Le: "at most", Lt: "less than",
         MinLen: "length at least", MaxLen: "length at most"}  # fmt: skip


def settings() -> str:
    """Return the page of settings."""
    return page("Every setting", SETTINGS, _parts())


def _parts() -> Iterator[str]:
    trees = {
        name: describe(load_program_class(f"acoupi.programs.{name}").get_config_schema())
        for name in PROGRAMS
    }
    sections: dict[str, dict[str, dict[str, ConfigTree]]] = {}
    for program, tree in trees.items():
        for node in tree.walk():
            if not node.is_section:
                named = sections.setdefault(node.name.rpartition(".")[0], {})
                named.setdefault(node.name, {})[program] = node
    for section in sorted(sections):
        yield f"## {section or 'Of the program itself'}"
        yield from _about(section, trees)
        rows = sections[section]
        having = {tuple(nodes) for nodes in rows.values()}
        if having not in ({PROGRAMS}, {USUAL}) and len(having) == 1:
            yield f"Program: {', '.join(*having)}."
        yield table(HEADS, [_row(nodes, is_said=len(having) > 1) for nodes in rows.values()])
    for tree in (describe(sensor_schema()), describe(CelerySettings)):
        yield from _other(tree, "celery" if tree.annotation is CelerySettings else "sensor")


HEADS = ("setting", "takes", "default", "meaning")


def _about(section: str, trees: dict[str, ConfigTree]) -> Iterator[str]:
    """Say of a section what it is, if its field does."""
    nodes = [tree.find(section.split(".")) for tree in trees.values()] if section else []
    said = [node.description for node in nodes if node is not None and node.description]
    yield from dict.fromkeys(said)


def _other(tree: ConfigTree, name: str) -> Iterator[str]:
    nodes = [node for node in tree.walk() if not node.is_section]
    for section in dict.fromkeys(node.name.rpartition(".")[0] for node in nodes):
        full = ".".join(filter(None, (name, section)))
        yield f"## {full}"
        about = tree.find(section.split(".")) if section else None
        yield from [about.description] if about is not None and about.description else []
        inside = [node for node in nodes if node.name.rpartition(".")[0] == section]
        yield table(HEADS, [(code(f"{name}.{node.name}"), *_told(node)) for node in inside])


def _row(nodes: dict[str, ConfigTree], *, is_said: bool) -> Sequence[str]:
    """Return the row of a setting that several programs may have, each with its default."""
    node = next(iter(nodes.values()))
    takes, _, meaning = _told(node)
    defaults: dict[str, list[str]] = {}
    for program, each in nodes.items():
        defaults.setdefault(_told(each)[1], []).append(program)
    shown = "; ".join(f"{', '.join(names)}: {text}" for text, names in defaults.items())
    only = f" Program: {', '.join(nodes)}." if is_said and tuple(nodes) != USUAL else ""
    default = next(iter(defaults)) if len(defaults) == 1 else shown
    return code(node.name), takes, default, meaning + only


def _told(node: ConfigTree) -> tuple[str, str, str]:
    """Return what it takes, its default, and what it means."""
    kind = ", ".join(code(show(one)) for one in node.choices) or kind_of(node)
    takes = "; ".join(filter(None, (kind, *_limits(node.marks))))
    if node.is_secret:
        takes += "; secret"
    shown = "required" if node.is_required else code(_default(node.default))
    return takes, shown, node.description or ""


def _limits(marks: Sequence[Any]) -> Iterator[str]:
    for mark in marks:
        for kind, words in WORDS.items():
            if isinstance(mark, kind):
                yield f"{words} {next(iter(vars_of(mark)))}"


def vars_of(mark: Any) -> Iterator[Any]:
    """Yield the values of a limit."""
    yield from (getattr(mark, name) for name in mark.__dataclass_fields__)


def _default(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return ", ".join(str(getattr(one, "value", one)) for one in value) or "[]"
    if isinstance(value, dict):
        return "{}"
    return "a section" if hasattr(type(value), "model_fields") else show(value)


def variables() -> str:
    """Return the page of variables."""
    return page("Variables", VARIABLE_PAGE, _variable_parts())


def _variable_parts() -> Iterator[str]:
    for scope, title in SCOPES.items():
        yield f"## {title[0].upper()}{title[1:]}"
        rows = [(code(_shown(one.name)), one.default, one.meaning) for one in VARIABLES
                if one.scope == scope]  # fmt: skip
        yield table(("variable", "default", "meaning"), rows)
    yield "## Of each service of a bundle"
    rows = [(code(f"{name}NAME"), text) for name, text in SERVICE_VARIABLES.items()]
    yield table(("variable", "meaning"), rows)
    yield "## Of commands"
    yield table(("variable", "meaning"), [(code(n), text) for n, text in COMMAND_VARIABLES.items()])


def _shown(name: str) -> str:
    return f"{name}…" if name.endswith("__") else name
