"""The sensor in a home, read once and handed on."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from acoupi import __version__
from acoupi.bundles.rendering import Manifest
from acoupi.commit import settle
from acoupi.config import load_config
from acoupi.config.sensor import load_sensor
from acoupi.home import using_home
from acoupi.stack.configured import read_program_name, require_configured
from acoupi.stack.loading import load_program_class
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service, stack_for, without_models
from acoupi.stack.web import is_contained
from acoupi.targets import DEFAULT_TARGET, Target, load_target

if TYPE_CHECKING:
    from pydantic import BaseModel

    from acoupi.programs import AcoupiProgram

__all__ = ["Sensor", "running_sensor", "target_for"]


class Sensor:
    """A home and its setup; each part is read on first use.

    Parameters
    ----------
    settings
        Of the home.
    manifest
        The record of the last setup; None: there was none.
    """

    def __init__(self, settings: Settings, manifest: Manifest | None) -> None:
        self.settings = settings
        self.manifest = manifest

    @classmethod
    def at(cls, settings: Settings) -> "Sensor":
        """Return the sensor in a home, which may not be set up yet.

        A setup that was interrupted is finished first.

        Raises
        ------
        ConfigurationError
            If the record of the last setup cannot be read.
        """
        settle(settings.program_config_file.parent)
        return cls(settings, Manifest.read(settings.manifest_file))

    @classmethod
    def read(cls, settings: Settings) -> "Sensor":
        """Return the sensor in a home.

        Raises
        ------
        NotConfiguredError
            If none has been set up there.
        """
        require_configured(settings)
        return cls.at(settings)

    @property
    def services(self) -> tuple[Service, ...]:
        """The services that setup rendered, without the broker."""
        return self.manifest.services if self.manifest else ()

    @property
    def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        return sorted({queue for service in self.services for queue in service.queues})

    @property
    def target_name(self) -> str:
        """The name of the target, even if it is no longer installed."""
        return self.manifest.target if self.manifest else DEFAULT_TARGET

    @cached_property
    def target(self) -> Target:
        """Where its services run.

        Raises
        ------
        TargetError
            If it was set up for a target that is no longer installed.
        """
        return load_target(self.target_name, self.settings, self.manifest)

    @cached_property
    def program_name(self) -> str:
        """The name of its program, as given to setup."""
        return read_program_name(self.settings)

    @cached_property
    def program_class(self) -> "type[AcoupiProgram[Any]]":
        """The class of its program.

        Raises
        ------
        ProgramError
            If it cannot be loaded here.
        """
        return load_program_class(self.program_name)

    @cached_property
    def config(self) -> "BaseModel":
        """The configuration of its program.

        Raises
        ------
        AcoupiError
            If the program cannot be loaded, or the configuration is not valid.
        """
        with using_home(self.settings.home):
            schema = self.program_class.get_config_schema()
            return load_config(self.settings.program_config_file, schema)

    @cached_property
    def own_config(self) -> "BaseModel":
        """The settings of the sensor itself; see `acoupi.config.sensor`.

        Raises
        ------
        ConfigurationError
            If it is not valid.
        """
        with using_home(self.settings.home):
            settings: BaseModel = load_sensor(self.settings)
            return settings

    @cached_property
    def program(self) -> "AcoupiProgram[Any]":
        """Its program, built.

        Raises
        ------
        AcoupiError
            If it cannot be loaded or built.
        """
        from acoupi.services.construction import load_program  # noqa: PLC0415 - Celery is slow

        with using_home(self.settings.home):
            return load_program(self.settings)


def target_for(settings: Settings) -> Target:
    """Return the target that a home was set up for.

    Raises
    ------
    NotConfiguredError
        If no sensor has been set up in the home.
    TargetError
        If it was set up for a target that is no longer installed.
    """
    return Sensor.read(settings).target


def running_sensor(settings: Settings) -> Sensor:
    """Return the sensor in a home, as seen from one of its services.

    In a container there is no engine, and rendered files are not visible: the services
    are those of the program, with their pulses beside that of this one.
    """
    sensor = Sensor.read(settings)
    if is_contained(settings):
        name = sensor.program_name
        stack = stack_for(sensor.program_class, None, settings)
        if load_sensor(settings).analysis.where == "hub":
            stack = without_models(stack)
        sensor.manifest = Manifest(__version__, "provisioned", name, services=stack.services)
        vars(sensor)["target"] = load_target("provisioned", settings, sensor.manifest)
    return sensor
