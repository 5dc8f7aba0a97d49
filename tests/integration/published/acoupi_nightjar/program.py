"""The sensor."""

import datetime
from zoneinfo import ZoneInfo

from acoupi import components, data, tasks
from acoupi.components import types
from acoupi.programs.core import DEFAULT_WORKER_CONFIG, AcoupiWorker, WorkerConfig
from acoupi.programs.templates import DetectionProgram
from acoupi_nightjar.configuration import ConfigSchema
from acoupi_nightjar.model import Nightjar


class Program(DetectionProgram[ConfigSchema]):
    """Hears nightjars."""

    config_schema = ConfigSchema
    worker_config = WorkerConfig(
        workers=[
            *DEFAULT_WORKER_CONFIG.workers,
            AcoupiWorker(name="detection", queues=["detection"], concurrency=1),
        ]
    )

    def setup(self, config):
        super().setup(config)
        if config.summariser is not None:
            self.add_task(
                function=tasks.generate_summariser_task(
                    summarisers=self.get_summarisers(config),
                    message_store=self.message_store,
                    logger=self.logger.getChild("summary"),
                ),
                schedule=datetime.timedelta(seconds=config.summariser.interval),
                queue="celery",
            )

    def configure_model(self, config):
        return Nightjar()

    def get_summarisers(self, config):
        assert config.summariser is not None
        interval = config.summariser.interval
        summarisers: list[types.Summariser] = [
            components.StatisticsDetectionsSummariser(store=self.store, interval=interval)
        ]
        if config.summariser.mid_band_threshold:
            summarisers.append(
                components.ThresholdsDetectionsSummariser(
                    store=self.store,
                    interval=interval,
                    low_band_threshold=config.summariser.low_band_threshold or 0,
                    mid_band_threshold=config.summariser.mid_band_threshold,
                    high_band_threshold=config.summariser.high_band_threshold or 1,
                )
            )
        return summarisers

    def get_message_factories(self, config):
        return [
            components.DetectionThresholdMessageBuilder(
                detection_threshold=config.model.detection_threshold
            )
        ]

    def get_file_managers(self, config):
        folder = config.paths.recordings
        return [
            components.SaveRecordingManager(
                dirpath=folder,
                dirpath_true=folder / config.paths.heard,
                dirpath_false=folder / config.paths.unsure,
                timeformat="%Y%m%d_%H%M%S",
                detection_threshold=config.model.detection_threshold,
                saving_threshold=(
                    config.saving_filters.saving_threshold if config.saving_filters else 0.0
                ),
            )
        ]

    def get_recording_filters(self, config):
        saving = config.saving_filters
        if saving is None:
            return []
        timezone = ZoneInfo(config.timezone)
        filters: list[types.RecordingSavingFilter] = []
        if saving.starttime is not None and saving.endtime is not None:
            filters.append(
                components.SaveIfInInterval(
                    interval=data.TimeInterval(start=saving.starttime, end=saving.endtime),
                    timezone=timezone,
                )
            )
        if saving.before_dawndusk_duration > 0:
            filters.append(
                components.Before_DawnDuskTimeInterval(
                    duration=saving.before_dawndusk_duration, timezone=timezone
                )
            )
        if saving.after_dawndusk_duration > 0:
            filters.append(
                components.After_DawnDuskTimeInterval(
                    duration=saving.after_dawndusk_duration, timezone=timezone
                )
            )
        if saving.frequency_duration > 0 and saving.frequency_interval > 0:
            filters.append(
                components.FrequencySchedule(
                    duration=saving.frequency_duration, frequency=saving.frequency_interval
                )
            )
        if saving.saving_threshold > 0:
            filters.append(components.SavingThreshold(saving.saving_threshold))
        if saving.tags:
            filters.append(components.DetectionTagValue(values=saving.tags))
        return filters

    def validate_dirs(self, config):
        super().validate_dirs(config)
        for name in (config.paths.heard, config.paths.unsure):
            (config.paths.recordings / name).mkdir(parents=True, exist_ok=True)
