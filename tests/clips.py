"""A stream of numbered frames, cut into recordings with what was found in them."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from acoupi import data
from acoupi.audio import formats
from acoupi.audio.counter import count_frames
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.clips import ClipSettings
from acoupi.components import IDFileManager, SqliteStore
from acoupi.components.stores import SqliteReader
from acoupi.heard import ClipRow, Filters, RecordingRow
from acoupi.tasks import generate_file_management_task, generate_recovery_task

RATE = 1000
FRAMES = 1000
"""Of a recording: one second."""
BEGAN = datetime.datetime(2024, 6, 1, 20, tzinfo=datetime.UTC)
SITE = data.Deployment(name="Pond", started_on=BEGAN, latitude=51.5, longitude=-0.125)


class Stream:
    """A recorder, a model and the task that manages files.

    Parameters
    ----------
    folder
        Of the store, the spool and the files that are kept.
    before, after
        Seconds of a clip around a detection.
    """

    def __init__(
        self,
        folder: Path,
        *,
        are_on: bool = True,
        before: float = 0.1,
        after: float = 0.2,
        **options: Any,
    ) -> None:
        self.spool, self.kept = folder / "spool", folder / "kept"
        self.path = folder / "metadata.db"
        self.store = SqliteStore(self.path)
        self.store.clips = ClipSettings(are_on, before, after)
        if not self.store.get_deployments():
            self.store.store_deployment(SITE)
        self.id = uuid4()
        self.position = 0
        self.file_format, self.bits, self.channels = "wav", 16, 1
        self.options = options

    def file(self, frames: int = FRAMES, **report: Any) -> data.Recording:
        """Write the next recording, which the store does not know yet."""
        recording = self.described(frames, **report)
        assert recording.path is not None
        with formats.open_writer(
            recording.path, RATE, self.channels, bits=self.bits, sample_bytes=4,
            guano=build_guano({**guano_of_recording(recording, serial="S1"), "Note": "oak"}),
        ) as writer:  # fmt: skip
            samples = count_frames(self.position, frames, self.channels).astype("<i4") << 16
            if self.bits > 16:
                samples += samples >> 8 & 0xFF00
            writer.write(samples.tobytes())
            writer.finish()
        self.position += frames
        return recording

    def described(self, frames: int, **report: Any) -> data.Recording:
        began = BEGAN + datetime.timedelta(seconds=self.position / RATE)
        id_ = uuid4()
        capture = {
            "stream_id": self.id,
            "first_frame": self.position,
            "frames": frames,
            "samplerate_measured": RATE,
            "clock_synchronised": True,
            "clock_error_s": 0.004,
            **report,
        }
        return data.Recording(
            id=id_,
            path=self.spool / f"{began:%Y%m%d_%H%M%S}_{id_}.{self.file_format}",
            duration=frames / RATE,
            samplerate=RATE,
            audio_channels=self.channels,
            created_on=began,
            deployment=SITE,
            capture=data.CaptureReport(**capture),
        )

    def record(self, *found: Any, frames: int = FRAMES, **report: Any) -> data.Recording:
        """Store the next recording, and what a model found in it (see `analyse`)."""
        recording = self.file(frames, **report)
        self.store.store_recording(recording)
        self.analyse(recording, *found)
        return recording

    def analyse(self, recording: data.Recording, *found: Any) -> None:
        """Store detections: times and maybe a score; None is one without a box."""
        self.store.store_model_output(
            data.ModelOutput(
                id=data.derived_id(recording.id, "bats"),
                name_model="bats",
                recording=recording,
                detections=[_detection(recording, n, one) for n, one in enumerate(found)],
            )
        )

    def skip(self, frames: int) -> None:
        """Let frames go by that are not recorded."""
        self.position += frames

    def end(self) -> None:
        """End the deployment: nothing more will come."""
        ended = SITE.started_on + datetime.timedelta(days=1)
        self.store.update_deployment(SITE.model_copy(update={"ended_on": ended}))

    def task(self, store: Any = None) -> Callable[[], None]:
        return generate_file_management_task(
            store or self.store,
            self.options.pop("managers", [IDFileManager(self.kept)]),
            file_filters=self.options.get("filters"),
            required_models=["bats"],
            tmp_path=self.spool,
        )

    def manage(self) -> None:
        self.task()()

    def recover(self) -> None:
        generate_recovery_task(
            self.store, tmp_path=self.spool, settle_time=-1, required_models=["bats"]
        )()

    # What is left

    def rows(self) -> list[RecordingRow]:
        with SqliteReader(self.path) as reader:
            return list(reader.recordings(Filters()))

    def clips(self) -> dict[UUID, ClipRow]:
        return {clip.id: clip for row in self.rows() for clip in row.clips}

    def kept_frames(self) -> list[tuple[int, int]]:
        """Return what the files of clips hold, in order: first frame, and the one after the last.

        Each is checked to be the stream, sample for sample.
        """
        found = [numbers(clip.path) for clip in self.clips().values()]
        for one in found:
            assert one == list(range(one[0], one[0] + len(one)))
        return sorted((one[0], one[-1] + 1) for one in found)

    def files(self) -> list[Path]:
        return sorted(one for one in self.kept.rglob("*") if one.is_file())

    def waiting(self) -> list[Path]:
        return sorted(one for one in self.spool.rglob("*") if one.is_file())


def numbers(path: Path) -> list[int]:
    """Return the frames of the counter that a file holds."""
    samples, _ = formats.read_audio(path)
    return (np.rint(samples[:, 0].astype(np.float64) * 2**31).astype(int) // 2**16 - 1).tolist()


def _detection(
    recording: data.Recording, number: int, found: Sequence[float] | None
) -> data.Detection:
    start, end, score = (*found, 0.9)[:3] if found is not None else (0, 0, 0.9)
    box = None if found is None else data.BoundingBox.from_coordinates(start, 20_000, end, 60_000)
    return data.Detection(
        id=data.derived_id(recording.id, number),
        location=box,
        detection_score=score,
        tags=[data.PredictedTag(data.Tag("species", "Myotis nattereri"), score)],
    )
