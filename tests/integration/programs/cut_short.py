"""Records like the default program; a start or an end may be killed before it is stored."""

import os
import signal

from acoupi import data
from acoupi.programs import default

CUT = "ACOUPI_TEST_CUT"
"""Variable with the signal that the process sends itself."""


class Program(default.Program):
    """What a lost connection or a power cut does to a command, at the worst moment."""

    def on_start(self, deployment: data.Deployment) -> None:
        """Be killed, or store the deployment."""
        _cut()
        super().on_start(deployment)

    def on_end(self, deployment: data.Deployment) -> None:
        """Be killed, or store the end of the deployment."""
        _cut()
        super().on_end(deployment)


def _cut() -> None:
    if name := os.environ.get(CUT):
        os.kill(os.getpid(), getattr(signal, name))
