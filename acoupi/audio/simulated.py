"""Simulated microphones: a file, a folder of files, or a synthetic soundscape."""

import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field

from acoupi.audio.faults import Fault, parse_faults, script_of
from acoupi.audio.simulated_source import SimulatedSource
from acoupi.audio.sources import WIDE_SAMPLE_BYTES
from acoupi.deferred import DeferredModel
from acoupi.errors import ConfigurationError
from acoupi.home import expanded
from acoupi.rights import ReadOnly

__all__ = ["VARIABLE", "SimulatedAudio"]

VARIABLE = "ACOUPI_SIMULATED_AUDIO"
"""Environment variable that replaces the microphone of every recorder."""

SYNTHETIC = "synthetic"
_OPTION = re.compile(r",\s*(seed|pace|faults)\s*=\s*([^,]*)$")


def _path(value: Any) -> Any:
    return None if str(value) == SYNTHETIC else value


class SimulatedAudio(DeferredModel):
    """What to hear instead of a microphone."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[Path | None, ReadOnly, BeforeValidator(_path)] = None
    """A WAV file, or a folder of them (in order of name), in an endless loop; "synthetic" (None)
    is a soundscape of birds and, where the rate allows, bats."""
    seed: int = Field(default=0, ge=0)
    """Seed of the synthetic soundscape: the same seed gives the same sound."""
    pace: Literal["realtime", "fast"] = "realtime"
    """Whether a second of sound takes a second, or as little as possible (for tests)."""
    signal: Literal["soundscape", "counter"] = Field(default="soundscape", repr=False)
    """What is synthesised: "counter" numbers the frames, so that a lost one shows."""
    faults: Annotated[tuple[Fault, ...], BeforeValidator(parse_faults)] = Field(
        default=(), repr=False
    )
    """Scripted faults."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``PATH``, ``synthetic`` or ``counter``, and options after commas.

        Options are ``seed=3``, ``pace=fast`` and ``faults=unplug:20:10+drift:0:50``
        (kind, seconds from the start, amount: see `Fault`).

        Raises
        ------
        ConfigurationError
            If it is none of these.

        Examples
        --------
        >>> SimulatedAudio.parse("synthetic,seed=3,pace=fast")
        SimulatedAudio(path=None, seed=3, pace='fast')
        >>> SimulatedAudio.parse("/data/dawn.wav").path
        PosixPath('/data/dawn.wav')
        """
        rest, options = text.strip(), {}
        while found := _OPTION.search(rest):
            options[found[1]] = found[2].strip()
            rest = rest[: found.start()]
        rest = rest.strip()
        if not rest:
            raise _not_simulated(text, "it names neither a file, a folder nor synthetic.")
        if rest == "counter":
            options["signal"] = rest
        path = None if rest in (SYNTHETIC, "counter") else expanded(rest)
        try:
            return cls.model_validate({"path": path, **options})
        except ValueError as error:
            name, value = next(item for item in options.items() if not _is_valid(*item))
            raise _not_simulated(text, f'"{value}" is not a valid {name}.') from error

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return the settings in ``ACOUPI_SIMULATED_AUDIO``; None if it is not set or empty."""
        text = os.environ.get(VARIABLE, "").strip()
        return cls.parse(text) if text else None

    def source(
        self, samplerate: int, channels: int, *, owner: Hashable, bits: int = 16
    ) -> SimulatedSource:
        """Make the source. Nothing is opened until it is started.

        Parameters
        ----------
        samplerate, channels
            Files must have them: nothing is resampled or mixed.
        owner
            The recorder that uses it: each owner gets a stream of its own.
        bits
            More than 16: the samples have 32 bits, the sound in the upper 16.
        """
        source = self._make(samplerate, channels, owner)
        source.script = script_of(owner, self.faults)
        if bits > 16:
            source.sample_bytes = WIDE_SAMPLE_BYTES
        return source

    def _make(self, samplerate: int, channels: int, owner: Hashable) -> SimulatedSource:
        # These need numpy, so they are imported only where sound is simulated.
        if self.path is not None:
            from acoupi.audio.playback import PlaybackSource  # noqa: PLC0415

            return PlaybackSource(self.path, samplerate, channels, pace=self.pace, owner=owner)
        if self.signal == "counter":
            from acoupi.audio.counter import CounterSource  # noqa: PLC0415

            return CounterSource(samplerate, channels, pace=self.pace, owner=owner)
        from acoupi.audio.synthetic import SyntheticSource  # noqa: PLC0415

        return SyntheticSource(self.seed, samplerate, channels, pace=self.pace, owner=owner)


def _is_valid(name: str, value: str) -> bool:
    try:
        SimulatedAudio.model_validate({name: value})
    except ValueError:
        return False
    return True


def _not_simulated(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f'cannot simulate a microphone from "{text}".',
        "give a WAV file, a folder of them, or synthetic, for example: synthetic,seed=3,pace=fast",
        why=why,
    )
