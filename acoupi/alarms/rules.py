"""The rules: facts and limits in, verdicts out.

Between the limit at which an alarm is raised and the one at which it is cleared, and where
nothing is known, a rule has no opinion, and the alarm stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from acoupi.alarms.facts import Facts, Heard
from acoupi.alarms.limits import Alarms, Key
from acoupi.captures import CLIPPING, OFFSET, MicrophoneHealth

__all__ = ["DEAF_KEYS", "RULES", "Rule", "Verdict"]

HEARD_RECENTLY = 3600.0
"""Age in seconds from which a recording no longer shows the state of the microphone."""
LEAST_PLANNED = 3600.0
"""Planned time below which its recorded share is not judged, seconds."""
EFFORT_BACK = 5.0
"""Percent above the limit at which an alarm about effort is cleared."""
FLOOR_BACK_DB = 3.0
TEMPERATURE_BACK = 5.0
"""Degrees Celsius below the limit at which the alarm is cleared."""
STEADY = 60.0
"""Time that a fault must last if it may pass by itself, seconds."""
SOUND_HOURS = 1.0
"""Hours of sound that the disk must have room for."""

DEAF_KEYS = ("microphone_silent", "microphone_stuck", "microphone_deaf")
"""The alarms that mean that the microphone is deaf."""


class Verdict(NamedTuple):
    """The result of a rule."""

    is_wrong: bool | None
    """None: no opinion."""
    detail: str = ""
    """The reason in words, with figures."""
    since: datetime | None = None
    """When the fault started, or ended; None: now."""
    lasting_s: float = 0.0
    """Time for which a fault must last before the alarm is raised, seconds."""


@dataclass(frozen=True)
class Rule:
    """One rule."""

    key: Key
    """Its name, in messages and scripts."""
    description: str
    judge: Callable[[Facts, Alarms], Verdict]


def _past(value: float | None, limit: float, back: float) -> bool | None:
    """Return whether a value is above its limit; None between `back` and the limit."""
    if value is None or back < value < limit:
        return None
    return value >= limit


def _cannot_record(facts: Facts, _: Alarms) -> Verdict:
    why = facts.cannot_record
    return Verdict(None if why is None else bool(why), why or "", lasting_s=STEADY)


def _nothing_recorded(facts: Facts, limits: Alarms) -> Verdict:
    missing = facts.missing_s
    is_wrong = _past(missing, limits.nothing_recorded_minutes * 60, 0)
    return Verdict(is_wrong, f"planned for {(missing or 0) / 60:.0f} minutes, but not recorded")


def _effort(facts: Facts, limits: Alarms) -> Verdict:
    if facts.planned_s is None or facts.planned_s < LEAST_PLANNED:
        return Verdict(None)
    percent = 100 * facts.recorded_s / facts.planned_s
    back = min(100.0, limits.effort_percent + EFFORT_BACK)
    is_wrong = True if percent < limits.effort_percent else (False if percent >= back else None)
    return Verdict(
        is_wrong, f"{percent:.1f} % of the planned time of the last 24 hours was recorded"
    )


def _microphone(what: str, has_fault: Callable[[MicrophoneHealth], bool]) -> Callable[..., Verdict]:
    def judge(facts: Facts, limits: Alarms) -> Verdict:
        return _in_a_row(facts, limits, lambda one: has_fault(one.health), what)

    return judge


def _in_a_row(
    facts: Facts, limits: Alarms, has_fault: Callable[[Heard], bool | None], what: str
) -> Verdict:
    """Judge the last recordings: all of them faulty, or none."""
    last = facts.heard[-limits.microphone_times :]
    if len(last) < limits.microphone_times:
        return Verdict(None)
    if (facts.now - last[-1].start).total_seconds() - last[-1].duration > HEARD_RECENTLY:
        return Verdict(None)
    found = {has_fault(one) for one in last}
    is_wrong = found.pop() if len(found) == 1 else None
    return Verdict(is_wrong, f"{what} in the last {len(last)} recordings", last[0].start)


def _deaf(facts: Facts, limits: Alarms) -> Verdict:
    limit = facts.floor_limit
    if limit is None:  # without data, a microphone is no longer suspect
        return Verdict(None if facts.floor_days else False)

    def is_deaf(one: Heard) -> bool | None:
        is_between = limit <= one.floor < limit + FLOOR_BACK_DB
        # A microphone without any sound has its own alarm.
        return None if is_between or one.health.is_silent else one.floor < limit

    floor = facts.heard[-1].floor if facts.heard else limit
    what = f"noise floor {floor:.0f} dBFS, unusual for this hour below {limit:.0f} dBFS,"
    return _in_a_row(facts, limits, is_deaf, what)


def _disk(facts: Facts, limits: Alarms) -> Verdict:
    if facts.free_bytes is None:
        return Verdict(None)
    rate = facts.heard[-1].bytes_per_second if facts.heard else 0.0
    sound = facts.free_bytes / rate / 3600 if rate else float("inf")
    hours = float("inf") if facts.disk_hours is None else facts.disk_hours
    share = min(
        hours / limits.disk_hours if limits.disk_hours else float("inf"), sound / SOUND_HOURS
    )
    text = f"{facts.free_bytes / 1e9:.2f} GB free"
    if hours != float("inf"):
        text += f", full in {hours:.0f} hours at the current rate"
    if sound < SOUND_HOURS:
        text += f", room for {60 * sound:.0f} minutes of sound"
    return Verdict(_past(-share, -1, -1.25), text)


def _messages(facts: Facts, limits: Alarms) -> Verdict:
    return _age(facts.oldest_message_s, limits.message_hours, "message")


def _recordings(facts: Facts, limits: Alarms) -> Verdict:
    # A policy may let recordings wait for longer on purpose.
    longest = max(limits.recording_hours, facts.longest_wait_hours)
    return _age(facts.oldest_recording_s, longest, "recording")


def _age(seconds: float | None, most_hours: float, what: str) -> Verdict:
    words = f"the oldest {what} has been waiting for {(seconds or 0) / 3600:.1f} hours"
    return Verdict(_past(seconds, 3600 * most_hours, 0.8 * 3600 * most_hours), words)


def _clock(facts: Facts, limits: Alarms) -> Verdict:
    known = facts.clock_is_set
    words = "no time server or GPS has set the clock of the board"
    return Verdict(None if known is None else not known, words, lasting_s=60 * limits.clock_minutes)


def _stepped(facts: Facts, _: Alarms) -> Verdict:
    words = ", ".join(f"by {seconds:+.0f} s" for seconds in facts.clock_steps)
    return Verdict(bool(facts.clock_steps), f"the clock of the board was set {words}")


def _down(facts: Facts, _: Alarms) -> Verdict:
    words = "; ".join(f"{name}: {why}" for name, why in sorted(facts.down.items()))
    return Verdict(bool(facts.down), words, lasting_s=STEADY)


def _restarts(facts: Facts, limits: Alarms) -> Verdict:
    often = {name: n for name, n in facts.restarts.items() if n >= limits.restarts_per_hour}
    words = ", ".join(f"{name} {count} times" for name, count in sorted(often.items()))
    is_calm = not any(facts.restarts.values())
    return Verdict(True if often else (False if is_calm else None), f"restarted: {words}")


def _damaged(facts: Facts, _: Alarms) -> Verdict:
    return Verdict(bool(facts.set_aside), "; ".join(facts.set_aside))


def _temperature(facts: Facts, limits: Alarms) -> Verdict:
    value, limit = facts.temperature_celsius, limits.temperature_celsius
    is_wrong = _past(value, limit, limit - TEMPERATURE_BACK)
    return Verdict(is_wrong, f"{value or 0:.0f} degrees Celsius", lasting_s=STEADY)


def _voltage(facts: Facts, _: Alarms) -> Verdict:
    return Verdict(facts.has_low_voltage, "the board reports a supply voltage that is too low")


RULES = (
    Rule("cannot_record", "Something prevents recording.", _cannot_record),
    Rule("nothing_recorded", "Nothing is recorded although it is planned.", _nothing_recorded),
    Rule("effort_low", "Too little of the plan is recorded.", _effort),
    Rule(
        "microphone_silent",
        "The microphone delivers no sound.",
        _microphone("silent", lambda one: one.is_silent),
    ),
    Rule(
        "microphone_stuck",
        "The microphone repeats one value.",
        _microphone("stuck at one value at times", lambda one: one.is_stuck and not one.is_silent),
    ),
    Rule(
        "microphone_clipped",
        "The microphone is overloaded (clipping).",
        _microphone("clipping", lambda one: one.clipped_share >= CLIPPING),
    ),
    Rule(
        "microphone_offset",
        "The microphone has a DC offset.",
        _microphone("DC offset", lambda one: abs(one.dc_offset) >= OFFSET),
    ),
    Rule("microphone_deaf", "The microphone hears less than it used to.", _deaf),
    Rule("disk_low", "The disk is nearly full.", _disk),
    Rule("messages_old", "Messages are not being sent.", _messages),
    Rule("recordings_old", "Recordings are not being analysed.", _recordings),
    Rule("clock_unknown", "The time is not certain.", _clock),
    Rule("clock_stepped", "The clock was right, and was set to another time.", _stepped),
    Rule("store_damaged", "A database was damaged, and was set aside.", _damaged),
    Rule("service_down", "A service of the sensor is not running.", _down),
    Rule("service_restarts", "A service keeps restarting.", _restarts),
    Rule("temperature_high", "The board is too hot.", _temperature),
    Rule("voltage_low", "The supply voltage of the board is too low.", _voltage),
)
"""Every rule, by importance."""
