"""Autonomous bioacoustic sensors: record, detect, keep, report.

Import from the sub-packages (`acoupi.data`, `acoupi.components`,
`acoupi.programs`, ...); nothing heavy is imported here.
"""

__version__ = "1.0.0.dev0"
