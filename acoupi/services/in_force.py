"""The report to a hub about the settings in force."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

import acoupi
from acoupi.commit import read_whole
from acoupi.config.documents import parsed_settings
from acoupi.config.names import SENSOR
from acoupi.config.secrets import REFERENCE
from acoupi.programs.templates.digests import section_digests, settings_digest
from acoupi.provisioned import read_from_hub, read_provisioned
from acoupi.reports import SettingsReport
from acoupi.stack.settings import Settings

__all__ = ["settings_report"]


def settings_report(settings: Settings, config: BaseModel | None = None) -> SettingsReport:
    """Return the report; secrets, and addresses that hold a login, are left out.

    Parameters
    ----------
    config
        The configuration of the program; None: its digests are not reported.

    Raises
    ------
    AcoupiError
        If a file of the configuration cannot be read.
    """
    program = _leaves(parsed_settings(settings.program_config_file))
    sensor = _leaves(parsed_settings(settings.sensor_config_file), f"{SENSOR.section}.")
    folder = settings.program_config_file.parent
    provisioned, from_hub = read_provisioned(folder), read_from_hub(folder)
    followed = since = None
    if provisioned is not None:
        followed, since = provisioned.followed, provisioned.provisioned_on
    elif from_hub is not None:
        followed, since = from_hub.followed, from_hub.since
    sources = [] if provisioned is None else provisioned.sources
    return SettingsReport(
        program=read_whole(settings.program_name_file).strip(),
        version=acoupi.__version__,
        configuration="" if config is None else settings_digest(config),
        sections=() if config is None else section_digests(config),
        values=dict([*program, *sensor]),
        variables=[one for one in sources if one.startswith("ACOUPI_") and "=" not in one],
        in_force=None if followed is None else followed.in_force,
        since=since,
        target=from_hub.target if from_hub and followed else None,
        refused=followed.number if followed and followed.given_up else 0,
        why=(followed.given_up or "") if followed else "",
    )


def _leaves(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict) and REFERENCE in value:
            continue
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{name}.")
        elif not _holds_login(value):
            yield f"{above}{name}", value


def _holds_login(value: Any) -> bool:
    """Return whether a text may hold a password: an address with a login or a query."""
    if isinstance(value, list):
        return any(map(_holds_login, value))
    return isinstance(value, str) and "://" in value and ("@" in value or "?" in value)
