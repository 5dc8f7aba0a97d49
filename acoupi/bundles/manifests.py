"""The manifests of Kubernetes of a stack: from the same containers as a compose file.

A sensor sets itself up there as on balena (`acoupi.bundles.self_setup`): what is a
volume of its compose file is a folder of one claim here. All pods are on the node that
has the microphone, so they share that folder's disk, the sockets in it, and its kernel.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from acoupi.bundles.cluster import Cluster
from acoupi.bundles.compose_file import HEALTH, SOCKET, Block
from acoupi.bundles.manifest_checks import check_manifests
from acoupi.bundles.self_setup import SCRATCH, DeviceSite, compose_file_of
from acoupi.config.yaml_documents import write_yaml
from acoupi.errors import ConfigurationError
from acoupi.stack.spool import memory_of
from acoupi.stack.stack import SETUP, Stack

__all__ = [
    "KEPT_FILE",
    "RUNNING_FILE",
    "SECRETS",
    "SETTINGS",
    "budget",
    "claim",
    "container_of",
    "is_fresh",
    "literal",
    "namespace",
    "pod_name",
    "pod_rights",
    "policy",
    "probes",
    "render_manifests",
    "requests_of",
]

KEPT_FILE = "home.yaml"
RUNNING_FILE = "sensor.yaml"
CLAIM = "home"
SETTINGS, SECRETS = "settings", "secrets"
"""A ConfigMap and a Secret with variables for setup, which acoupi does not make."""
PULSE_PATIENCE = "-5 minutes"
"""A service with an older pulse is restarted; pulses are written every 5 s, also while waiting."""
SHARES_PER_MILLICORE = 16
"""All requests together are less than one core; what each gets of a busy one is as with Docker."""
FOLDERS_MEMORY = "32Mi"


def render_manifests(stack: Stack, site: DeviceSite, cluster: Cluster) -> dict[str, str]:
    """Return the files by name: storage that outlives the sensor, and services.

    Raises
    ------
    ConfigurationError
        If the stack has something that a cluster cannot provide; names it.
    """
    if memory_of(stack):
        raise ConfigurationError(
            "recordings cannot wait in memory on Kubernetes.",
            "acoupi config set sensor.spool.memory_mb 0",
            why="pods share folders of a disk, and no memory.",
        )
    blocks = compose_file_of(stack, site).blocks
    _refuse_equal_names(blocks)
    ports = {one.name: one.port for one in stack.services}
    pods = [_Pod(one, site, cluster) for one in blocks]
    reached = {
        one.name: port.number
        for one in pods
        if (port := ports.get(one.block.name)) and not ip_address(port.address).is_loopback
    }
    kept = [namespace(cluster), claim(cluster)]
    running = [
        policy(cluster, "nobody", {}, ["Ingress", "Egress"]),
        *(one.sends() for one in pods if one.block.network),
        *(document for one in pods for document in one.serves(reached.get(one.name))),
        *(budget(one.metadata(), one.selector) for one in pods if one.block.sound),
        *(one.deployment() for one in pods),
    ]
    check_manifests([*kept, *running])
    head = "".join(f"# {line}\n" for line in site.header)
    return {KEPT_FILE: head + write_yaml(kept), RUNNING_FILE: head + write_yaml(running)}


def pod_name(service: str) -> str:
    """Return the name of a service in a cluster.

    Examples
    --------
    >>> pod_name("BirdNET_v2")
    'birdnet-v2'
    """
    return service.lower().replace("_", "-").strip("-")


def _refuse_equal_names(blocks: Iterable[Block]) -> None:
    names = [pod_name(one.name) for one in blocks]
    double = next((one for one in names if names.count(one) > 1), None)
    if double:
        raise ConfigurationError(
            f'two services would be called "{double}" on Kubernetes.',
            "give one of the AcoupiWorkers another name",
            why="names there have only lower-case letters, digits and -.",
        )


def namespace(cluster: Cluster) -> dict[str, Any]:
    """Return the namespace, in which Pod Security enforces its strictest level."""
    levels = {
        f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")
    }
    metadata = {"name": cluster.namespace, "labels": levels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def claim(cluster: Cluster, name: str = CLAIM) -> dict[str, Any]:
    """Return a claim of a part of the cluster's disk."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": cluster.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": cluster.storage_class,
            "resources": {"requests": {"storage": cluster.storage}},
        },
    }


def policy(
    cluster: Cluster, name: str, selected: Mapping[str, Any], kinds: list[str], **rules: Any
) -> dict[str, Any]:
    """Return a network policy of the pods that are selected."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": cluster.namespace},
        "spec": {"podSelector": dict(selected), "policyTypes": kinds, **rules},
    }


def budget(metadata: Mapping[str, Any], selector: Mapping[str, Any]) -> dict[str, Any]:
    """Return what keeps `kubectl drain` from ending a pod by the way."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {
            "minAvailable": 1,
            "selector": selector,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def probes(block: Block, alive: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells that a container is ready, and that it need not be started anew."""
    return {
        "readinessProbe": {
            "exec": {"command": [literal(word) for word in block.health[1:]]},
            "periodSeconds": int(HEALTH["health_interval"]),
            "timeoutSeconds": int(HEALTH["health_timeout"]),
            "failureThreshold": int(HEALTH["health_retries"]),
        },
        "livenessProbe": {
            **alive,
            "initialDelaySeconds": int(HEALTH["health_start"]),
            "periodSeconds": 60,
            "timeoutSeconds": 10,
            "failureThreshold": 3,
        },
    }


def is_fresh(pulse: str) -> tuple[str, ...]:
    """Return the command that says whether a pulse was written lately."""
    return ("sh", "-c", f"find {pulse} -newermt '{PULSE_PATIENCE}' | grep -q .")


@dataclass(frozen=True)
class _Pod:
    """The documents of one service."""

    block: Block
    site: DeviceSite
    cluster: Cluster

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return pod_name(self.block.name)

    @property
    def selector(self) -> dict[str, Any]:
        """What finds its pod."""
        return {"matchLabels": {"app.kubernetes.io/component": self.name}}

    def metadata(self, name: str | None = None) -> dict[str, Any]:
        """Return name, place and labels."""
        labels = {"app.kubernetes.io/component": self.name, "app.kubernetes.io/part-of": "acoupi"}
        named = {"name": name or self.name, "namespace": self.cluster.namespace}
        return {**named, "labels": labels}

    def sends(self) -> dict[str, Any]:
        """Return the policy that lets it connect to anywhere: its servers are in its settings."""
        return policy(self.cluster, f"{self.name}-sends", self.selector, ["Egress"], egress=[{}])

    def serves(self, port: int | None) -> Iterator[dict[str, Any]]:
        """Yield the policy that opens its port, and no other, to everybody."""
        if port is None:
            return
        ports = [{"protocol": "TCP", "port": port}]
        yield policy(
            self.cluster,
            f"{self.name}-serves",
            self.selector,
            ["Ingress"],
            ingress=[{"ports": ports}],
        )
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(),
            "spec": {"selector": self.selector["matchLabels"], "ports": ports},
        }

    def deployment(self) -> dict[str, Any]:
        """Return its deployment: a single pod, never two at once."""
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata(),
            "spec": {
                "replicas": 1,
                "revisionHistoryLimit": 2,
                "strategy": {"type": "Recreate"},
                "selector": self.selector,
                "template": {
                    "metadata": {"labels": self.metadata()["labels"]},
                    "spec": self._pod(),
                },
            },
        }

    def _pod(self) -> dict[str, Any]:
        key, value = self.cluster.node
        user, _, group = self.site.user.partition(":")
        sound = self.block.sound
        more = {"supplementalGroups": [int(sound.group)]} if sound else {}
        return {
            "nodeSelector": {key: value},
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # Like `init` in Compose: the first process is not acoupi's, and reaps orphans.
            "shareProcessNamespace": True,
            "terminationGracePeriodSeconds": math.ceil(self.block.stop_grace),
            "securityContext": pod_rights(int(user), int(group), **more),
            "initContainers": [self._folders()],
            "containers": [self._container()],
            "volumes": [
                {"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM}},
                {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
            ],
        }

    def _folders(self) -> dict[str, Any]:
        """Return the container that makes its folders: the kubelet would make them root's."""
        names = [volume.partition(":")[0] for volume in self.block.volumes]
        return {
            "name": "folders",
            **container_of(self.site.image),
            "command": ["install", "-d", "-m", "700", *(f"/volume/{name}" for name in names)],
            "resources": {
                "requests": {"cpu": "10m", "memory": FOLDERS_MEMORY},
                "limits": {"memory": FOLDERS_MEMORY},
            },
            "volumeMounts": [{"name": CLAIM, "mountPath": "/volume"}],
        }

    def _container(self) -> dict[str, Any]:
        block = self.block
        sources = [
            {"configMapRef": {"name": SETTINGS, "optional": True}},
            {"secretRef": {"name": SECRETS, "optional": True}},
        ]
        return {
            "name": self.name,
            **container_of(self.site.image),
            "command": [literal(word) for word in block.command],
            **({"envFrom": sources} if block.name == SETUP else {}),
            "env": [{"name": key, "value": literal(text)} for key, text in block.environment],
            "resources": self._resources(),
            "volumeMounts": [
                *map(_mount, block.volumes),
                {"name": "scratch", "mountPath": SCRATCH},
            ],
            **probes(block, {"exec": {"command": list(map(literal, self._alive()))}}),
        }

    def _alive(self) -> tuple[str, ...]:
        """Return the liveness probe: what shows that it need not be restarted."""
        watched = self.block.health[2]
        if watched == SOCKET:
            return ("redis-cli", "-s", SOCKET, "ping")
        return is_fresh(watched)

    def _resources(self) -> dict[str, Any]:
        """Return its resources; services to kill last when memory runs out request most.

        The kernel's score of a container follows from how much of its limit was requested.
        """
        sound = {self.cluster.sound: 1} if self.block.sound else {}
        return requests_of(self.block, sound)


def requests_of(block: Block, devices: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return the resources of a container; see `_Pod._resources`."""
    limit = int(block.memory.removesuffix("m"))
    kept = max(1, math.ceil(limit * (1000 - block.score) / 1000))
    return {
        "requests": {
            "cpu": f"{block.shares // SHARES_PER_MILLICORE}m",
            "memory": f"{kept}Mi",
        },
        "limits": {**({"memory": f"{limit}Mi"} if limit else {}), **(devices or {})},
    }


def pod_rights(user: int, group: int, **more: Any) -> dict[str, Any]:
    """Return the security context of a pod: one user, and the runtime's own profile."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "fsGroupChangePolicy": "OnRootMismatch",
        **more,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_of(image: str | None) -> dict[str, Any]:
    """Return the image and the minimal rights of a container."""
    return {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def literal(text: object) -> str:
    """Return a text in which Kubernetes replaces nothing.

    Examples
    --------
    >>> literal("a$(b)")
    'a$$(b)'
    """
    return str(text).replace("$", "$$")


def _mount(volume: str) -> dict[str, Any]:
    """Return a volume of a compose file as a folder of the claim.

    Examples
    --------
    >>> _mount("config:/acoupi/config:ro")["subPath"]
    'config'
    """
    name, place, *mode = volume.split(":")
    fixed = {"readOnly": True} if mode == ["ro"] else {}
    return {"name": CLAIM, "mountPath": place, "subPath": name, **fixed}
