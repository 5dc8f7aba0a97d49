"""Models that come with acoupi; each needs nothing but numpy.

Nothing is imported until a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acoupi.components.models.band_energy import detect
    from acoupi.components.models.band_energy_model import BandEnergyConfig, BandEnergyModel

__all__ = ["BandEnergyConfig", "BandEnergyModel", "detect"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "band_energy" if name == "detect" else "band_energy_model"
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return __all__
