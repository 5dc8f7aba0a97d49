"""A hub that can be killed, and a sensor that reports to it, for tests."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import requests
import uvicorn
from pydantic import SecretStr

from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.messengers.hub import HubMessenger
from acoupi.components.stores import SqliteStore
from acoupi.components.stores.reporting import Reporter
from acoupi.components.stores.unreported import HubStanding, Unreported, hub_standing
from acoupi.components.stores.unsent import SoundStanding, UnsentSound, sound_standing
from acoupi.hub.audio_store import open_store
from acoupi.hub.database import HubDatabase
from acoupi.hub.ingest import make_ingest
from acoupi.hub.parts import Hub as Parts
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.services.reporting import generate_hub_task
from acoupi.space import HubAudio
from tests.services import DEADLINE, eventually, free_port

__all__ = ["Hub", "Sensor"]


class Hub:
    """A hub that can be killed, and started again at the same address."""

    def __init__(self, database: str, audio: Path | str | None = None) -> None:
        self.database, self.audio, self.port = database, audio, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.server: uvicorn.Server | None = None
        with closing(HubDatabase(database)) as hub:
            add_sensor(hub, "oak-1")
            self.token = make_token(hub, "oak-1")

    def start(self) -> None:
        """Serve from this process."""
        self.served = HubDatabase(self.database)
        config = uvicorn.Config(
            make_ingest(self.parts(self.served)), port=self.port, log_config=None
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        eventually(lambda: self.server.started, "the start of the hub")

    def parts(self, database: HubDatabase) -> Parts:
        """Return what it consists of."""
        store = None if self.audio is None else open_store(str(self.audio))
        return Parts(database, store)

    def stop(self) -> None:
        """End what serves, whichever it is."""
        self.kill()
        if self.server is not None:
            self.server.should_exit = True
            self.thread.join(DEADLINE)
            self.served.close()
            self.server = None

    def start_process(self) -> None:
        """Serve from a process of its own, which can be killed."""
        acoupi = str(Path(sys.executable).with_name("acoupi"))
        command = [acoupi, "hub", "serve", "--port", str(self.port)]
        command += [] if self.audio is None else ["--audio", str(self.audio)]
        environment = {**os.environ, "ACOUPI_HUB_DATABASE": self.database}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        eventually(self._answers, "an answer of the hub")

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/v1/health", timeout=20).status_code == 200
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """Kill that process at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(DEADLINE)
            self.process = None


class Sensor:
    """The stores of a sensor, and its task."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.path = folder / "metadata.db"
        self.store = SqliteStore(self.path)
        self.messages = SqliteMessageStore(folder / "messages.db")
        self.unreported, self.reporter = Unreported(self.path), Reporter(self.path)
        self.unsent = UnsentSound(self.path)
        self.messenger = HubMessenger(url, SecretStr(token))

    def report(self, unreported: Unreported | None = None, **more: Any) -> HubStanding:
        """Run the task once, whether it should rest or not."""
        noted = unreported or self.unreported
        if hub_standing(self.path) is not None:
            noted.settle(None)
        generate_hub_task(noted, self.reporter, self.messenger, self.messages, **more)()
        return self.standing()

    def task(self, **more: Any) -> Callable[[], None]:
        """Return the task as a worker has it."""
        return generate_hub_task(
            self.unreported,
            self.reporter,
            self.messenger,
            self.messages,
            sound=self.unsent,
            **more,
        )

    def send(self, audio: HubAudio = "all", unsent: UnsentSound | None = None) -> SoundStanding:
        """Run the task once, whether it should rest or not, with sound."""
        noted = unsent or self.unsent
        if sound_standing(self.path) is not None:
            noted.settle(None)
        self.report(sound=noted, audio=audio)
        standing = sound_standing(self.path)
        assert standing is not None
        return standing

    def standing(self) -> HubStanding:
        standing = hub_standing(self.path)
        assert standing is not None
        return standing

    def close(self) -> None:
        for one in (self.store, self.messages, self.unreported, self.reporter, self.unsent):
            one.close()
        self.messenger.close()
