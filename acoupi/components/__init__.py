"""Everything a program is built from.

A name is imported from its module when it is first used, so that a program only
loads the components it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acoupi.components import types
    from acoupi.components.audio_recorder import (
        MicrophoneConfig,
        PARecorder,
        PARecorderConfig,
        PWRecorder,
        PWRecorderConfig,
        PyAudioRecorder,
    )
    from acoupi.components.message_factories import (
        DetectionThresholdMessageBuilder,
        FullModelOutputMessageBuilder,
    )
    from acoupi.components.message_stores.sqlite import SqliteMessageStore
    from acoupi.components.messengers import (
        FileConfig,
        FileMessenger,
        HTTPConfig,
        HTTPMessenger,
        MQTTConfig,
        MQTTMessenger,
    )
    from acoupi.components.models import BandEnergyConfig, BandEnergyModel
    from acoupi.components.output_cleaners import ThresholdDetectionCleaner
    from acoupi.components.processing_filters import TrivialProcessingFilter
    from acoupi.components.recording_conditions import (
        DawnTimeInterval,
        HasSufficientSpace,
        IsInInterval,
        IsInIntervals,
    )
    from acoupi.components.recording_schedulers import IntervalScheduler
    from acoupi.components.saving_filters import (
        After_DawnDuskTimeInterval,
        Before_DawnDuskTimeInterval,
        DetectionTags,
        DetectionTagValue,
        FrequencySchedule,
        SaveIfInInterval,
        SavingThreshold,
    )
    from acoupi.components.saving_managers import (
        BaseFileManager,
        DateFileManager,
        IDFileManager,
        SaveRecordingManager,
    )
    from acoupi.components.stores import SqliteStore
    from acoupi.components.summariser import (
        StatisticsDetectionsSummariser,
        ThresholdsDetectionsSummariser,
    )

_NAMES = {
    "audio_recorder": (
        "MicrophoneConfig",
        "PARecorder",
        "PARecorderConfig",
        "PWRecorder",
        "PWRecorderConfig",
        "PyAudioRecorder",
    ),
    "message_factories": ("DetectionThresholdMessageBuilder", "FullModelOutputMessageBuilder"),
    "message_stores.sqlite": ("SqliteMessageStore",),
    "messengers": (
        "FileConfig",
        "FileMessenger",
        "HTTPConfig",
        "HTTPMessenger",
        "MQTTConfig",
        "MQTTMessenger",
    ),
    "models": ("BandEnergyConfig", "BandEnergyModel"),
    "output_cleaners": ("ThresholdDetectionCleaner",),
    "processing_filters": ("TrivialProcessingFilter",),
    "recording_conditions": (
        "DawnTimeInterval",
        "HasSufficientSpace",
        "IsInInterval",
        "IsInIntervals",
    ),
    "recording_schedulers": ("IntervalScheduler",),
    "saving_filters": (
        "After_DawnDuskTimeInterval",
        "Before_DawnDuskTimeInterval",
        "DetectionTagValue",
        "DetectionTags",
        "FrequencySchedule",
        "SaveIfInInterval",
        "SavingThreshold",
    ),
    "saving_managers": (
        "BaseFileManager",
        "DateFileManager",
        "IDFileManager",
        "SaveRecordingManager",
    ),
    "stores": ("SqliteStore",),
    "summariser": ("StatisticsDetectionsSummariser", "ThresholdsDetectionsSummariser"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "After_DawnDuskTimeInterval",
    "BandEnergyConfig",
    "BandEnergyModel",
    "BaseFileManager",
    "Before_DawnDuskTimeInterval",
    "DateFileManager",
    "DawnTimeInterval",
    "DetectionTagValue",
    "DetectionTags",
    "DetectionThresholdMessageBuilder",
    "FileConfig",
    "FileMessenger",
    "FrequencySchedule",
    "FullModelOutputMessageBuilder",
    "HTTPConfig",
    "HTTPMessenger",
    "HasSufficientSpace",
    "IDFileManager",
    "IntervalScheduler",
    "IsInInterval",
    "IsInIntervals",
    "MQTTConfig",
    "MQTTMessenger",
    "MicrophoneConfig",
    "PARecorder",
    "PARecorderConfig",
    "PWRecorder",
    "PWRecorderConfig",
    "PyAudioRecorder",
    "SaveIfInInterval",
    "SaveRecordingManager",
    "SavingThreshold",
    "SqliteMessageStore",
    "SqliteStore",
    "StatisticsDetectionsSummariser",
    "ThresholdDetectionCleaner",
    "ThresholdsDetectionsSummariser",
    "TrivialProcessingFilter",
    "types",
]


def __getattr__(name: str) -> Any:
    """Import a component from its module (PEP 562)."""
    if name == "types":
        return import_module("acoupi.components.types")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
