"""Everything a program is built from.

A name is imported from its module when it is first used, so that a program only
loads the components it needs.
"""

from typing import TYPE_CHECKING

from acoupi.lazy import attach

if TYPE_CHECKING:
    from acoupi.components import types as types
    from acoupi.components.audio_recorder import *
    from acoupi.components.message_factories import *
    from acoupi.components.message_stores.sqlite import *
    from acoupi.components.messengers import *
    from acoupi.components.models import *
    from acoupi.components.output_cleaners import *
    from acoupi.components.processing_filters import *
    from acoupi.components.recording_conditions import *
    from acoupi.components.recording_schedulers import *
    from acoupi.components.saving_filters import *
    from acoupi.components.saving_managers import *
    from acoupi.components.stores import *
    from acoupi.components.summariser import *

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        ".": "types",
        ".audio_recorder": (
            "MicrophoneConfig PARecorder PARecorderConfig PWRecorder PWRecorderConfig "
            "PyAudioRecorder"
        ),
        ".message_factories": "DetectionThresholdMessageBuilder FullModelOutputMessageBuilder",
        ".message_stores.sqlite": "SqliteMessageStore",
        ".messengers": "FileConfig FileMessenger HTTPConfig HTTPMessenger MQTTConfig MQTTMessenger",
        ".models": "BandEnergyConfig BandEnergyModel",
        ".output_cleaners": "ThresholdDetectionCleaner",
        ".processing_filters": "TrivialProcessingFilter",
        ".recording_conditions": (
            "DawnTimeInterval FollowsTheSun HasSufficientSpace IsInInterval IsInIntervals"
        ),
        ".recording_schedulers": "IntervalScheduler",
        ".saving_filters": (
            "After_DawnDuskTimeInterval Before_DawnDuskTimeInterval DetectionTagValue "
            "DetectionTags FrequencySchedule SaveIfInInterval SavingThreshold"
        ),
        ".saving_managers": "BaseFileManager DateFileManager IDFileManager SaveRecordingManager",
        ".stores": "SqliteStore",
        ".summariser": "StatisticsDetectionsSummariser ThresholdsDetectionsSummariser",
    },
)
