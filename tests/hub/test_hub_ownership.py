"""A sensor writes what is its own, and a worker what its job is about; with a real PostgreSQL."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from acoupi import data
from acoupi.errors import HubError
from acoupi.heard import Filters, Verdict, VerdictRow
from acoupi.hub.database import HubDatabase
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor
from acoupi.hub.taking_in import take_in
from acoupi.reports import (
    ClipReport,
    DeploymentReport,
    OutputReport,
    RecordingReport,
    Report,
)
from tests.stores import at, deployment, detection

MINE, YOURS = "oak-1", "elm-2"


@pytest.fixture
def hub(url: str) -> Iterator[HubDatabase]:
    database = HubDatabase(url)
    for name in (MINE, YOURS):
        add_sensor(database, name)
    yield database
    database.close()


class Heard:
    """What a sensor heard once, with a clip of it and a detection in it."""

    def __init__(self) -> None:
        self.site = deployment()
        self.recording, self.clip, self.output = uuid4(), uuid4(), uuid4()
        self.detection = detection(0.9, ("species", "Myotis", 0.9))

    def report(self, **fields: Any) -> Report:
        """Return what its sensor reports."""
        given = {
            "id": self.recording, "deployment": self.site.id, "reported_on": at(10),
            "created_on": at(0), "duration_s": 3, "samplerate_hz": 48_000,
            "state": data.RecordingState.CLIPPED,
            "clips": [ClipReport(id=self.clip, name="c.wav", start_s=0, duration_s=1)],
            "outputs": [OutputReport(id=self.output, model="bats", ran_on=at(5),
                                     detections=[self.detection])],
            **fields,
        }  # fmt: skip
        return Report(
            deployments=[DeploymentReport(deployment=self.site)],
            recordings=[RecordingReport.model_validate(given)],
        )

    def judged(self, recording: UUID, heard: UUID | None) -> Report:
        """Return what somebody says at this sensor of a detection, or of a recording."""
        verdict = VerdictRow(
            recording_id=recording, detection_id=heard, verdict=Verdict.WRONG, species=None,
            reviewer="ana", note="", given_on=at(60),
        )  # fmt: skip
        said = DeploymentReport(deployment=self.site, verdicts=[verdict])
        return Report(deployments=[said])


CLAIMS: dict[str, Callable[[Heard, Heard], Report]] = {
    "deployment": lambda mine, yours: Report(deployments=[DeploymentReport(deployment=yours.site)]),
    "recording": lambda mine, yours: mine.report(id=yours.recording),
    "clip": lambda mine, yours: mine.report(
        clips=[ClipReport(id=yours.clip, name="c.wav", start_s=0, duration_s=1)]
    ),
    "output": lambda mine, yours: mine.report(
        outputs=[OutputReport(id=yours.output, model="bats", ran_on=at(99))]
    ),
    "verdict on a recording": lambda mine, yours: mine.judged(yours.recording, None),
    "verdict on a detection": lambda mine, yours: mine.judged(mine.recording, yours.detection.id),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_is_of_another_sensor_is_refused_and_stays_as_it_is(
    hub: HubDatabase, url: str, claim: str
) -> None:
    mine, yours = Heard(), Heard()
    take_in(hub, YOURS, yours.report())

    with pytest.raises(HubError, match="another"):
        take_in(hub, MINE, CLAIMS[claim](mine, yours))

    with HubReader(url) as reader:
        [known] = reader.get_deployments()
        [found] = reader.detections(Filters())
        assert (known.id, found.recording.id, found.id, found.verdict) == (
            yours.site.id, yours.recording, yours.detection.id, None,
        )  # fmt: skip
        assert [one.id for one in found.recording.clips] == [yours.clip]


def test_what_people_say_at_a_sensor_may_come_before_what_it_is_about(
    hub: HubDatabase, url: str
) -> None:
    mine = Heard()
    take_in(hub, MINE, mine.judged(mine.recording, mine.detection.id))
    take_in(hub, MINE, mine.report())

    with HubReader(url) as reader:
        [found] = reader.detections(Filters())
    assert found.verdict is not None
    assert found.verdict.verdict is Verdict.WRONG
