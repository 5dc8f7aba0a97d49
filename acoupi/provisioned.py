"""The state of self-provisioning in a home: the configuration in force, and any fault.

`acoupi.provisioning` writes it; it stands here so that heartbeats can report it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from acoupi.clock import shown_in_utc
from acoupi.commit import read_whole
from acoupi.data import AwareDatetime, Deployment
from acoupi.errors import ConfigurationError
from acoupi.home import home_dir

__all__ = [
    "CACHE",
    "MARKER",
    "Fault",
    "Fetched",
    "Followed",
    "Provisioned",
    "read_cache",
    "read_provisioned",
]

MARKER = "provisioned.json"
"""Name of its file, in ``config/``."""
CACHE = "fetched.json"
"""What a URL gave last, in ``config/``; private, because a configuration may hold passwords."""


@dataclass(frozen=True)
class Fetched:
    """A configuration file as it came from a URL."""

    text: str
    suffix: str
    """Says what kind of file it is: .json, .yaml or .toml."""


class Fault(BaseModel):
    """Why the sources could not be applied."""

    message: str
    why: str | None = None
    help: str | None = None
    since: AwareDatetime

    def text(self) -> str:
        """Return it in one line."""
        sentences = filter(None, [self.message, self.why])
        return " ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)


class Followed(BaseModel):
    """How far a sensor follows the settings that its hub offers; see `acoupi.offers`."""

    number: int = 0
    """Of the newest document that came; an older one is refused."""
    in_force: int = 0
    """Of the document whose settings are in force."""
    since: AwareDatetime | None = None
    """When its settings were first tried; None: nothing is on trial."""
    given_up: str | None = None
    """Why the settings of the newest document are not in force."""


class Provisioned(BaseModel):
    """The configuration in force, and the last attempt to update it."""

    generation: int = 0
    """Number of configurations applied so far; 0: none yet."""
    digest: str = ""
    """Digest of everything it was made from."""
    provisioned_on: AwareDatetime | None = None
    program: str | None = None
    sources: list[str] = Field(default_factory=list)
    """Which setting came from which source, without values that may be secret."""
    fault: Fault | None = None
    """Why the current sources are not in force; None: they are."""
    deployments: list[Deployment] = Field(default_factory=list)
    """The most recent ones, the current one last."""
    followed: Followed | None = None
    """Of the documents of a hub; None: it follows none."""

    def in_force(self) -> str:
        """Return which configuration is in force, in words."""
        if self.provisioned_on is None:
            return "no configuration is in force yet"
        return f"the configuration of {shown_in_utc(self.provisioned_on)} UTC is in force"

    def trouble(self) -> str | None:
        """Describe the fault and the configuration in force; None if there is no fault."""
        return f"{self.fault.text()} ({self.in_force()})" if self.fault else None


def read_provisioned(config: Path | None = None) -> Provisioned | None:
    """Return the stored state; None if the home did not set itself up.

    Parameters
    ----------
    config
        The folder ``config/``; None: that of ACOUPI_HOME.

    Raises
    ------
    ConfigurationError
        If the file is there and cannot be read: the home did set itself up.
    """
    path = (config or home_dir() / "config") / MARKER
    try:
        return Provisioned.model_validate_json(read_whole(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f'cannot read "{path}".',
            "restart the service that sets the home up: it writes the file again",
            why="it does not say which configuration is in force.",
        ) from error


def read_cache(config: Path) -> tuple[str, Fetched] | None:
    """Return what was fetched last, with the digest of its URL; None if nothing ever was.

    Raises
    ------
    ConfigurationError
        If the file is there and cannot be read.
    """
    path = config / CACHE
    try:
        content = json.loads(read_whole(path))
        return str(content["url"]), Fetched(str(content["text"]), str(content["suffix"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f'cannot read "{path}".',
            "make ACOUPI_CONFIG_URL answer: the file is written again then",
            why="it does not hold the configuration that was fetched last.",
        ) from error
