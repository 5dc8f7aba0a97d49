"""Safety checks of every Kubernetes manifest, like `bundle_checks` for Compose.

They demand more than Pod Security's level "restricted".
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from acoupi.errors import ConfigurationError

__all__ = ["VOLUMES", "check_manifests", "closes_all", "manifest_problems", "pod_problems"]

VOLUMES = {"name", "persistentVolumeClaim", "emptyDir"}
HOST = ("hostNetwork", "hostPID", "hostIPC")
OF_KUBERNETES = ("cpu", "memory", "ephemeral-storage")
"""Resources that are not devices."""


def check_manifests(documents: Iterable[Mapping[str, Any]]) -> None:
    """Raise unless manifests isolate their pods as a sensor needs.

    Raises
    ------
    ConfigurationError
        Naming the pods and what is wrong with them.
    """
    if problems := manifest_problems(documents):
        raise ConfigurationError(
            "the manifests are not safe to apply.",
            "acoupi setup --target compose   (and report this)",
            why="; ".join(problems) + ".",
        )


def manifest_problems(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the problems of manifests, each starting with the name; [] if none."""
    every = list(documents)
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in every
        if one["kind"] == "Deployment"
    }
    if not pods:
        return ["there is no Deployment"]
    problems = [f"{name} {problem}" for name, pod in pods.items() for problem in _of_pod(pod)]
    problems += [
        f"{one['metadata']['name']} can run twice at once"
        for one in every
        if one["kind"] == "Deployment" and one["spec"].get("strategy") != {"type": "Recreate"}
    ]
    sound = [name for name, pod in pods.items() if any(map(_devices, _containers(pod)))]
    if len(sound) > 1:
        problems.append(f"{' and '.join(sound)} have the sound device, but only one may")
    nodes = {tuple((pod.get("nodeSelector") or {}).items()) for pod in pods.values()}
    if len(nodes) > 1:
        problems.append("the pods are on several nodes but share a disk")
    if not any(map(closes_all, every)):
        problems.append("no NetworkPolicy closes the namespace")
    return problems


def closes_all(document: Mapping[str, Any]) -> bool:
    """Return whether it is the policy that lets nobody in or out."""
    wanted = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return bool(document["kind"] == "NetworkPolicy" and document["spec"] == wanted)


def _containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _devices(container: Mapping[str, Any]) -> list[str]:
    resources = container.get("resources", {})
    asked = {**resources.get("requests", {}), **resources.get("limits", {})}
    return [name for name in asked if name not in OF_KUBERNETES]


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    if not pod.get("nodeSelector"):
        yield "is not bound to a node"
    yield from pod_problems(pod)


def pod_problems(pod: Mapping[str, Any], volumes: Collection[str] = VOLUMES) -> Iterator[str]:
    """Yield what is wrong with a pod, whatever it is for; `volumes` are the kinds it may have."""
    yield from (f"has {key}" for key in HOST if pod.get(key))
    if pod.get("automountServiceAccountToken") is not False:
        yield "gets a token of the cluster"
    for volume in pod.get("volumes", ()):
        if others := set(volume) - {*volumes}:
            yield f"has a volume of the kind {', '.join(sorted(others))}"
    yield from _of_user(pod.get("securityContext", {}))
    for container in _containers(pod):
        yield from _of_container(container)
    for container in pod["containers"]:
        for probe in ("readinessProbe", "livenessProbe"):
            if not container.get(probe):
                yield f"has no {probe}"


def _of_user(context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "may run as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile RuntimeDefault"
    if 0 in context.get("supplementalGroups", ()):
        yield "is in the group of root"


def _of_container(container: Mapping[str, Any]) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("privileged"):
        yield "is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "may write its root"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "has capabilities"
    if {"runAsUser", "runAsNonRoot", "seccompProfile", "procMount"} & set(context):
        yield "has a user or a profile beside that of its pod"
    if not container.get("resources", {}).get("limits", {}).get("memory"):
        yield "has no memory limit"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "has a port of the node"
