"""The section ``disk`` of ``config/sensor.json``: what is deleted when a disk fills."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from acoupi.deferred import DeferredModel
from acoupi.home import expanded
from acoupi.space import FileClass, OnFull, SpacePolicy, schedule_rate

__all__ = ["Disk", "policy_of"]

Orderable = Literal["refused", "unremarkable", "beyond_best", "review", "protected"]
MEGABYTE = 1_000_000
MOST_PER_NIGHT = 1_000_000


def _absolute(path: Path) -> Path:
    path = expanded(path)
    if not path.is_absolute() or path == Path("/"):
        raise ValueError("must be a folder below /, with its whole path")
    return path


def _different(order: list[Orderable]) -> list[Orderable]:
    if len(set(order)) < len(order):
        raise ValueError("names a class twice")
    return order


def _shares(folders: dict[str, float]) -> dict[str, float]:
    for folder, percent in folders.items():
        _absolute(Path(folder))
        if not 0 < percent <= 100:
            raise ValueError(f"the quota of {folder} must be from 0 to 100 %")
    return folders


class Quotas(DeferredModel):
    """Percent of the disk that files of a class may take; none: no limit."""

    unremarkable: float | None = Field(
        default=None, ge=0, le=100, description="Recordings in which nothing was found."
    )
    beyond_best: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Recordings beyond the best and newest of their night.",
    )
    review: float | None = Field(default=None, ge=0, le=100, description="The sample for review.")

    @model_validator(mode="after")
    def validate_sum(self) -> Self:
        """Refuse more than a whole disk."""
        total = sum(filter(None, self.model_dump().values()))
        if total > 100:
            raise ValueError(f"the quotas of the classes add up to {total:g} %, more than 100 %")
        return self


class Disk(DeferredModel):
    """What is deleted when a disk fills, and in which order."""

    enabled: bool = Field(
        default=False, description="Whether recordings are deleted so that the disk never fills up."
    )
    reserve_megabytes: float | None = Field(
        default=None,
        ge=16,
        description="Megabytes that stay free on each disk; none: enough for an hour of recording "
        "by the schedule, or 500 if that is more.",
    )
    high_percent: float = Field(
        default=85,
        gt=0,
        lt=100,
        description="Percent of a disk in use above which files are deleted...",
    )
    low_percent: float = Field(
        default=80, gt=0, lt=100, description="...until no more than this percentage is in use."
    )
    order: Annotated[list[Orderable], AfterValidator(_different)] = Field(
        default=["refused", "unremarkable", "beyond_best", "review"],
        min_length=1,
        description="Classes of files in the order of deletion; others are never deleted.",
    )
    best_per_night: int = Field(
        default=10,
        ge=1,
        le=MOST_PER_NIGHT,
        description="Files with the highest scores to keep of each species and night...",
    )
    newest_per_night: int = Field(
        default=5, ge=0, le=MOST_PER_NIGHT, description="...and the newest files to keep of each."
    )
    on_full: OnFull = Field(
        default="stop",
        description="When nothing more may be deleted: stop recording until there is room; "
        "discard_new, which records whenever one recording fits; or detections_only, which records "
        "and analyses but keeps no more sound.",
    )
    quotas: Quotas = Field(default_factory=Quotas, description="Percent of the disk by class.")
    folders: Annotated[dict[str, float], AfterValidator(_shares)] = Field(
        default_factory=dict,
        description="Percent of its disk that the recordings below a folder may take.",
        examples=[{"/media/usb/recordings": 90}],
    )
    mounts: list[Annotated[Path, AfterValidator(_absolute)]] = Field(
        default_factory=list,
        description="Mount points of other disks. While one is missing, nothing is written there.",
        examples=[["/media/usb"]],
    )

    @model_validator(mode="after")
    def validate_marks(self) -> Self:
        """Refuse a low mark above the high one."""
        if self.low_percent >= self.high_percent:
            raise ValueError(
                f"low_percent ({self.low_percent:g}) must be less than "
                f"high_percent ({self.high_percent:g})"
            )
        return self


def policy_of(
    disk: Disk, config: Mapping[str, Any], home: Path, zone: datetime.tzinfo
) -> SpacePolicy:
    """Return the disk policy of a sensor.

    Parameters
    ----------
    config
        Configuration of its program, as in its file.
    home
        ACOUPI_HOME.
    zone
        Time zone of the nights.
    """
    paths = config.get("paths") or {}
    rate, recording_bytes = schedule_rate(config)
    quotas = disk.quotas.model_dump(exclude_none=True)
    reserve = disk.reserve_megabytes
    return SpacePolicy(
        home=home,
        spool=_folder(paths.get("tmp_audio"), home / "data" / "spool"),
        recordings=_folder(paths.get("recordings"), home / "data" / "recordings"),
        rate=rate,
        recording_bytes=recording_bytes,
        reserve=None if reserve is None else round(reserve * MEGABYTE),
        high=disk.high_percent / 100,
        low=disk.low_percent / 100,
        order=[FileClass(one) for one in disk.order],
        best=disk.best_per_night,
        newest=disk.newest_per_night,
        on_full=disk.on_full,
        quotas={FileClass(name): percent / 100 for name, percent in quotas.items()},
        folders={expanded(name): share / 100 for name, share in disk.folders.items()},
        mounts=disk.mounts,
        zone=zone,
    )


def _folder(found: object, otherwise: Path) -> Path:
    return expanded(str(found)) if found else otherwise
