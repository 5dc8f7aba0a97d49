"""Models that come with acoupi; each needs nothing but numpy.

Nothing is imported until a name is used.
"""

from typing import TYPE_CHECKING

from acoupi.lazy import attach

if TYPE_CHECKING:
    from acoupi.components.models.band_energy import *
    from acoupi.components.models.band_energy_model import *

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        ".band_energy": "detect",
        ".band_energy_model": "BandEnergyConfig BandEnergyModel",
    },
)
