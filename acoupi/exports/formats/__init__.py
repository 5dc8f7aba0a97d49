"""The export formats, one module each."""

from collections.abc import Mapping

from acoupi.exports.format import Format
from acoupi.exports.formats.aoef import Aoef
from acoupi.exports.formats.audacity import Audacity
from acoupi.exports.formats.birdnet import BirdNet
from acoupi.exports.formats.bundle import Bundle
from acoupi.exports.formats.camtrap import CamtrapDp
from acoupi.exports.formats.darwin_core import DarwinCore
from acoupi.exports.formats.ebird import EBird
from acoupi.exports.formats.kaleidoscope import Kaleidoscope
from acoupi.exports.formats.raven import Raven
from acoupi.exports.formats.tables import Csv

__all__ = ["FORMATS", "Format"]

_KINDS: tuple[type[Format], ...] = (
    Csv, Raven, Audacity, Kaleidoscope, BirdNet, CamtrapDp, DarwinCore, Aoef, EBird, Bundle,
)  # fmt: skip

FORMATS: Mapping[str, type[Format]] = {one.name: one for one in _KINDS}
"""By what they are called on the command line."""
