"""``acoupi update`` and ``acoupi rollback``: another image for the containers of a sensor."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.output import done, example, print_json, say, warn
from acoupi.cli.table import single
from acoupi.cli.terminal import echo
from acoupi.errors import ParameterError, ProgramError, TargetError

if TYPE_CHECKING:
    from acoupi.stack.settings import Settings
    from acoupi.system.update_records import UpdateRecord
    from acoupi.targets.compose import ComposeTarget

__all__ = ["rollback_app", "update_app"]

update_app = single()
rollback_app = single()


@update_app.command(epilog=example("acoupi update --file /media/stick/images.tar"))
def update(
    image: Annotated[
        str | None, typer.Option(metavar="NAME", help="Pull this image and run from it.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Load the image from a docker save file: no network needed."
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="Minutes within which it must record and analyse.")
    ] = 5.0,
    one_way: Annotated[
        bool,
        typer.Option(
            "--one-way", help="Allow a conversion of databases; then there is no way back."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run from a newer image; go back automatically if that does not record.

    Without options: the image of the installed acoupi, built if needed. The update is good
    when every service is well and a recording and an analysis have arrived.
    """
    from acoupi.backup.making import make_backup
    from acoupi.system.updating import Update, fetch, load
    from acoupi.system.updating import update as switch_to

    if image and file:
        raise ParameterError(
            image,
            "--image and --file cannot be used together.",
            "one of them",
            why="both name the image.",
        )
    found = _bundle("update")
    _refuse_decided(found.settings)

    def get() -> str:
        if file is not None:
            return load(found, file)
        return fetch(found, image) if image else _own_image(found)

    wanted = Update(
        get=get,
        minutes=minutes,
        one_way=one_way,
        render=None if image or file else lambda: _render(found.settings, found.packages),
        back_up=lambda folder: make_backup(found.settings, folder).path,
        tell=lambda text: say(text[:1].upper() + text[1:] + ".", err=True),
    )
    name, record, lost = switch_to(found, wanted)
    if as_json:
        facts = None if record is None else _facts(record)
        print_json({"image": name, "update": facts, "not_recorded_s": lost})
    elif record is None:
        done(f"The sensor runs from {name} already.")
    else:
        done(f"The sensor runs from {name}: all services are well, it records and analyses.")
        say(f"{lost:.0f} s of planned recording were lost meanwhile (acoupi effort).")
        say("To go back: acoupi rollback")


@rollback_app.command(epilog=example("acoupi rollback"))
def rollback(as_json: AsJson = False) -> None:
    """Undo the last update.

    It needs no network: the image was kept. Recordings and detections stay.
    """
    from acoupi.system.updating import roll_back

    record, files_too = roll_back(_bundle("rollback"))
    if as_json:
        print_json({"update": _facts(record), "files_went_back": files_too})
        return
    done(f"The sensor runs from {record.before.name} again, as before {record.began_on:%F %R} UTC.")
    if not files_too:
        warn("the settings were changed since the update; they stay as they are.")


def _bundle(command: str) -> "ComposeTarget":
    """Return the containers of the home.

    Raises
    ------
    TargetError
        If it does not run in containers: then the package is updated instead.
    """
    from acoupi.targets.compose import ComposeTarget

    found = home.sensor()
    if not isinstance(found.target, ComposeTarget):
        raise TargetError(
            f"acoupi {command} is for sensors in containers.",
            "acoupi help moving-and-updating   (pip, then acoupi setup --no-prompt)",
            why=f'this one runs on the target "{found.target_name}", from the installed package.',
        )
    found.target.echo = echo
    return found.target


def _refuse_decided(settings: "Settings") -> None:
    """Raise if a hub chooses the image of this sensor."""
    from acoupi.provisioned import read_from_hub

    from_hub = read_from_hub(settings.program_config_file.parent)
    if from_hub and from_hub.image:
        raise TargetError(
            "the hub chooses the image of this sensor.",
            "acoupi fleet update … IMAGE   (at the hub; acoupi rollback goes back here)",
            why=f"it gives {from_hub.image}.",
        )


def _facts(record: "UpdateRecord") -> dict[str, object]:
    return record.model_dump(mode="json", exclude={"modes", "digests"})


def _own_image(found: "ComposeTarget") -> str:
    from acoupi.bundles.images import image_name, why_build
    from acoupi.cli.images import build_image_of

    name = image_name(found.packages)
    if why_build(name, found.packages, engine=found.engine) is None:
        return name
    return build_image_of(found.packages)


def _render(settings: "Settings", packages: list[str]) -> None:
    """Write the generated files again, in the image if the program is only installed there."""
    from acoupi.bundles.images import image_name
    from acoupi.cli.inside import run_inside
    from acoupi.stack.configured import read_program_name
    from acoupi.system.lifecycle import set_up
    from acoupi.system.planning import SetupRequest

    try:
        set_up(settings, SetupRequest(read_program_name(settings)))
    except ProgramError:
        if run_inside(settings, ["setup", "--no-prompt"], image_name(packages), packages):
            raise
