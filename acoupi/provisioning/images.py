"""Applying a hub's image to a sensor in containers, by ``acoupi update`` and ``rollback``."""

from collections.abc import Callable
from typing import Protocol

from acoupi.errors import TargetError
from acoupi.provisioned import FromHub
from acoupi.system.update_records import UpdateRecord, all_records
from acoupi.system.updating import Update, fetch, roll_back, update
from acoupi.targets import Target
from acoupi.targets.compose import ComposeTarget

__all__ = ["Containers", "Images", "run_from", "went_back"]

OWN_PART = 0.5
"""Share of a document's minutes that an update may take to prove itself here."""
UNJUDGED = ("switching", "judging")


class Images(Protocol):
    """The operations on the image of a sensor."""

    def records(self) -> list[UpdateRecord]:
        """Return the recorded updates, the newest first."""

    def update(self, image: str, minutes: float) -> None:
        """Run from an image; raises a `TargetError` if it went back, or was refused."""

    def roll_back(self) -> None:
        """Undo the last update."""


class Containers:
    """The containers of a home."""

    def __init__(self, target: Target, tell: Callable[[str], None]) -> None:
        self._target, self._tell = target, tell

    def records(self) -> list[UpdateRecord]:
        """Return the recorded updates, the newest first."""
        return all_records(self._target.settings)

    def update(self, image: str, minutes: float) -> None:
        """Run from an image.

        Raises
        ------
        TargetError
            If it went back, or was refused.
        """
        found = self._bundle()
        update(found, Update(get=lambda: fetch(found, image), minutes=minutes, tell=self._tell))

    def roll_back(self) -> None:
        """Undo the last update."""
        roll_back(self._bundle())

    def _bundle(self) -> ComposeTarget:
        if not isinstance(self._target, ComposeTarget):
            raise TargetError(
                "the image from the hub is refused.",
                "acoupi help moving-and-updating",
                why=f'this sensor runs on the target "{self._target.name}", from the installed '
                "package.",
            )
        return self._target


def run_from(images: Images, image: str | None, minutes: float, state: FromHub) -> FromHub:
    """Run a sensor from the hub's image; return the new state.

    Parameters
    ----------
    image
        None: the image before the hub gave any.
    minutes
        Minutes of the document.

    Raises
    ------
    AcoupiError
        If it runs from the previous image, with the reason.
    """
    if image == state.image:
        return state
    name = image or state.image_before
    known = images.records()
    if known and known[0].stage in UNJUDGED and known[0].after.name == image:
        images.roll_back()
        raise TargetError(
            f"the update to {image} was undone.",
            "acoupi fleet update …   (again, at the hub)",
            why="it was interrupted, and never judged.",
        )
    last = next((one for one in known if one.stage != "undone"), None)
    if last and (last.after.name, last.before.name) == (state.image, name):
        images.roll_back()
    elif name and not (went_back(images, state) and known[0].before.name == name):
        images.update(name, minutes * OWN_PART)
    before = state.image_before or _before(images, image)
    return state.model_copy(update={"image": image, "image_before": image and before})


def went_back(images: Images, state: FromHub) -> bool:
    """Return whether a person undid the hub's choice by ``acoupi rollback``."""
    last = next(iter(images.records()), None) if state.image else None
    return last is not None and last.stage == "undone" and last.after.name == state.image


def _before(images: Images, image: str | None) -> str | None:
    """Return the image that a sensor ran from before another."""
    found = (one.before.name for one in images.records() if one.after.name == image)
    return next(found, image)
