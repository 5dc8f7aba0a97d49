"""The target of a home that set itself up: services are started elsewhere, and only read here."""

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import ClassVar

from acoupi.errors import TargetError
from acoupi.stack.pulse import read_pulse
from acoupi.stack.settings import Settings
from acoupi.stack.stack import SETUP, Stack
from acoupi.targets import ServiceStatus, service_status
from acoupi.targets.process import ProcessTarget
from acoupi.writing import RenderedFile

__all__ = ["ProvisionedTarget"]


class ProvisionedTarget(ProcessTarget):
    """Services that are started elsewhere, with their pulses and logs in this home."""

    name: ClassVar[str] = "provisioned"
    rights: ClassVar[str | None] = None
    starts_here: ClassVar[bool] = False

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return nothing: the services are not started by scripts of this home."""
        return {}

    def status(self) -> list[ServiceStatus]:
        """Return the state of each service, including the one that set the home up."""
        services = super().status()
        own = self.settings_of(SETUP)
        if read_pulse(own.run_dir, SETUP) is None:
            return services
        return [*services, service_status(own, SETUP, SETUP)]

    def settings_of(self, service: str) -> Settings:
        """Return the settings of a service: in a container, its folders are beside this one's."""
        run, log = self.settings.run_dir, self.settings.log_dir
        if run.name != os.environ.get("ACOUPI_SERVICE"):
            return self.settings
        beside = {"run_dir": run.parent / service, "log_dir": log.parent / service}
        return self.settings.model_copy(update=beside)

    def up(self) -> None:
        """Refuse."""
        raise self._not_ours("start")

    def down(self) -> None:
        """Refuse."""
        raise self._not_ours("stop")

    def check(self) -> None:
        """Refuse: deployments are started by variables."""
        raise self._not_ours("start")

    def _not_ours(self, act: str) -> TargetError:
        return TargetError(
            f"cannot {act} the services.",
            "set ACOUPI_DEPLOYMENT__NAME for another deployment; "
            "stop and start the containers where they are run",
            why="this home was set up from variables, and its services are started from outside.",
        )
