"""What was heard, for people and other tools: see `Reader`."""

from acoupi.exports.reader import MessageReader, Reader
from acoupi.heard import DetectionRow, Filters, MessageRow, RecordingRow, Verdict, VerdictRow
from acoupi.provenance import Provenance

__all__ = [
    "DetectionRow",
    "Filters",
    "MessageReader",
    "MessageRow",
    "Provenance",
    "Reader",
    "RecordingRow",
    "Verdict",
    "VerdictRow",
]
