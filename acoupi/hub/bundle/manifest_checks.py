"""Checks of every rendered manifest of a hub, in addition to those of a sensor's pods."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from acoupi.bundles.manifest_checks import VOLUMES, closes_all, pod_problems
from acoupi.hub.bundle.services import BROKER, DATABASE, DISPATCH, INGEST, SUBSCRIBE, WEB

__all__ = ["hub_manifest_problems", "reached_in"]

RUNNING = ("Deployment", "StatefulSet")
COMPONENT = "app.kubernetes.io/component"
CALLERS = {DATABASE: {INGEST, DISPATCH, SUBSCRIBE, WEB}, BROKER: {DISPATCH, "worker", "keda"}}


def hub_manifest_problems(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with manifests, each beginning with the name; [] if nothing."""
    every = list(documents)
    running = [one for one in every if one["kind"] in RUNNING]
    problems = [
        f"{one['metadata']['name']} {problem}"
        for one in running
        for problem in pod_problems(one["spec"]["template"]["spec"], {*VOLUMES, "secret"})
    ]
    if not any(map(closes_all, every)):
        problems.append("no policy closes the namespace")
    problems += [
        f"{one['metadata']['name']} is a Secret, which must not be in a file"
        for one in every
        if one["kind"] == "Secret"
    ]
    problems += [
        f"{one['metadata']['name']} is reached from outside the cluster"
        for one in every
        if one["kind"] == "Service" and one["spec"].get("type", "ClusterIP") != "ClusterIP"
    ]
    problems += [
        f"{name} is reached by {caller}"
        for caller, name in reached_in(every)
        if name not in {INGEST, WEB} and caller not in CALLERS.get(name, set())
    ]
    return problems


def reached_in(documents: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (caller, service) pairs of roles that policies allow; "everybody" is anyone."""
    every = list(documents)
    roles = {
        one["metadata"]["labels"]["app.kubernetes.io/name"]: one["metadata"]["labels"][COMPONENT]
        for one in every
        if one["kind"] in RUNNING
    }
    for one in every:
        if one["kind"] != "NetworkPolicy" or not one["spec"].get("ingress"):
            continue
        name = one["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for rule in one["spec"]["ingress"]:
            for source in rule.get("from") or [{}]:
                yield _caller(source), roles[name]


def _caller(source: Mapping[str, Any]) -> str:
    if labels := source.get("podSelector", {}).get("matchLabels"):
        return str(labels.get(COMPONENT, "everybody"))
    if labels := source.get("namespaceSelector", {}).get("matchLabels"):
        return str(labels.get("kubernetes.io/metadata.name", "everybody"))
    return "everybody"
