"""``acoupi config``: showing settings, and changing one."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.changes import apply, remind_of_restart
from acoupi.cli.checks import AsJson, warn_of_settings
from acoupi.cli.output import done, example, print_json, print_table, say
from acoupi.cli.table import group
from acoupi.cli.timezones import shown_time
from acoupi.errors import ParameterError

if TYPE_CHECKING:
    from acoupi.config import ConfigTree
    from acoupi.stack.settings import Settings
    from acoupi.system.config_history import Change, InForce

__all__ = ["app"]

app = group("config")

FieldOption = Annotated[
    str | None,
    typer.Option(
        "--field", metavar="NAME", help="The setting.", autocompletion=home.complete.fields
    ),
]

Apply = Annotated[
    bool, typer.Option("--apply", help="Restart the running services, and list them.")
]


@app.command(epilog=example("acoupi config get recording.duration"))
def get(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="The setting; by default, all of them.",
            autocompletion=home.complete.fields,
        ),
    ] = None,
    field: FieldOption = None,
    indent: Annotated[int, typer.Option("--indent", "-i", min=0, help="Spaces.")] = 2,
    color: Annotated[bool | None, typer.Option("--color/--no-color", help="Colour it.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="It is JSON anyway.", hidden=True)
    ] = False,
) -> None:
    """Show the settings, or one of them, as JSON. Secrets are not shown.

    Settings of the sensor itself, not of its program, are in the section "sensor".
    """
    from acoupi.config.sensor import dump_setting

    found = home.sensor()
    text = dump_setting(found.config, found.own_config, field or name or "", indent)
    if color and not as_json:
        # The style is named here, so that NO_COLOR does not matter.
        from rich.console import Console

        Console(force_terminal=True).print_json(text, indent=indent)
    else:
        say(text)


@app.command(
    "set",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    epilog=example("acoupi config set recording.duration 10"),
)
def set_(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME VALUE",
            help="The setting and its new value.",
            autocompletion=home.complete.fields,
        ),
    ] = None,
    field: FieldOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The value is JSON.")] = False,
    apply_now: Apply = False,
) -> None:
    """Change one setting, or all of them with a JSON document.

    The other settings stay. Running services keep the old settings until they are
    restarted; --apply restarts them.
    """
    from acoupi.commit import changing
    from acoupi.config.sensor import set_setting
    from acoupi.home import using_home
    from acoupi.stack.configured import require_configured
    from acoupi.system.lifecycle import set_up
    from acoupi.system.planning import SetupRequest

    name, value = _name_and_value([*(words or []), *context.args], field)
    settings = home.settings()
    require_configured(settings)
    with (
        using_home(settings.home),
        changing(settings.program_config_file.parent, "acoupi config set"),
    ):
        found = home.sensor()
        program, sensor = set_setting(found.config, found.own_config, name, value, is_json=as_json)
        origin = f"acoupi config set {name}".strip()
        request = SetupRequest(found.program_name, config=program, sensor=sensor, origin=origin)
        set_up(settings, request)
    done(f"{name or 'The configuration'} has been set.")
    _in_force(settings, apply_now=apply_now)


@app.command(epilog=example("acoupi config history"))
def history(as_json: AsJson = False) -> None:
    """List every earlier configuration, and what changed. Secrets are not stored in it."""
    from acoupi.system.config_history import read_history

    known = read_history(home.settings())
    if as_json:
        print_json([one.model_dump(mode="json") for one in known])
        return
    rows = [_change_row(number, known) for number in range(len(known))]
    columns = {"number": "", "on": "since (UTC)", "by": "set by", "changed": "what changed"}
    print_table(rows, columns, empty="There is no record of earlier configurations.")


def _change_row(number: int, known: "list[InForce]") -> dict[str, Any]:
    from acoupi.system.config_history import changes_between

    before = known[max(number - 1, 0)]
    changed = [_shown(one) for one in changes_between(before, known[number])]
    return {
        "number": number + 1,
        "on": shown_time(known[number].on),
        "by": known[number].by,
        "changed": "; ".join(changed),
    }


def _shown(change: "Change") -> str:
    from acoupi.config.problems import show

    return f"{change.setting} {show(change.before)} -> {show(change.after)}"


@app.command(epilog=example("acoupi config undo --to 3"))
def undo(
    to: Annotated[
        int | None,
        typer.Option(min=1, help="Its number in the history; by default, the previous one."),
    ] = None,
    apply_now: Apply = False,
) -> None:
    """Return to an earlier configuration. Secrets stay as they are now."""
    from acoupi.commit import changing
    from acoupi.home import using_home
    from acoupi.stack.configured import require_configured
    from acoupi.system.config_history import changes_between, read_history, request_of
    from acoupi.system.lifecycle import set_up

    settings = home.settings()
    require_configured(settings)
    with (
        using_home(settings.home),
        changing(settings.program_config_file.parent, "acoupi config undo"),
    ):
        present = read_history(settings)[-1:]
        wanted, request = request_of(settings, to)
        set_up(settings, request)
    done(f"The configuration of {shown_time(wanted.on)} UTC has been restored.")
    for change in changes_between(present[0], wanted):
        say(f"  {_shown(change)}")
    _in_force(settings, apply_now=apply_now)


def _in_force(settings: "Settings", *, apply_now: bool) -> None:
    warn_of_settings(settings)
    if apply_now:
        apply(settings)
    else:
        remind_of_restart(settings, home.sensor().services)


def _name_and_value(words: list[str], field: str | None) -> tuple[str, str]:
    """Separate the name from the value: NAME VALUE, --field NAME VALUE, or a document."""
    if field is not None:
        words = [field, *words]
    if len(words) == 2 and not words[0].startswith("-"):
        return words[0], words[1]
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        return "", words[0]
    raise ParameterError(
        " ".join(words),
        f"cannot tell the setting from its value in {len(words)} words.",
        "acoupi config set recording.duration 10",
        why="it takes one name and one value; put a value with spaces in quotes.",
    )


@app.command(epilog=example("acoupi config schema --program default"))
def schema(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECTION]", help="Only this section, such as recording; by default, all."
        ),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The program; by default, the one that is set up.",
            autocompletion=home.complete.programs,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON Schema.")] = False,
) -> None:
    """List every setting, or those of a section, with its possible values and its default."""
    from acoupi.config import config_schema_json
    from acoupi.config.sensor import setting_trees
    from acoupi.home import using_home
    from acoupi.stack.loading import load_program_class

    settings = home.settings()
    chosen = home.sensor().program_class if program is None else load_program_class(program)
    model = chosen.get_config_schema()
    if as_json:
        print_json(json.loads(config_schema_json(model)))
        return
    with using_home(settings.home):
        nodes = [node for tree in setting_trees(model) for node in tree.walk()]
        found = [node for node in nodes if not node.is_section and _is_in(node.name, section)]
        rows = [_row(node) for node in found]
    if section is not None and not rows:
        sections = dict.fromkeys(node.name.partition(".")[0] for node in nodes)
        raise ParameterError(
            section,
            f'there is no setting "{section}".',
            f"acoupi config schema {next(iter(sections))}",
            why=f"the settings and sections are {', '.join(sections)}.",
        )
    columns = {"option": "option", "kind": "type", "default": "default", "meaning": "meaning"}
    print_table(rows, columns, empty="This program has no settings.")


def _is_in(name: str, section: str | None) -> bool:
    return section is None or f"{name}.".startswith(f"{section}.")


def _row(node: "ConfigTree") -> dict[str, Any]:
    from acoupi.config.problems import show
    from acoupi.config.questions import kind_of

    kind = " | ".join(str(show(choice)) for choice in node.choices) or kind_of(node)
    default = node.default
    shown = "(required)" if node.is_required else show(default) if default is not None else None
    return {"option": node.option, "kind": kind, "default": shown, "meaning": node.description}
