"""Choices for a cluster, from variables in the home's ``.env``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from acoupi.errors import ConfigurationError

__all__ = ["CHOICES", "Cluster", "chosen_cluster"]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The choices for a cluster."""

    namespace: str
    node: tuple[str, str]
    """Label of the node with the microphone: key and value."""
    sound: str
    """The resource by which a device plugin gives the sound device."""
    storage_class: str
    storage: str
    """Size of the storage, in Kubernetes' notation."""


CHOICES: Mapping[str, tuple[str, re.Pattern[str], str]] = {
    "ACOUPI_KUBERNETES_NAMESPACE": (
        "acoupi",
        re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"),
        "the namespace; each sensor has one of its own",
    ),
    "ACOUPI_KUBERNETES_NODE": (
        "acoupi/microphone=true",
        re.compile(r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9][\w.-]{0,62}=[A-Za-z0-9][\w.-]{0,62}"),
        "the label of the node that has the microphone, or kubernetes.io/hostname=NODE",
    ),
    "ACOUPI_KUBERNETES_SOUND": (
        "squat.ai/audio",
        re.compile(r"[a-z0-9.-]{1,253}/[A-Za-z0-9][\w.-]{0,62}"),
        "the resource by which a device plugin gives the sound device",
    ),
    "ACOUPI_KUBERNETES_STORAGE_CLASS": (
        "local-path",
        re.compile(r"[a-z0-9][a-z0-9.-]{0,252}"),
        "the class of storage, on a disk of that node",
    ),
    "ACOUPI_KUBERNETES_STORAGE": (
        "32Gi",
        re.compile(r"[1-9][0-9]*(?:[KMGT]i?)"),
        "how much of its disk the sensor asks for",
    ),
}
"""Default, what is valid, and meaning of each."""


def chosen_cluster(chosen: Mapping[str, str]) -> Cluster:
    """Return the choices from variables, with defaults for the rest.

    Raises
    ------
    ConfigurationError
        Naming a variable that cannot be that.
    """
    values = {name: chosen.get(name) or default for name, (default, _, _) in CHOICES.items()}
    for name, (default, valid, meaning) in CHOICES.items():
        if not valid.fullmatch(values[name]):
            raise ConfigurationError(
                f"{name} cannot be {values[name]!r}.",
                f"{name}={default}",
                why=f"it is {meaning}.",
            )
    namespace, node, sound, storage_class, storage = values.values()
    key, _, value = node.partition("=")
    return Cluster(
        namespace=namespace,
        node=(key, value),
        sound=sound,
        storage_class=storage_class,
        storage=storage,
    )
