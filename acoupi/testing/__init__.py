"""Fakes of every component, and factories of data: for our tests and for those of programs.

They do what the interfaces promise, with real files and no hardware.
"""

from acoupi.testing.components import (
    FakeModel,
    FakeRecorder,
    ListMessenger,
    make_deployment,
    make_recording,
    make_wav,
)
from acoupi.testing.stores import InMemoryMessageStore, InMemoryStore

__all__ = [
    "FakeModel",
    "FakeRecorder",
    "InMemoryMessageStore",
    "InMemoryStore",
    "ListMessenger",
    "make_deployment",
    "make_recording",
    "make_wav",
]
