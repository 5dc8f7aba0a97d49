"""The choices made for a hub, and where its files are: ``ACOUPI_HUB_HOME``."""

import os
import re
from pathlib import Path, PurePath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from acoupi.bundles.bundle_checks import SECCOMP_FILE
from acoupi.bundles.engine import COMPOSE_FILE
from acoupi.bundles.rendering import Manifest
from acoupi.commit import LOCK, is_there, read_whole, settle
from acoupi.errors import ConfigurationError, NotConfiguredError
from acoupi.home import expanded, home_mark, without_dots
from acoupi.writing import RenderedFile, disk_error

__all__ = ["CHOICES_FILE", "WRITE_OVER", "HubChoices", "HubHome", "Listening", "hub_home"]

CHOICES_FILE = PurePath("hub.json")
WRITE_OVER = "acoupi hub setup --force   (to overwrite it)"
"""The remedy where a file was edited by hand."""
HTTP_PORT, WEB_PORT, BROKER_PORT = 8090, 8091, 6380
_NAME = re.compile(r"(?!-)[A-Za-z0-9.-]{1,253}(?<!-)")
_LISTEN = re.compile(r"(\[[0-9a-f:]+\]|[0-9.]+)(?::([0-9]{1,5}))?")


def _host_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("must be the name or the address of this machine: hub.example.org")
    return text


class Listening(BaseModel):
    """Where a service listens: an address of this machine, and a port."""

    model_config = ConfigDict(frozen=True)

    address: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = HTTP_PORT

    @classmethod
    def parse(cls, option: str, text: str, port: int) -> Self:
        """Return what ``ADDRESS`` or ``ADDRESS:PORT`` means.

        Raises
        ------
        ConfigurationError
            If it is neither.
        """
        found = _LISTEN.fullmatch(text)
        if found is None or not 1 <= int(found[2] or port) <= 65535:
            raise ConfigurationError(
                f'{option} cannot be "{text}".',
                f"{option} 0.0.0.0:{port}   (or the address of one network of this machine)",
                why="it is a numeric address of this machine, with or without a port.",
            )
        return cls(address=found[1], port=int(found[2] or port))

    @property
    def is_of_this_machine(self) -> bool:
        """Whether no other machine reaches it."""
        return self.address.startswith("127.") or self.address == "[::1]"


class HubChoices(BaseModel):
    """The options of ``acoupi hub setup``, without secrets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_host_name)]
    """Name or address at which sensors and workers reach this machine."""
    project: str
    """Name of the containers' project; it stays when the folder is moved."""
    listen: Listening = Listening()
    listen_broker: Listening | None = None
    """Where workers on other machines reach the broker; None: nowhere."""
    listen_web: Listening | None = None
    """Where people see its pages; None: nowhere."""
    timezone: str = "UTC"
    """Time zone of the pages."""
    has_tls: bool = True
    certificate: Path | None = None
    """Certificate and key; None: made by the hub."""
    key: Path | None = None
    workers: dict[str, int] = {}
    """Number of workers here for each program."""
    packages: tuple[str, ...] = ()
    """Packages with the programs, as `acoupi compose build` takes them."""
    audio: str = ""
    """A folder, or ``s3://BUCKET/PREFIX``; empty: the folder ``audio`` of the hub."""
    has_own_database: bool = True
    """Whether the hub runs PostgreSQL itself; else its address is among the secrets."""
    has_own_broker: bool = True
    knows_broker: bool = False
    """Whether it has the authority's file for an external broker."""
    subscribes: bool = False
    """Whether it subscribes to an MQTT broker, whose address is among the secrets."""
    target: Literal["compose", "kubernetes"] = "compose"
    cluster: dict[str, str] = {}
    """Choices for Kubernetes, by the variables of `acoupi.bundles.cluster`."""
    scales: bool = False
    """Whether KEDA sets the number of workers there."""

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key belong together")
        if self.listen_broker and not self.has_own_broker:
            raise ValueError("--listen-broker is for the hub's own broker")
        return self

    @property
    def is_in_cluster(self) -> bool:
        """Whether it runs in a cluster, which acoupi does not reach."""
        return self.target == "kubernetes"

    @property
    def keeps_audio_in_bucket(self) -> bool:
        """Whether sound is kept by an S3 server."""
        return self.audio.startswith("s3://")

    @property
    def makes_certificate(self) -> bool:
        """Whether sensors need the file of the hub's own authority."""
        return self.has_tls and self.certificate is None

    @property
    def address(self) -> str:
        """The URL that sensors report to."""
        host = "localhost" if self.listen.is_of_this_machine else self.name
        return f"http{'s' if self.has_tls else ''}://{host}:{self.listen.port}"

    @property
    def pages(self) -> str | None:
        """The URL of its pages; None: it has none."""
        if self.listen_web is None:
            return None
        host = "localhost" if self.listen_web.is_of_this_machine else self.name
        return f"http{'s' if self.has_tls else ''}://{host}:{self.listen_web.port}/"

    def to_file(self) -> RenderedFile:
        """Return the file that holds these choices."""
        return RenderedFile(self.model_dump_json(indent=2, exclude_defaults=True) + "\n")


class HubHome:
    """The folder of a hub.

    Parameters
    ----------
    path
        Absolute; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.choices_file = path / CHOICES_FILE
        self.manifest_file = path / ".generated.json"
        self.secrets = path / "secrets"
        self.tls = path / "tls"
        self.run = path / "run"
        """Folder with the socket of PostgreSQL, for commands on this machine."""

    @property
    def own_project(self) -> str:
        """The name of its containers' project, unique on this machine."""
        return f"acoupi-hub-{home_mark(self.path)}"

    @property
    def has_database(self) -> bool:
        """Whether its own database exists: until then it knows no worker's token."""
        folder = self.path / "database"
        return folder.is_dir() and any(folder.iterdir())

    @property
    def host_database(self) -> str:
        """The address of its database for commands on this machine; it holds no password."""
        passwords = self.secrets / "pgpass"
        return f"postgresql:///acoupi?host={self.run}&port=5432&user=acoupi&passfile={passwords}"

    def read(self) -> HubChoices:
        """Return the choices.

        Raises
        ------
        NotConfiguredError
            If there is no hub.
        ConfigurationError
            If the file holds something else.
        """
        try:
            return HubChoices.model_validate_json(read_whole(self.choices_file))
        except FileNotFoundError as error:
            raise NotConfiguredError(
                f'there is no hub in "{self.path}".',
                "acoupi hub setup   (or set ACOUPI_HUB_HOME to the folder of a hub)",
                why=f"{CHOICES_FILE} does not exist.",
            ) from error
        except OSError as error:
            raise disk_error("read", self.choices_file, error) from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "it"
            raise ConfigurationError(
                f'cannot read "{self.choices_file}".',
                "restore the file as acoupi hub setup wrote it",
                why=f"{place}: {first['msg']}.",
            ) from error

    @property
    def is_set_up(self) -> bool:
        """Whether there is a hub."""
        return is_there(self.choices_file)

    def check(self) -> None:
        """Finish or undo a setup that was interrupted; raise if the folder cannot be a hub's.

        Raises
        ------
        ConfigurationError
            If it is a sensor's, or holds other files.
        """
        settle(self.path)
        if self.is_set_up or not self.path.exists():
            return
        made = Manifest.read(self.manifest_file)
        if made is not None or (self.path / "config" / "program.json").exists():
            raise self._refused("it is the home of a sensor.")
        names = sorted(
            one.name
            for one in self.path.iterdir()
            if one.name not in ("lost+found", LOCK)
            and not (one.is_dir() and not any(one.iterdir()))
        )
        if names:
            what = f"{COMPOSE_FILE} and {SECCOMP_FILE}" if COMPOSE_FILE in names else names[0]
            raise self._refused(f"it holds {what}, which acoupi did not write.")

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f'a hub cannot be set up in "{self.path}".',
            "ACOUPI_HUB_HOME=FOLDER acoupi hub setup, with a new folder",
            why=why,
        )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def hub_home() -> HubHome:
    """Return the folder of the hub: from the variable ``ACOUPI_HUB_HOME``, or ``~/.acoupi-hub``."""
    given = os.environ.get("ACOUPI_HUB_HOME") or "~/.acoupi-hub"
    return HubHome(without_dots(expanded(given).absolute()))
