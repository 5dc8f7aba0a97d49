"""Presets: settings that suit a group of animals, for whichever program has them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from acoupi.config.names import nearest
from acoupi.config.tree import describe
from acoupi.errors import ConfigurationError, ParameterError

__all__ = ["PRESETS", "Preset", "find_preset", "preset_for", "put_over", "settings_it_has"]


class Preset(NamedTuple):
    """Settings for a group of animals."""

    purpose: str
    program: str
    """The program to use if none is chosen."""
    clock: Mapping[str, str]
    """Recording hours for programs that do not follow the sun."""
    settings: Mapping[str, Any]
    """Other settings; a program may lack them, unless they are in `NEEDED`."""


NEEDED = ("microphone.samplerate", "recording.duration", "recording.interval")
SUN, START, END = "recording.follow_sun", "recording.schedule_start", "recording.schedule_end"


def _hours(start: str, end: str) -> dict[str, str]:
    return {START: start, END: end}


PRESETS = {
    "bats": Preset(
        "ultrasound at night: the calls of bats up to 150 kHz",
        "sounds",
        _hours("18:00", "08:00"),
        {
            "microphone.samplerate": 384_000,
            "recording.duration": 5,
            "recording.interval": 10,
            SUN: "night",
            "recording.sun_margin": 30,
            "detector.low_freq": 15_000,
            "detector.high_freq": 150_000,
            "saving_threshold": 0.5,
        },
    ),
    "birds": Preset(
        "from an hour before dawn to an hour after dusk, up to 12 kHz",
        "sounds",
        _hours("03:30", "22:30"),
        {
            "microphone.samplerate": 48_000,
            "recording.duration": 15,
            "recording.interval": 30,
            SUN: "day",
            "recording.sun_margin": 60,
            "detector.low_freq": 500,
            "detector.high_freq": 12_000,
            "saving_threshold": 0.5,
        },
    ),
    "insects": Preset(
        "grasshoppers and crickets, day and night, from 2 to 45 kHz",
        "sounds",
        _hours("00:00", "00:00"),
        {
            "microphone.samplerate": 96_000,
            "recording.duration": 10,
            "recording.interval": 60,
            SUN: None,
            "detector.low_freq": 2_000,
            "detector.high_freq": 45_000,
            # Constant song is background noise to the detector: recordings are kept for people.
            "saving_threshold": None,
        },
    ),
    "soundscape": Preset(
        "a minute in ten, day and night, and all of it kept",
        "default",
        _hours("00:00", "00:00"),
        {
            "microphone.samplerate": 48_000,
            "recording.duration": 60,
            "recording.interval": 600,
            SUN: None,
            "recording_saving": None,
            "saving_threshold": None,
        },
    ),
}


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises
    ------
    ParameterError
        If there is no such preset.
    """
    if name in PRESETS:
        return PRESETS[name]
    raise ParameterError(
        name,
        f'there is no preset "{name}".',
        f"--preset {nearest(name, list(PRESETS)) or 'birds'}",
        why=f"the presets are {', '.join(PRESETS)}.",
    )


def preset_for(name: str, program: str, schema: type[BaseModel]) -> dict[str, Any]:
    """Return the settings of a preset that a program has, by their names with dots.

    Raises
    ------
    ConfigurationError
        If it lacks one that the preset needs.
    """
    preset = find_preset(name)
    found = settings_it_has(schema, preset.settings)
    if found.get(SUN) is None:
        found |= settings_it_has(schema, preset.clock)
    missing = [one for one in (*NEEDED, START) if not settings_it_has(schema, {one: None})]
    if missing:
        raise ConfigurationError(
            f'the program "{program}" cannot use the preset "{name}".',
            f"acoupi setup --program {preset.program} --preset {name}",
            why=f"it has no setting {' and no '.join(missing)}.",
        )
    return found


def settings_it_has(schema: type[BaseModel], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, by their names with dots, that a schema has.

    Examples
    --------
    >>> from pydantic import BaseModel
    >>> class Schema(BaseModel):
    ...     threshold: float = 0.2
    >>> settings_it_has(Schema, {"threshold": 0.5, "recording.duration": 3})
    {'threshold': 0.5}
    """
    tree = describe(schema)
    return {
        name: value for name, value in wanted.items() if tree.at(tuple(name.split("."))) is not None
    }


def put_over(answers: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested answers with some settings changed, which have names with dots.

    Examples
    --------
    >>> put_over({"recording": {"duration": 3, "bits": 24}}, {"recording.duration": 5})
    {'recording': {'duration': 5, 'bits': 24}}
    """
    changed = dict(answers)
    for name, value in settings.items():
        first, _, rest = name.partition(".")
        held = changed.get(first)
        changed[first] = (
            put_over(held if isinstance(held, Mapping) else {}, {rest: value}) if rest else value
        )
    return changed
