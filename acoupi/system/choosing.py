"""Filters of what was heard, from the words of people: options of commands, fields of a page."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from acoupi.clock import utc_now
from acoupi.config.names import nearest
from acoupi.data import Deployment, RecordingState
from acoupi.errors import ParameterError
from acoupi.exports.reader import Reader
from acoupi.heard import Filters, Verdict
from acoupi.programs.fields import read_moment

__all__ = ["Choice", "Choosing", "known_as", "moment_of", "time_of"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The filters as they were written; None where not given."""

    since: str | None = None
    until: str | None = None
    deployment: Sequence[str] | None = None
    """Names or ids."""
    model: Sequence[str] | None = None
    species: Sequence[str] | None = None
    tag: Sequence[str] | None = None
    """``KEY=VALUE``."""
    min_score: float | None = None
    state: Sequence[str] | None = None
    verdict: Sequence[str] | None = None
    """Of `Verdict`, or "none"."""
    sample: bool | None = None


@dataclass(frozen=True)
class Choosing:
    """Converts words to filters.

    Parameters
    ----------
    reader
        Knows the existing names.
    zone
        Time zone of times without one.
    before
        Prefix of names in errors: "--" for options.
    """

    reader: Reader
    zone: datetime.tzinfo
    before: str = ""

    def filters(self, chosen: Choice) -> Filters:
        """Return the filters.

        Raises
        ------
        ParameterError
            If a name was never heard, or is not one of the known words.
        """
        reader = self.reader
        sites = {
            site.id for name in chosen.deployment or () for site in self.deployments_named(name)
        }
        return Filters(
            since=moment_of(f"{self.before}from", chosen.since, self.zone),
            until=moment_of(f"{self.before}to", chosen.until, self.zone, ends_day=True),
            deployments=frozenset(sites) if sites else None,
            models=self._known("model", chosen.model, reader.get_models),
            species=self._known(
                "species", chosen.species, lambda: [tag.value for tag in reader.get_tags()]
            ),
            tags=self._tags(chosen.tag),
            min_score=chosen.min_score,
            states=self._states(chosen.state),
            verdicts=self._verdicts(chosen.verdict),
            are_sampled=bool(chosen.sample),
        )

    def deployments_named(self, text: str) -> list[Deployment]:
        """Return the deployments with a name, or the one with an id or a unique start of an id.

        Raises
        ------
        ParameterError
            If there is none, with the nearest name.
        """
        found = self.reader.get_deployments()
        named = [one for one in found if one.name == text]
        begins = [one for one in found if len(text) > 3 and str(one.id).startswith(text.lower())]
        if named or len(begins) == 1:
            return named or begins
        option = f"{self.before}deployment"
        known_as(option, "deployment", text, [one.name for one in found])
        raise ParameterError(
            text,
            f'"{text}" is the start of {len(begins)} ids of deployments.',
            f"{option} {begins[0].id}",
            why="it must match only one of them.",
        )

    def _known(self, what: str, given: Sequence[str] | None, ask: Any) -> frozenset[str] | None:
        if not given:
            return None
        known = ask()
        return frozenset(known_as(f"{self.before}{what}", what, one, known) for one in given)

    def _tags(self, given: Sequence[str] | None) -> Any:
        if not given:
            return None
        known = {f"{tag.key}={tag.value}": tag for tag in self.reader.get_tags()}
        option = f"{self.before}tag"
        return frozenset(known[known_as(option, "tag", one, list(known))] for one in given)

    def _states(self, given: Sequence[str] | None) -> Any:
        words = self._words("state", given, [one.value for one in RecordingState])
        return words and frozenset(map(RecordingState, words))

    def _verdicts(self, given: Sequence[str] | None) -> Any:
        known = [one.value for one in Verdict if one is not Verdict.WITHDRAWN] + ["none"]
        words = self._words("verdict", given, known)
        return words and frozenset(None if one == "none" else Verdict(one) for one in words)

    def _words(
        self, name: str, given: Sequence[str] | None, known: Sequence[str]
    ) -> Sequence[str] | None:
        option = f"{self.before}{name}"
        for one in given or ():
            if one not in known:
                raise ParameterError(
                    one,
                    f'{option} cannot be "{one}".',
                    f"{option} {known[0]}",
                    why=f"it is one of {', '.join(known)}.",
                )
        return given or None


def known_as(option: str, what: str, text: str, known: list[str]) -> str:
    """Return a text that is one of the known names.

    Raises
    ------
    ParameterError
        If it is not, with the nearest one.
    """
    if text in known:
        return text
    few = list(dict.fromkeys(known))
    near = nearest(text, few) or (few[0] if few else None)
    names = ", ".join(f'"{one}"' for one in few[:8]) + (", …" if len(few) > 8 else "")
    raise ParameterError(
        text,
        f'there is no {what} "{text}" in what was heard.',
        f'{option} "{near}"' if near else "acoupi recordings list",
        why=f"the known ones are: {names or 'none'}.",
    )


def moment_of(
    option: str, text: str | None, zone: datetime.tzinfo, *, ends_day: bool = False
) -> datetime.datetime | None:
    """Return the time of an option in UTC; it is local to the sensor unless it has a zone.

    Raises
    ------
    ParameterError
        As `time_of`.
    """
    time = time_of(option, text, zone, ends_day=ends_day)
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(datetime.UTC)


def time_of(
    option: str, text: str | None, zone: datetime.tzinfo, *, ends_day: bool = False
) -> datetime.datetime | None:
    """Return the day or time that an option means; without a zone if the text has none.

    Parameters
    ----------
    zone
        The sensor's time zone, for its date.
    ends_day
        Whether a day means its end.

    Raises
    ------
    ParameterError
        If it is neither a day nor a time.
    """
    if text is None:
        return None
    today = utc_now().astimezone(zone).date()
    try:
        return read_moment(text, today, ends_day=ends_day)
    except ValueError as error:
        raise ParameterError(
            text, f'{option} cannot be "{text}".', f'{option} "{today} 21:30"', why=f"{error}."
        ) from error
