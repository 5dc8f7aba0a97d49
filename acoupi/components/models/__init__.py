"""Models that come with acoupi; each needs nothing but numpy.

Nothing is imported until a name is asked for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acoupi.components.models.band_energy import BandEnergyConfig, BandEnergyModel, detect

__all__ = ["BandEnergyConfig", "BandEnergyModel", "detect"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from acoupi.components.models import band_energy  # noqa: PLC0415 - brings numpy

    return getattr(band_energy, name)


def __dir__() -> list[str]:
    return __all__
