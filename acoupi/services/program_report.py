"""A program and its settings, as a hub needs them to analyse what the sensor recorded."""

import json
from typing import Any

from acoupi.config.dumping import dumped
from acoupi.programs import AcoupiProgram
from acoupi.programs.templates.detection import NOT_ABOUT_DETECTIONS, configuration_digest
from acoupi.reports import ProgramReport

__all__ = ["program_report"]

_SECRET = "\0secret"  # noqa: S105 - stands in the place of one


def program_report(program_class: type[AcoupiProgram[Any]], config: Any) -> ProgramReport:
    """Return a program and the settings that its outputs depend on, as a hub needs them.

    Secrets, paths and messengers are left out.
    """
    name = program_class.__name__
    settings = _without_secrets(dumped(config, lambda *_: _SECRET))
    own = {key: value for key, value in settings.items() if key not in NOT_ABOUT_DETECTIONS}
    return ProgramReport(
        program=program_class.__module__ + ("" if name == "Program" else f":{name}"),
        settings=json.dumps(own, ensure_ascii=False),
        digest=configuration_digest(config),
    )


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(one) for key, one in value.items() if one != _SECRET}
    if isinstance(value, list):
        return [_without_secrets(one) for one in value if one != _SECRET]
    return value
