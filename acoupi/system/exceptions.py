"""The errors, under the import path that published programs use; see `acoupi.errors`."""

from acoupi.errors import (
    ConfigurationError,
    DeploymentError,
    DeviceConfigurationError,
    DeviceError,
    DeviceUnavailableError,
    HealthCheckError,
    InvalidProgramError,
    MessageSendError,
    MessageStoreError,
    MetadataStoreError,
    ParameterError,
    ProgramNotFoundError,
    RecordingError,
)

__all__ = [
    "ConfigurationError",
    "DeploymentError",
    "DeviceConfigurationError",
    "DeviceError",
    "DeviceUnavailableError",
    "HealthCheckError",
    "InvalidProgramError",
    "MessageSendError",
    "MessageStoreError",
    "MetadataStoreError",
    "ParameterError",
    "ProgramNotFoundError",
    "RecordingError",
]
