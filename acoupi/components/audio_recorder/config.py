"""Settings of a microphone."""

import difflib
from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acoupi.audio.simulated import SimulatedAudio
from acoupi.deferred import DeferredModel
from acoupi.errors import ParameterError

__all__ = ["MicrophoneConfig", "PARecorderConfig", "PWRecorderConfig"]


class _RecorderConfig(DeferredModel):
    """Settings that all recorders of acoupi have."""

    model_config = ConfigDict(extra="forbid")

    device_name: str = Field(
        default="default", min_length=1, json_schema_extra={"choices": "microphones"}
    )
    """Name of the microphone, or its identity (vendor:product:serial), which stays the same
    whatever else is plugged in; "default" is the only one present."""
    samplerate: int = Field(default=48_000, gt=0)
    """Frames per second, Hz. The microphone must offer it: nothing is resampled."""
    audio_channels: int = Field(default=1, ge=1)
    """Channels to record; the microphone must have as many."""
    time_expansion: float = Field(default=1, gt=0, allow_inf_nan=False)
    """How many times slower the files play: 10 makes bats audible. Times and frequencies
    of detections stay those of the original sound."""
    simulated: SimulatedAudio | None = None
    """What to hear instead of a microphone; None listens to the microphone."""

    @classmethod
    def setup(cls, args: list[str], prompt: bool = True, prefix: str = "") -> Self:
        """Read the configuration from command line arguments.

        No microphone is needed, and no questions are asked: those belong to
        the command line interface.

        Parameters
        ----------
        args
            For example ``["--microphone.samplerate", "192000"]``. Arguments
            outside the prefix are ignored.
        prompt
            Accepted because published programs pass it.
        prefix
            Where this configuration is in the whole one, for example
            "microphone"; dots and dashes around it do not matter.

        Raises
        ------
        ParameterError
            If a value is invalid, or an option below the prefix does not exist.

        Examples
        --------
        >>> PARecorderConfig.setup(["--microphone.samplerate", "192000"], prefix="microphone").samplerate
        192000
        """  # noqa: E501 - an example is one line
        options = _Options(args, prefix)
        values: dict[str, Any] = {}
        for name, value in options.values.items():
            head, _, tail = name.partition(".")
            if not options.name_exists(cls, name):
                continue
            if tail:
                values.setdefault(head, {})[tail] = value
            else:
                values[head] = value
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise options.explain(error) from error


class PARecorderConfig(_RecorderConfig):
    """A microphone through PortAudio."""


class PWRecorderConfig(_RecorderConfig):
    """A microphone through a sound server: PipeWire or PulseAudio."""


MicrophoneConfig = PARecorderConfig


class _Options:
    """The arguments below a prefix, by their dotted names."""

    def __init__(self, args: Sequence[str], prefix: str) -> None:
        self._prefix = prefix.strip("-.")
        self._start = f"--{self._prefix}." if self._prefix else "--"
        self.values: dict[str, str] = {}
        rest = list(args)
        while rest:
            option, equals, value = rest.pop(0).partition("=")
            if not option.startswith(self._start):
                continue
            if not equals:
                if not rest or rest[0].startswith("--"):
                    raise ParameterError(
                        value=option,
                        message=f'the option "{option}" has no value.',
                        help=f"{option} VALUE",
                    )
                value = rest.pop(0)
            self.values[option.removeprefix(self._start).replace("-", "_")] = value

    def name_exists(self, model: type[BaseModel], name: str) -> bool:
        """Return whether a model has a field of this dotted name.

        Without a prefix the option may belong to another configuration.

        Raises
        ------
        ParameterError
            If it does not, and could not belong to another configuration.
        """
        nested = [f"simulated.{field}" for field in SimulatedAudio.model_fields]
        names = [*(f for f in model.model_fields if f != "simulated"), *nested]
        if name in names:
            return True
        if not self._prefix:
            return False
        near = difflib.get_close_matches(name, names, n=1, cutoff=0)
        raise ParameterError(
            value=name,
            message=f'there is no option "{self._start}{name}".',
            help=f"{self._start}{near[0]}",
            why=f"possible are {', '.join(names)}.",
        )

    def explain(self, error: ValidationError) -> ParameterError:
        """Turn a pydantic error into one that names the option and the reason."""
        first = error.errors(include_url=False)[0]
        option = self._start + ".".join(str(part) for part in first["loc"])
        return ParameterError(
            value=str(first["input"]),
            message=f'"{option}" cannot be "{first["input"]}".',
            help=f"{option} VALUE, with a valid value",
            why=f"{first['msg'][:1].lower()}{first['msg'][1:]}.",
        )
