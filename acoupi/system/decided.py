"""Settings that a hub decides, and that cannot be changed elsewhere."""

import json
from collections.abc import Mapping
from pathlib import Path

from acoupi.config.sensor import dump_setting
from acoupi.errors import ConfigurationError, ParameterError
from acoupi.provisioned import FROM_HUB, FromHub, read_from_hub
from acoupi.system.planning import Plan
from acoupi.writing import RenderedFile

__all__ = ["check_decided"]


def check_decided(config: Path, plan: Plan, beside: Mapping[Path, RenderedFile]) -> None:
    """Refuse a different value for a setting that a hub decides.

    Parameters
    ----------
    config
        The folder ``config/``.
    beside
        The files of the commit, which may include new decisions of the hub.

    Raises
    ------
    ConfigurationError
        Naming the setting.
    """
    new = beside.get(config / FROM_HUB)
    from_hub = FromHub.model_validate_json(new.text) if new else read_from_hub(config)
    for name, value in (from_hub.decided if from_hub else {}).items():
        try:
            is_same = json.loads(dump_setting(plan.config, plan.sensor, name)) == value
        except ParameterError:  # another program may not have this setting
            is_same = False
        if not is_same:
            raise ConfigurationError(
                f'the hub decides "{name}".',
                f"acoupi fleet unset … {name}   (at the hub)",
                why=f"the hub gives {json.dumps(value)}; the value set here returns when the hub "
                "gives nothing.",
            )
