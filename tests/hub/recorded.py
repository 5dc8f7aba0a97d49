"""A sensor that leaves its recordings to a hub, and what it would have found itself."""

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from celery import Celery

from acoupi import data
from acoupi.audio.synthetic import synthesize_second
from acoupi.audio.wav import WavWriter
from acoupi.components.models import BandEnergyModel
from acoupi.hub.audio import put_chunk, take_sound
from acoupi.hub.parts import Hub
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.hub.taking_in import take_in
from acoupi.hub.tokens import caller_of
from acoupi.reports import DeploymentReport, ProgramReport, RecordingReport, Report, SoundReport
from acoupi.tasks.detection import model_name
from tests.clocks import START
from tests.stores import SITE, recording

RATE = 48_000
SENSOR = "oak-1"
MODEL = model_name(BandEnergyModel())
_seeds = itertools.count()


def new_recording(folder: Path, seconds: int = 2) -> data.Recording:
    """Record a soundscape."""
    seed = next(_seeds)
    path = folder / f"sound-{seed}.wav"
    sound = np.concatenate([synthesize_second(seed, one, RATE, 1) for one in range(seconds)])
    writer = WavWriter(path, RATE, 1)
    writer.write(sound.tobytes())
    writer.finish()
    return recording(path.name, seed * 10, duration=float(seconds), samplerate=RATE).model_copy(
        update={"path": path}
    )


def report_of(one: data.Recording, program: ProgramReport, stamp: int = 0) -> Report:
    """Report a recording that is left to the hub."""
    assert one.path is not None
    said = RecordingReport(
        id=one.id,
        deployment=SITE.id,
        reported_on=START.replace(year=2025, second=stamp),
        created_on=one.created_on,
        duration_s=one.duration,
        samplerate_hz=one.samplerate,
        audio_channels=1,
        name=one.path.name,
        state=data.RecordingState.CAPTURED,
        analyses=[
            data.Analysis(
                recording_id=one.id,
                name_model=MODEL,
                state=data.AnalysisState.HUB,
                attempts=0,
                updated_on=START,
            )
        ],
        analyse=program.digest,
    )
    deployments = [DeploymentReport(deployment=SITE)]
    return Report(programs=[program], deployments=deployments, recordings=[said])


def leave(hub: Hub, one: data.Recording, program: ProgramReport) -> None:
    """Report a recording to a hub, and send its sound."""
    add_sensor(hub.database, SENSOR)
    take_in(hub.database, SENSOR, report_of(one, program))
    send_sound(hub, one)


def send_sound(hub: Hub, one: data.Recording) -> None:
    """Send the sound of a recording."""
    assert one.path is not None
    sensor = caller_of(hub.database, make_token(hub.database, SENSOR))
    assert sensor is not None
    content = one.path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    put_chunk(hub, sensor.row, one.id, digest, 0, content)
    sound = SoundReport(format="wav", bytes=len(content), sha256=digest)
    assert take_sound(hub, sensor.row, one.id, sound) is None


def analysed_by_sensor(
    program_class: Any, config: Any, one: data.Recording
) -> tuple[list[data.Analysis], list[data.ModelOutput], list[data.Message]]:
    """Return what a sensor with these settings makes of a recording itself."""
    app = Celery("sensor", set_as_current=False, broker="memory://")
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    program = program_class(config, app)
    program.validate_dirs(config)
    program.store.store_deployment(one.deployment)
    program.store.store_recording(one)
    program.resend(one)
    [(_, outputs)] = program.store.get_recordings([one.id])
    messages = list(program.message_store.get_unsent_messages())
    return program.store.get_analyses([one])[one.id], outputs, messages
