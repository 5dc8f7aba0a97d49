"""Every ``ACOUPI_…`` variable of a service: one table, for documentation and for checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from acoupi.config.names import nearest
from acoupi.errors import ConfigurationError
from acoupi.stack.settings import Settings

__all__ = [
    "COMMAND_VARIABLES",
    "SERVICE_VARIABLES",
    "VARIABLES",
    "Variable",
    "check_known",
    "is_source",
    "is_variable",
    "place_in",
]

Scope = Literal["configuration", "deployment", "device", "running", "bundle"]

PREFIX = "ACOUPI_"


@dataclass(frozen=True)
class Variable:
    """One variable, or (if its name ends in ``__``) all with that prefix."""

    name: str
    meaning: str
    scope: Scope
    """configuration, deployment, device: a source of the provisioning; running: of the services
    themselves; bundle: set when services are rendered, not by operators."""
    default: str = ""

    @property
    def is_prefix(self) -> bool:
        """Whether it stands for all variables with that prefix."""
        return self.name.endswith("__")


VARIABLES: tuple[Variable, ...] = (
    Variable("ACOUPI_PROGRAM", "the program, as for `acoupi setup --program`", "configuration"),
    Variable(
        "ACOUPI_CONFIG__",
        "one setting: ACOUPI_CONFIG__RECORDING__DURATION=5 is recording.duration",
        "configuration",
    ),
    Variable("ACOUPI_CONFIG_FILE", "a configuration file (JSON, YAML, TOML)", "configuration"),
    Variable(
        "ACOUPI_CONFIG_URL",
        "where a configuration file is fetched at each start, http or https; not with a file",
        "configuration",
    ),
    Variable(
        "ACOUPI_CONFIG_KEY",
        "the public key of `acoupi fleet keys`: then the URL is a hub's, whose settings it signed",
        "configuration",
    ),
    Variable(
        "ACOUPI_CONFIG_EVERY",
        "seconds between two queries of the hub; with the key",
        "running",
        "300",
    ),
    Variable(
        "ACOUPI_SENSOR__",
        "one setting of the sensor itself, not of its program",
        "configuration",
    ),
    Variable("ACOUPI_CELERY__", "one setting of Celery", "configuration"),
    Variable(
        "ACOUPI_SECRET__", "a secret whose place cannot be a variable's name", "configuration"
    ),
    Variable("ACOUPI_DEPLOYMENT__NAME", "name of the deployment", "deployment", "the device id"),
    Variable("ACOUPI_DEPLOYMENT__LATITUDE", "degrees, WGS 84", "deployment"),
    Variable("ACOUPI_DEPLOYMENT__LONGITUDE", "degrees, WGS 84", "deployment"),
    Variable(
        "ACOUPI_DEVICE_ID",
        "id of the device: letters, digits, dot, - and _, at most 64",
        "device",
        "balena's UUID, else the serial number of the board, else one made once",
    ),
    Variable("ACOUPI_LOG_LEVEL", "DEBUG, INFO, WARNING, ERROR", "running", "INFO"),
    Variable(
        "ACOUPI_SIMULATED_AUDIO", "`synthetic` or a folder of WAVs, for the microphone", "running"
    ),
    Variable(
        "ACOUPI_MICROPHONE_PATIENCE",
        "seconds without a microphone after which the recorder exits, to be restarted",
        "running",
        "never",
    ),
    Variable(
        "ACOUPI_UPDATE_LOCK",
        "file that keeps a supervisor from updating in the middle of a recording, if its "
        "folder exists",
        "running",
        "/tmp/balena/updates.lock",  # noqa: S108 - where balena looks
    ),
    Variable(
        "ACOUPI_SETUP_PATIENCE",
        "seconds that a service waits for the home to be set up",
        "running",
        "600",
    ),
    Variable("ACOUPI_HOME", "the folder of the sensor", "bundle", "~/.acoupi"),
    Variable("ACOUPI_SERVICE", "the name of a service", "bundle"),
    Variable("ACOUPI_SERVICES", "the workers that the bundle has", "bundle"),
    Variable("ACOUPI_SERVICE_RESTARTS", "how often a service was restarted", "bundle"),
    Variable("ACOUPI_BROKER", "the broker that the bundle has", "bundle"),
    Variable("ACOUPI_BROKER_USER", "user there", "bundle"),
    Variable("ACOUPI_BROKER_PASSWORD_FILE", "where its password is", "bundle"),
    Variable("ACOUPI_BROKER_RULES", "the users of redis and their rights", "bundle"),
    Variable("ACOUPI_BROKER_APPENDONLY", "whether redis writes to the disk", "bundle", "no"),
    Variable("ACOUPI_SECRETS", "withheld: this service is not given the secrets", "bundle"),
    Variable("ACOUPI_PYTHON", "the interpreter", "bundle"),
    Variable("ACOUPI_START_TIMEOUT", "seconds a service may take to start", "bundle"),
    Variable("ACOUPI_IMAGE", "the image", "bundle"),
    Variable("ACOUPI_IMAGE_ID", "its id, as it was when the services were started", "bundle"),
    Variable("ACOUPI_IMAGE_SOURCE", "digest of the code that it was made from", "bundle"),
    Variable("ACOUPI_UID", "user of the containers", "bundle"),
    Variable("ACOUPI_GID", "group of the containers", "bundle"),
    Variable("ACOUPI_AUDIO_GID", "group of the sound device", "bundle"),
    Variable("ACOUPI_SOUND", "where the sound devices are", "bundle"),
    Variable(
        "ACOUPI_SIMULATED_FOLDER", "folder of sounds for a bundle without a microphone", "bundle"
    ),
    *(
        Variable(
            f"{PREFIX}{name.upper()}",
            f"`{name}` of `acoupi.system.Settings`, if not the default",
            "bundle",
        )
        for name in Settings.model_fields
        if name not in ("home", "log_level")
    ),
)

SERVICE_VARIABLES = {
    "ACOUPI_MEMORY_": "most memory of a service, such as 300m",
    "ACOUPI_PORT_": "where the port of a service listens on this machine, such as 127.0.0.1:8080",
    "ACOUPI_UID_": "number of the user of a service",
}
"""Variables in ``.env`` of a bundle for each service, followed by the name of the service."""

COMMAND_VARIABLES = {
    "ACOUPI_APPARMOR": "the AppArmor profile of the containers; in `.env` of a bundle",
    "ACOUPI_BACKUP_PASSWORD": "the password of a backup, instead of a prompt",
    "ACOUPI_BASE_IMAGE": "the Debian image that the image of the sensor is built on",
    "ACOUPI_BUILD_NETWORK": "the network that images are built in, such as host",
    "ACOUPI_DATABASE_PASSWORD": "in the container of a hub's PostgreSQL: the password of its user",
    "ACOUPI_DEBUG": "1: show tracebacks, as `acoupi --debug`",
    "ACOUPI_FLEET_KEY": "the file with the private key, as `acoupi fleet set --key`",
    "ACOUPI_FLEET_MQTT": "the MQTT broker of many sensors, as `acoupi fleet status --mqtt`",
    "ACOUPI_HUB": "the address of a hub, https://HOST, as `--hub`",
    "ACOUPI_HUB_AUDIO": "where a hub keeps sound, as `acoupi hub serve --audio`",
    "ACOUPI_HUB_BROKER": "the broker of a hub, as `acoupi hub dispatch --broker`",
    "ACOUPI_HUB_BROKER_ADDRESS": "where workers find it, as `acoupi hub add-worker --broker`",
    "ACOUPI_HUB_BROKER_MANAGEMENT": "RabbitMQ's management, as `acoupi hub dispatch --management`",
    "ACOUPI_HUB_CACHE": "where a hub makes pictures and exports, as `acoupi hub web --folder`",
    "ACOUPI_HUB_CA": "whose certificates a worker trusts, as `acoupi hub work --ca`",
    "ACOUPI_HUB_DATABASE": "the database of a hub, as `--hub` or `--database`",
    "ACOUPI_HUB_HOME": "the folder of a hub, by default `~/.acoupi-hub`",
    "ACOUPI_HUB_MQTT": "the MQTT broker of sensors, as `acoupi hub subscribe --broker`",
    "ACOUPI_HUB_MQTT_CLIENT": "the hub's client id at that broker, as `--client-id`",
    "ACOUPI_HUB_PROGRAM": "the program of a worker, as `acoupi hub work --program`",
    "ACOUPI_HUB_TOKEN": "your token for the hub at `ACOUPI_HUB` or `--hub`",
    "ACOUPI_HUB_URL": "the hub of a worker, as `acoupi hub work --hub`",
    "ACOUPI_HUB_WORKER_TOKEN": "the token of a worker, as `acoupi hub work --token`",
    "ACOUPI_INSIDE": "set by acoupi where it runs a command in a container",
    "ACOUPI_KUBERNETES_NAMESPACE": "with the target kubernetes: the namespace of the sensor",
    "ACOUPI_KUBERNETES_NODE": "there: the label of the node that has the microphone",
    "ACOUPI_KUBERNETES_SOUND": "there: the resource by which a device plugin gives the sound "
    "device",
    "ACOUPI_KUBERNETES_STORAGE": "there: how much storage the sensor requests",
    "ACOUPI_KUBERNETES_STORAGE_CLASS": "there: the class of storage, on a disk of that node",
    "ACOUPI_PACKAGES": "the packages that the image holds; in `.env` of a bundle",
    "ACOUPI_PULSE": "in the container of a hub's service: the file of its pulse",
    "ACOUPI_SECCOMP": "the seccomp profile of the containers; in `.env` of a bundle",
    "ACOUPI_TARGET": "as `acoupi setup --target`, where that is not given",
}
"""Variables of commands and of containers of a bundle, which mean nothing to a service."""

_EXACT = {one.name for one in VARIABLES if not one.is_prefix}
_PREFIXES = (
    *(one.name for one in VARIABLES if one.is_prefix),
    *SERVICE_VARIABLES,
)
_SOURCES = tuple(
    one.name for one in VARIABLES if one.scope in ("configuration", "deployment", "device")
)


def is_variable(name: str) -> bool:
    """Return whether a variable is known to services."""
    return name in _EXACT or name.startswith(_PREFIXES)


def is_source(name: str) -> bool:
    """Return whether provisioning reads a variable."""
    return name in _SOURCES or name.startswith(
        tuple(source for source in _SOURCES if source.endswith("__"))
    )


def place_in(environ: Mapping[str, str]) -> tuple[float, float] | None:
    """Return latitude and longitude of the deployment that variables name; or None."""
    texts = [environ.get(f"ACOUPI_DEPLOYMENT__{name}", "") for name in ("LATITUDE", "LONGITUDE")]
    try:
        latitude, longitude = map(float, texts)
    except ValueError:  # provisioning reports what is wrong with them
        return None
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else None


def check_known(environ: Mapping[str, str]) -> None:
    """Raise if there is an unknown ``ACOUPI_…`` variable.

    Raises
    ------
    ConfigurationError
        With the nearest known name.
    """
    unknown = sorted(
        name
        for name, value in environ.items()
        if name.upper().startswith(PREFIX) and value and not is_variable(name)
    )
    if not unknown:
        return
    valid = [one.name for one in VARIABLES if one.scope != "bundle"]
    shown = [f"{name}…" if name.endswith("_") else name for name in valid]
    # Without what all begin with, by which all are alike.
    short = {name.removeprefix(PREFIX): name for name in valid}
    better = short.get(nearest(unknown[0].upper().removeprefix(PREFIX), list(short)) or "")
    raise ConfigurationError(
        f'there is no variable "{unknown[0]}".'
        + (f" (Nor {', '.join(unknown[1:])}.)" if unknown[1:] else ""),
        better or "remove it",
        why=f"the variables are {', '.join(shown)}.",
    )
