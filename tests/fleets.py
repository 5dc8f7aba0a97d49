"""Sensors that follow the settings of a hub, in tests: real homes, asked for over HTTP."""

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.testclient import TestClient

from acoupi import data
from acoupi.captures import CaptureReport, MicrophoneHealth
from acoupi.errors import ConfigurationError, TargetError
from acoupi.hub.database import HubDatabase
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.hub.taking_in import take_in
from acoupi.programs.templates.digests import section_digests
from acoupi.provisioned import Fetched, FromHub, Provisioned
from acoupi.provisioning.apply import provision
from acoupi.provisioning.over_chosen import look
from acoupi.reports import DeploymentReport, MessageReport, RecordingReport, Report
from acoupi.services.in_force import settings_report
from acoupi.system import Settings, setup_program
from acoupi.system.update_records import KeptImage, UpdateRecord
from tests.clocks import Clock
from tests.provisioning import config_of

__all__ = ["ChosenSensor", "FakeImages", "FollowingSensor"]

DEVICE = "dev"


class FollowingSensor:
    """A home that follows a hub; what it records is made up."""

    def __init__(
        self, hub: HubDatabase, client: TestClient, name: str, home: Path, key: str, clock: Clock
    ) -> None:
        add_sensor(hub, name)
        self.hub, self.client, self.name, self.clock = hub, client, name, clock
        self.token = make_token(hub, name)
        self.settings = Settings(home=home)
        self.key = key
        self.is_linked = True
        self.program = "demo"
        self.deployment = data.Deployment(name=name, started_on=clock.now)

    def follow(self) -> Provisioned | FromHub:
        """Ask the hub, and put in force what it offers."""
        environ = {
            "ACOUPI_PROGRAM": self.program,
            "ACOUPI_CONFIG_URL": f"http://{self.name}:{self.token}@hub/v1/settings",
            "ACOUPI_CONFIG_KEY": self.key,
            "ACOUPI_DEPLOYMENT__NAME": self.name,
        }
        return provision(self.settings, environ, self._fetch)[0]

    def _fetch(self, _: str) -> Fetched:
        if not self.is_linked:
            raise ConfigurationError("cannot fetch the configuration.", why="the link is down.")
        login = base64.b64encode(f"{self.name}:{self.token}".encode()).decode()
        answer = self.client.get("/v1/settings", headers={"Authorization": f"Basic {login}"})
        if answer.status_code != 200:
            raise ConfigurationError("cannot fetch the configuration.", why=answer.text)
        return Fetched(answer.text, ".json")

    def duration(self) -> float:
        """Return the setting that the tests change, as it is in force."""
        return float(config_of(self.settings).recording.duration)

    def report(
        self,
        *,
        silent: bool = False,
        status: str = "OK",
        recordings: int = 1,
        heartbeat: bool = True,
    ) -> None:
        """Report what is in force, a heartbeat, and recordings of now."""
        found = settings_report(self.settings) if self.is_set_up() else None
        beat: dict[str, Any] = {
            "sent_on": self.clock.now.isoformat(),
            "device_id": DEVICE,
            "status": status,
        }
        if found is not None:
            config = config_of(self.settings)
            sections = section_digests(config)
            beat |= {"program": found.program, "sections": sections}
            beat |= {"configuration": sha256(" ".join(sections).encode()).hexdigest()}
        report = Report(
            deployments=[DeploymentReport(deployment=self.deployment)],
            recordings=[self._recording(silent=silent) for _ in range(recordings)],
            messages=[
                MessageReport(
                    id=uuid4(),
                    message_type=data.MessageType.HEARTBEAT,
                    created_on=self.clock.now,
                    content=json.dumps(beat),
                )
                for _ in range(heartbeat)
            ],
            settings=found,
        )
        if self.is_linked:
            take_in(self.hub, self.name, report)

    def is_set_up(self) -> bool:
        return self.settings.program_config_file.exists()

    def _recording(self, *, silent: bool) -> RecordingReport:
        level = -200.0 if silent else -40.0
        health = MicrophoneHealth(
            rms_dbfs=level,
            peak_dbfs=level,
            clipped_share=0,
            dc_offset=0,
            is_silent=silent,
            is_stuck=False,
            noise_floor_dbfs=level,
        )
        capture = CaptureReport(
            stream_id=uuid4(),
            first_frame=0,
            frames=48_000,
            samplerate_measured=None,
            clock_synchronised=None,
            clock_error_s=None,
            health=health,
        )
        return RecordingReport(
            id=uuid4(),
            deployment=self.deployment.id,
            reported_on=self.clock.now,
            created_on=self.clock.now,
            duration_s=3,
            samplerate_hz=16_000,
            state=data.RecordingState.KEPT,
            capture=capture,
        )

    def lives(self, seconds: float = 20, **reported: Any) -> None:
        """Ask the hub, let time pass, and report."""
        self.follow()
        self.clock.advance(seconds)
        self.report(**reported)


class FakeImages:
    """Containers that run from what they are told; some images crash."""

    def __init__(self, home: Path, runs: str) -> None:
        self.home, self.runs = home, runs
        self.crashing: set[str] = set()
        self.kept: list[UpdateRecord] = []

    def records(self) -> list[UpdateRecord]:
        return self.kept

    def update(self, image: str, minutes: float) -> None:
        if image == self.runs:
            return
        before, after = (KeptImage(name=one, id=one) for one in (self.runs, image))
        record = UpdateRecord(
            folder=f"{len(self.kept)}",
            began_on=data.utc_now(),
            before=before,
            after=after,
            kept_as="",
            modes={},
            stage="undone" if image in self.crashing else "good",
        )
        self.kept.insert(0, record)
        if record.stage == "undone":
            raise TargetError(f"the update to {image} was undone.", why=f"{minutes:g} minutes")
        self.runs = image

    def roll_back(self) -> None:
        last = next(one for one in self.kept if one.stage != "undone")
        last.stage, self.runs = "undone", last.before.name


class ChosenSensor(FollowingSensor):
    """The same in a home that a person set up."""

    def __init__(
        self, hub: HubDatabase, client: TestClient, name: str, home: Path, key: str, clock: Clock
    ) -> None:
        super().__init__(hub, client, name, home, key, clock)
        self.set_up()
        self.tell: Callable[[str], None] = lambda _: None
        self.images: FakeImages | None = None

    def set_up(self, *words: str, target: str | None = None) -> None:
        """Set it up as a person would."""
        hub = {"url": "http://hub", "token": self.token, "name": self.name, "key": self.key}
        options = [word for name, text in hub.items() for word in (f"--sensor.hub.{name}", text)]
        setup_program(self.settings, self.program, [*options, *words], target=target)

    def follow(self) -> FromHub:
        """Ask the hub, and put in force what it offers."""
        return look(self.settings, self.tell, self._fetch, self.images)
