"""The target of a home that set itself up: its services are run elsewhere, and only read here."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import ClassVar

from acoupi.errors import TargetError
from acoupi.stack.pulse import read_pulse
from acoupi.stack.stack import SETUP, Stack
from acoupi.targets import ServiceStatus, service_status
from acoupi.targets.process import ProcessTarget
from acoupi.writing import RenderedFile

__all__ = ["ProvisionedTarget"]


class ProvisionedTarget(ProcessTarget):
    """Services that are started elsewhere, with their pulses and logs in this home."""

    name: ClassVar[str] = "provisioned"
    starts_here: ClassVar[bool] = False

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return nothing: the services are not started by scripts of this home."""
        del stack
        return {}

    def status(self) -> list[ServiceStatus]:
        """Return the state of each service, including the one that set the home up."""
        services = super().status()
        if read_pulse(self.settings.run_dir, SETUP) is None:
            return services
        return [*services, service_status(self.settings, SETUP, SETUP)]

    def up(self) -> None:
        """Refuse."""
        raise self._not_ours("start")

    def down(self) -> None:
        """Refuse."""
        raise self._not_ours("stop")

    def check(self) -> None:
        """Refuse: a deployment begins by variables."""
        raise self._not_ours("start")

    def _not_ours(self, act: str) -> TargetError:
        return TargetError(
            f"cannot {act} the services.",
            "set ACOUPI_DEPLOYMENT__NAME for another deployment; "
            "stop and start the containers where they are run",
            why="this home was set up from variables, and its services are started from outside.",
        )
