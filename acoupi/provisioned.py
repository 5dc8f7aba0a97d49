"""The state of settings that come from elsewhere: what is in force, and any fault.

`acoupi.provisioning` writes it; it is here so that heartbeats can report it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, JsonValue

from acoupi.clock import shown_in_utc
from acoupi.commit import read_whole
from acoupi.data import AwareDatetime, Deployment
from acoupi.deferred import DeferredModel
from acoupi.errors import ConfigurationError
from acoupi.home import home_dir

__all__ = [
    "CACHE",
    "CONFIRMED",
    "FROM_HUB",
    "MARKER",
    "Fault",
    "Fetched",
    "Followed",
    "FromHub",
    "Provisioned",
    "read_cache",
    "read_from_hub",
    "read_provisioned",
]

MARKER = "provisioned.json"
"""Name of its file, in ``config/``."""
FROM_HUB = "from-hub.json"
"""File with a hub's settings for a home that a person set up, in ``config/``."""
CACHE = "fetched.json"
"""The last document from a URL, in ``config/``; private, because it may hold passwords."""
CONFIRMED = "confirmed.json"
"""The last document that a hub confirmed, in ``config/``."""


@dataclass(frozen=True)
class Fetched:
    """A configuration file as it came from a URL."""

    text: str
    suffix: str
    """Its format: .json, .yaml or .toml."""


class Fault(DeferredModel):
    """Why the sources could not be applied."""

    message: str
    why: str | None = None
    help: str | None = None
    since: AwareDatetime

    def text(self) -> str:
        """Return it in one line."""
        sentences = filter(None, [self.message, self.why])
        return " ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)


class Followed(DeferredModel):
    """The progress of a sensor in following its hub's settings; see `acoupi.offers`."""

    number: int = 0
    """Number of the newest document received; older ones are refused."""
    in_force: int = 0
    """Number of the document whose settings are in force."""
    since: AwareDatetime | None = None
    """When its settings were first tried; None: nothing is on trial."""
    given_up: str | None = None
    """Why the settings of the newest document are not in force."""


class Provisioned(DeferredModel):
    """The configuration in force, and the last attempt to update it."""

    generation: int = 0
    """Number of configurations applied so far; 0: none yet."""
    digest: str = ""
    """Digest of everything it was made from."""
    provisioned_on: AwareDatetime | None = None
    program: str | None = None
    sources: list[str] = Field(default_factory=list)
    """The source of each setting, without values that may be secret."""
    fault: Fault | None = None
    """Why the current sources are not in force; None: they are."""
    deployments: list[Deployment] = Field(default_factory=list)
    """The most recent ones, the current one last."""
    followed: Followed | None = None
    """The state of following a hub; None: it follows none."""

    def in_force(self) -> str:
        """Return which configuration is in force, in words."""
        if self.provisioned_on is None:
            return "no configuration is in force yet"
        return f"the configuration of {shown_in_utc(self.provisioned_on)} UTC is in force"

    def trouble(self) -> str | None:
        """Describe the fault and the configuration in force; None if there is no fault."""
        return f"{self.fault.text()} ({self.in_force()})" if self.fault else None


class FromHub(DeferredModel):
    """A hub's settings for a home that a person set up, which override those chosen there."""

    target: str
    """Where its services run."""
    followed: Followed | None = None
    """The state of following; None: it no longer follows a hub."""
    since: AwareDatetime | None = None
    """When the services got these settings."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The settings in force, as in the document..."""
    decided: dict[str, JsonValue] = Field(default_factory=dict)
    """...and by dotted name, as the sensor writes them."""
    chosen: dict[str, JsonValue] = Field(default_factory=dict)
    """The sensor's own values of these, by dotted name..."""
    unset: list[str] = Field(default_factory=list)
    """...and those that had no value of its own."""
    image: str | None = None
    """Image of the containers; None: the hub does not choose it."""
    image_before: str | None = None
    """Image of the containers before the hub chose one."""
    restart_due: bool = False
    """Whether services may still run with other settings."""
    fault: Fault | None = None
    """Why the newest is not in force; None: it is."""

    def trouble(self) -> str | None:
        """Describe the fault; None if there is none."""
        return self.fault.text() if self.fault else None


def read_from_hub(config: Path | None = None) -> FromHub | None:
    """Return a hub's settings for a home that a person set up; None: it never followed one.

    Parameters and errors are those of `read_provisioned`.
    """
    path = (config or home_dir() / "config") / FROM_HUB
    return _read(path, FromHub, f"rm {path}   (the hub's settings then stay, as if chosen here)")


def read_provisioned(config: Path | None = None) -> Provisioned | None:
    """Return the stored state; None if the home did not set itself up.

    Parameters
    ----------
    config
        The folder ``config/``; None: that of ACOUPI_HOME.

    Raises
    ------
    ConfigurationError
        If the file exists but cannot be read: the home did set itself up.
    """
    path = (config or home_dir() / "config") / MARKER
    remedy = "restart the service that sets the home up: it writes the file again"
    return _read(path, Provisioned, remedy)


State = TypeVar("State", bound=BaseModel)


def _read(path: Path, kind: type[State], remedy: str) -> State | None:
    try:
        return kind.model_validate_json(read_whole(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f'cannot read "{path}".',
            remedy,
            why="it does not name the configuration in force.",
        ) from error


def read_cache(config: Path) -> tuple[str, Fetched] | None:
    """Return the last fetched document, with the digest of its URL, or None.

    Raises
    ------
    ConfigurationError
        If the file exists but cannot be read.
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
            "make ACOUPI_CONFIG_URL reachable: then the file is written again",
            why="it does not hold the configuration that was fetched last.",
        ) from error
