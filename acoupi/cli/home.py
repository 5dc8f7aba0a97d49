"""The sensor that commands work on: its settings, its program, its configuration."""

import os
from typing import TYPE_CHECKING, Any

from acoupi.errors import AcoupiError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from acoupi.programs import AcoupiProgram
    from acoupi.stack.settings import Settings

__all__ = ["complete", "configured", "load", "read_settings", "settings"]


def settings() -> "Settings":
    """Return where everything of the sensor is.

    Raises
    ------
    ConfigurationError
        If an ``ACOUPI_`` variable has a value that it cannot have.
    """
    from acoupi.stack.settings import Settings

    return Settings()


def configured() -> "Settings":
    """Return the settings of a home in which a sensor is set up.

    Raises
    ------
    NotConfiguredError
        If none is.
    """
    from acoupi.stack.configured import require_configured

    found = settings()
    require_configured(found)
    return found


def load(found: "Settings") -> "AcoupiProgram[Any]":
    """Return the program of the home, built on the microphone that its services have."""
    from acoupi.config.env_files import read_env
    from acoupi.home import using_home
    from acoupi.services.construction import load_program
    from acoupi.targets.process import PASSED_ON

    written_down = read_env(found.env_file)
    for name in PASSED_ON:
        if name in written_down:
            os.environ.setdefault(name, written_down[name])
    with using_home(found.home):
        return load_program(found)


def read_settings(found: "Settings") -> "tuple[BaseModel, BaseModel]":
    """Return the settings of the program of the home, and those of the sensor itself."""
    from acoupi.config import load_config
    from acoupi.config.sensor import load_sensor
    from acoupi.home import using_home
    from acoupi.stack.loading import load_config_schema

    with using_home(found.home):
        program = load_config(found.program_config_file, load_config_schema(found))
        return program, load_sensor(found)


class complete:
    """Words that a shell may complete to; none where anything is wrong."""

    @staticmethod
    def programs(incomplete: str) -> list[str]:
        """Return the names of installed programs."""
        from acoupi.stack.loading import available_programs

        return [name for name in available_programs() if name.startswith(incomplete)]

    @staticmethod
    def targets(incomplete: str) -> list[str]:
        """Return the names of targets."""
        from acoupi.targets import available_targets

        return [name for name in available_targets() if name.startswith(incomplete)]

    @staticmethod
    def fields(incomplete: str) -> list[str]:
        """Return the settings of the program that is set up."""
        from acoupi.config.sensor import setting_trees
        from acoupi.stack.loading import load_config_schema

        try:
            trees = setting_trees(load_config_schema(settings()))
        except AcoupiError:
            return []
        names = [node.name for tree in trees for node in tree.walk()]
        return [name for name in names if name.startswith(incomplete)]

    @staticmethod
    def tasks(incomplete: str) -> list[str]:
        """Return the tasks of the program that is set up."""
        try:
            return [name for name in load(settings()).tasks if name.startswith(incomplete)]
        except AcoupiError:
            return []
