"""Everything that can go wrong, in one tree.

::

    AcoupiError                     exit code 1: failed
    ├── ConfigurationError          2: the user's settings are wrong
    │   └── ParameterError          one option has a wrong value
    ├── NotConfiguredError          2: `acoupi setup` has not been run
    ├── ProgramError                2
    │   ├── ProgramNotFoundError    no such program, or its import failed
    │   └── InvalidProgramError     found, but not a program
    ├── AudioError                  a file or a signal is not as expected
    ├── DeviceError                 microphone, disk, clock
    │   ├── DeviceUnavailableError  it is not there
    │   ├── DeviceConfigurationError  it does not offer what was requested
    │   └── RecordingError          it failed while recording
    ├── StoreError
    │   ├── MetadataStoreError
    │   │   └── HubError            what is sent to a hub, or its database, does not fit
    │   │       └── HubUnavailableError  its database, or where its sound is, does not answer
    │   │           └── HubFullError  there is no room for more sound
    │   ├── AlarmStoreError
    │   ├── RecordingFileError      a recording has no file (any more, or yet)
    │   └── MessageStoreError
    ├── MessageError
    │   └── MessageSendError        nothing reached the server
    ├── TargetError                 the place where the services run
    ├── DeploymentError
    └── HealthCheckError            3: a check failed

Each error says what happened, why, and what to try; the command line prints
these as three lines::

    Error: cannot record from "UltraMic 384K": the device does not offer 500000 Hz.
      Why: the driver answered "Invalid sample rate"; it offers 250000 and 384000.
      Try: acoupi config set microphone.samplerate 384000
"""

import re
from typing import ClassVar, Self

__all__ = [
    "AcoupiError",
    "AlarmStoreError",
    "AudioError",
    "ConfigurationError",
    "DeploymentError",
    "DeviceConfigurationError",
    "DeviceError",
    "DeviceUnavailableError",
    "HealthCheckError",
    "HubError",
    "HubFullError",
    "HubUnavailableError",
    "InvalidProgramError",
    "MessageError",
    "MessageSendError",
    "MessageStoreError",
    "MetadataStoreError",
    "NotConfiguredError",
    "ParameterError",
    "ProgramError",
    "ProgramNotFoundError",
    "RecordingError",
    "RecordingFileError",
    "StoreError",
    "TargetError",
]

_PRINTED = re.compile(r"^Error: (.*)\n  Why: (.*)\n  Try: (.*)$", re.MULTILINE)
"""The lines of `AcoupiError.lines`."""


class AcoupiError(Exception):
    """Base of every error that acoupi raises on purpose.

    Parameters
    ----------
    message
        What happened: the act that failed, with the value in quotes.
    help
        What to try: one command or one edit, ready to paste.
    why
        The cause in the user's words, with the driver's own text kept.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, help: str | None = None, *, why: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.why = why

    def __str__(self) -> str:
        return self.message

    def lines(self) -> list[str]:
        """Return the message as the one to three lines a user sees."""
        lines = [f"Error: {self.message}"]
        if self.why:
            lines.append(f"  Why: {self.why}")
        if self.help:
            lines.append(f"  Try: {self.help}")
        return lines

    @classmethod
    def printed_in(cls, text: str) -> Self | None:
        """Return the error whose three lines a process printed; None if there are none.

        Examples
        --------
        >>> error = AcoupiError("cannot start.", "acoupi check", why="the disk is full.")
        >>> found = AcoupiError.printed_in(chr(10).join(["starting", *error.lines(), "bye"]))
        >>> found.lines() == error.lines()
        True
        """
        found = _PRINTED.search(text)
        return cls(found[1], found[3], why=found[2]) if found else None


class ConfigurationError(AcoupiError):
    """The configuration, or an argument, is wrong."""

    exit_code = 2


class ParameterError(ConfigurationError):
    """One option has a value that is not allowed.

    Parameters
    ----------
    value
        What was given; never a secret.
    message, help, why
        As for `AcoupiError`.
    """

    def __init__(
        self, value: str, message: str, help: str | None = None, *, why: str | None = None
    ) -> None:
        super().__init__(message, help, why=why)
        self.value = value


class NotConfiguredError(AcoupiError):
    """There is no sensor in this ACOUPI_HOME yet."""

    exit_code = 2


class ProgramError(AcoupiError):
    """The program cannot be used."""

    exit_code = 2


class _OfProgramError(ProgramError):
    """Names the program; has a message of its own for want of another."""

    usual: str

    def __init__(
        self,
        program: str,
        message: str | None = None,
        help: str | None = None,
        *,
        why: str | None = None,
    ) -> None:
        super().__init__(message or self.usual.format(program), help, why=why)
        self.program = program


class ProgramNotFoundError(_OfProgramError):
    """There is no such program, or importing it failed."""

    usual = 'cannot find the program "{}".'


class InvalidProgramError(_OfProgramError):
    """The module exists but holds no acoupi program."""

    usual = '"{}" is not an acoupi program.'


class AudioError(AcoupiError):
    """A file or a signal is not as expected."""


class DeviceError(AcoupiError):
    """The microphone, a disk or the clock failed."""

    kept: object | None = None
    """The recording with the sound up to then; None if there was too little."""


class DeviceUnavailableError(DeviceError):
    """The device is not there."""


class DeviceConfigurationError(DeviceError):
    """The device does not offer what was requested."""


class RecordingError(DeviceError):
    """The device failed while recording."""


class StoreError(AcoupiError):
    """A database could not be read or written."""


class MetadataStoreError(StoreError):
    """The metadata store could not be read or written."""


class UnknownRecordingError(MetadataStoreError):
    """The recording that something belongs to is not stored."""


class HubError(MetadataStoreError):
    """A request does not fit a hub's data, or its database has another version."""


class HubUnavailableError(HubError):
    """The database of a hub, or its store of sound, does not answer."""

    retry_after: float | None = None
    """Seconds for which it asks to be left alone; None: it does not."""


class HubFullError(HubUnavailableError):
    """There is no room for more sound where a hub keeps it."""


class AlarmStoreError(StoreError):
    """The store of the alarms could not be read or written."""


class RecordingFileError(StoreError):
    """There is no file of a recording.

    Parameters
    ----------
    message, help, why
        As for `AcoupiError`.
    status
        As in HTTP: 404, there is no such recording; 410, its file no longer exists; 503, it
        cannot be read now.
    """

    def __init__(
        self, message: str, help: str | None = None, *, why: str | None = None, status: int = 404
    ) -> None:
        super().__init__(message, help, why=why)
        self.status = status


class MessageStoreError(StoreError):
    """The message store could not be read or written."""


class MessageError(AcoupiError):
    """A message could not be built or sent."""


class MessageSendError(MessageError):
    """Nothing reached the server: the message may be sent again."""


class AccessRefusedError(MessageSendError):
    """The server refuses access to the sensor: wrong or expired credentials."""


class TargetError(AcoupiError):
    """The place where the services run failed, or refused a request."""


class DeploymentError(AcoupiError):
    """A deployment could not be started, ended or read."""


class HealthCheckError(AcoupiError):
    """A health check found a fault."""

    exit_code = 3
