"""A home that sets itself up, in tests."""

from collections.abc import Mapping
from typing import Any

from acoupi.errors import ConfigurationError
from acoupi.provisioned import Provisioned
from acoupi.provisioning import fetching
from acoupi.provisioning.apply import provision
from acoupi.provisioning.fetching import Fetched
from acoupi.stack.loading import load_config_schema
from acoupi.system import Settings, load_config

__all__ = ["BASE", "URL", "config_of", "put"]


BASE = {"ACOUPI_PROGRAM": "default"}


def config_of(settings: Settings) -> Any:
    return load_config(settings.program_config_file, load_config_schema(settings))


def put(
    settings: Settings, pages: Mapping[str, str] | None = None, **variables: str
) -> tuple[Provisioned, bool]:
    """Provision from variables, and from what URLs give; others fail."""
    given = {f"ACOUPI_{name}": value for name, value in variables.items()}

    def fetch(url: str) -> Fetched:
        if "://" not in url:
            return fetching.fetch(url)  # which refuses it at once
        if url not in (pages or {}):
            raise ConfigurationError("cannot fetch the configuration.", why="it is away.")
        return Fetched((pages or {})[url], ".yaml")

    return provision(settings, {**BASE, **given}, fetch)


URL = "http://x/a"
