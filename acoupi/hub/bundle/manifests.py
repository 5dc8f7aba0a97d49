"""The Kubernetes manifests of a hub, from the same containers as its compose file.

Who may reach whom is written twice, as networks there and as policies here; a test compares them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from acoupi.bundles.cluster import Cluster
from acoupi.bundles.compose_file import SOCKET_FOLDER, Block
from acoupi.bundles.manifests import (
    budget,
    claim,
    container_of,
    is_fresh,
    literal,
    namespace,
    pod_name,
    pod_rights,
    policy,
    probes,
    requests_of,
)
from acoupi.config.yaml_documents import write_yaml
from acoupi.errors import ConfigurationError
from acoupi.hub.bundle.choices import HubChoices
from acoupi.hub.bundle.compose import (
    AUDIO,
    AUTHORITY,
    DATABASE_FOLDER,
    DATABASE_RUN,
    TLS,
    HubSite,
    pulse_of,
)
from acoupi.hub.bundle.manifest_checks import hub_manifest_problems
from acoupi.hub.bundle.services import (
    BROKER,
    DATABASE,
    DISPATCH,
    INGEST,
    INGEST_PORT,
    SUBSCRIBE,
    WEB,
    WEB_PORT,
    WORKER,
    hub_stack,
)
from acoupi.stack.loading import available_programs
from acoupi.stack.stack import Service

__all__ = ["KEPT_FILE", "RUNNING_FILE", "hub_documents", "render_hub_manifests"]

KEPT_FILE, RUNNING_FILE = "kept.yaml", "hub.yaml"
USERS = "/run/users"
OWNER = 1000
PORTS = {DATABASE: 5432, BROKER: 6379, INGEST: INGEST_PORT, WEB: WEB_PORT}
REACHED_BY = {
    DATABASE: (INGEST, DISPATCH, SUBSCRIBE, WEB),
    BROKER: (DISPATCH, WORKER),
    INGEST: (),
    WEB: (),
}
"""The callers of each port; anyone may reach ingest and the pages."""
SCALING = {"pollingInterval": 30, "cooldownPeriod": 300, "minReplicaCount": 0}
JOBS_FOR_ONE = "5"
"""Jobs in a program's queue for each worker that KEDA starts."""
KEDA = "keda"
"""The namespace of the KEDA operator, which reads the length of queues from redis."""


def render_hub_manifests(
    site: HubSite, cluster: Cluster, *, scales: bool = False
) -> dict[str, str]:
    """Return the files by name: storage that outlives the hub, and services.

    Parameters
    ----------
    scales
        Whether KEDA is there, to set the number of workers by the length of their queue.

    Raises
    ------
    ConfigurationError
        If something of the hub is not possible in a cluster.
    """
    documents = hub_documents(site, cluster, scales=scales)
    if problems := hub_manifest_problems(documents):
        raise ConfigurationError(
            "the manifests of the hub are not safe to apply.",
            "acoupi hub setup --target compose   (and report this)",
            why=f"{'; '.join(problems)}.",
        )
    kept = [one for one in documents if one["kind"] in {"Namespace", "PersistentVolumeClaim"}]
    running = [one for one in documents if one not in kept]
    head = "".join(f"# {line}\n" for line in site.header)
    return {KEPT_FILE: head + write_yaml(kept), RUNNING_FILE: head + write_yaml(running)}


def hub_documents(site: HubSite, cluster: Cluster, *, scales: bool = False) -> list[dict[str, Any]]:
    """Return every document."""
    choices = site.choices
    stack = hub_stack(choices)
    pods = [_Pod(one, site, cluster, scales=scales) for one in stack.services]
    claims = [claim(cluster, DATABASE)] if choices.has_own_database else []
    claims += [] if choices.keeps_audio_in_bucket else [claim(cluster, "audio")]
    return [
        namespace(cluster),
        *claims,
        policy(cluster, "nobody", {}, ["Ingress", "Egress"]),
        *(document for one in pods for document in one.policies(stack.services)),
        *(one.service() for one in pods if one.role in PORTS),
        *(budget(one.metadata(), one.selector) for one in pods if one.role in {DATABASE, INGEST}),
        *(one.runs() for one in pods),
        *(document for one in pods for document in one.scaling()),
    ]


@dataclass(frozen=True)
class _Pod:
    """The documents of one service."""

    of: Service
    site: HubSite
    cluster: Cluster
    scales: bool

    @property
    def role(self) -> str:
        """What kind of service it is."""
        return self.of.role

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return pod_name(self.of.name)

    @property
    def choices(self) -> HubChoices:
        """The namespace of the hub."""
        return self.site.choices

    @property
    def block(self) -> Block:
        """The same service in a compose file."""
        return self.site.service(self.of, hub_stack(self.choices))

    @property
    def labels(self) -> dict[str, str]:
        """Its labels: its own name, and its kind."""
        return {
            "app.kubernetes.io/name": self.name,
            "app.kubernetes.io/component": self.role,
            "app.kubernetes.io/part-of": "acoupi-hub",
        }

    @property
    def selector(self) -> dict[str, Any]:
        """The labels that select its pods."""
        return {"matchLabels": {"app.kubernetes.io/name": self.name}}

    def metadata(self) -> dict[str, Any]:
        """Return name, place and labels."""
        return {"name": self.name, "namespace": self.cluster.namespace, "labels": self.labels}

    # --- who reaches whom ---------------------------------------------------------------

    def policies(self, services: Iterable[Service]) -> Iterator[dict[str, Any]]:
        """Yield the policies for its incoming and outgoing connections."""
        roles = dict.fromkeys(one.role for one in services)
        if self.role in PORTS:
            ports = [{"protocol": "TCP", "port": PORTS[self.role]}]
            callers = [_role(one) for one in REACHED_BY[self.role] if one in roles]
            if self.role == BROKER and self.scales:
                name = {"kubernetes.io/metadata.name": KEDA}
                callers.append({"namespaceSelector": {"matchLabels": name}})
            rule = {"ports": ports, **({"from": callers} if callers else {})}
            yield self._policy("is-reached", "Ingress", ingress=[rule])
        reached = [one for one, callers in REACHED_BY.items() if self.role in callers]
        if self.role == WORKER:
            reached.append(INGEST)
        rules: list[dict[str, Any]] = [
            {"to": [_role(one)], "ports": [{"protocol": "TCP", "port": PORTS[one]}]}
            for one in reached
            if one in roles
        ]
        if rules or self._asks_elsewhere(roles):
            names = [{"protocol": kind, "port": 53} for kind in ("UDP", "TCP")]
            rules.append({"ports": names})
            rules += [{}] if self._asks_elsewhere(roles) else []
            yield self._policy("reaches", "Egress", egress=rules)

    def _asks_elsewhere(self, roles: Mapping[str, None]) -> bool:
        """Return whether it calls servers outside this hub."""
        if self.role in {INGEST, WEB} and self.choices.keeps_audio_in_bucket:
            return True
        if self.role == SUBSCRIBE:
            return True
        asked = [one for one in (DATABASE, BROKER) if self.role in REACHED_BY[one]]
        return any(one not in roles for one in asked)

    def _policy(self, what: str, kind: str, **rules: Any) -> dict[str, Any]:
        return policy(self.cluster, f"{self.name}-{what}", self.selector, [kind], **rules)

    def service(self) -> dict[str, Any]:
        """Return its Service; the database's has no address of its own."""
        ports = [{"protocol": "TCP", "port": PORTS[self.role]}]
        spec = {"selector": self.selector["matchLabels"], "ports": ports}
        headless = {"clusterIP": "None"} if self.role == DATABASE else {}
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(),
            "spec": {**headless, **spec},
        }

    # --- what runs ----------------------------------------------------------------------

    def runs(self) -> dict[str, Any]:
        """Return the database as a stateful set, and anything else as a deployment."""
        template = {"metadata": {"labels": self.labels}, "spec": self._pod()}
        is_database = self.role == DATABASE
        spec: dict[str, Any] = {"selector": self.selector, "template": template}
        if is_database:
            spec = {"serviceName": self.name, "replicas": 1, **spec}
        elif self.role == WORKER:
            count = {} if self.scales else {"replicas": self.block.scale}
            spec = {**count, "revisionHistoryLimit": 2, **spec}
        else:
            again = {"strategy": {"type": "Recreate"}}
            spec = {"replicas": 1, "revisionHistoryLimit": 2, **again, **spec}
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet" if is_database else "Deployment",
            "metadata": self.metadata(),
            "spec": spec,
        }

    def scaling(self) -> Iterator[dict[str, Any]]:
        """Yield what KEDA needs to set the number of workers."""
        if self.role != WORKER or not self.scales:
            return
        program = _place_of(self.of.command[-1])
        yield {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": self.metadata(),
            "spec": {
                "secretTargetRef": [
                    {"parameter": one, "name": "scaler", "key": one}
                    for one in ("username", "password")
                ]
            },
        }
        queue = f"acoupi:{program}:acoupi.hub.{program}"
        trigger = {
            "type": "redis",
            "metadata": {
                "address": f"{BROKER}:{PORTS[BROKER]}",
                "listName": queue,
                "listLength": JOBS_FOR_ONE,
            },
            "authenticationRef": {"name": self.name},
        }
        yield {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": self.metadata(),
            "spec": {
                "scaleTargetRef": {"name": self.name},
                **SCALING,
                "maxReplicaCount": self.block.scale,
                "triggers": [trigger],
            },
        }

    def _pod(self) -> dict[str, Any]:
        volumes = list(self._volumes())
        return {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": int(self.of.stop_grace),
            "securityContext": pod_rights(OWNER, OWNER),
            "containers": [self._container([mount for _, mount in volumes])],
            "volumes": [volume for volume, _ in volumes],
        }

    def _container(self, mounts: list[dict[str, Any]]) -> dict[str, Any]:
        block = self.block
        command = [literal(one).replace(f"{SOCKET_FOLDER}/users", f"{USERS}/users") for one in
                   block.command]  # fmt: skip
        secrets = [{"secretRef": {"name": self.name}}] if self.role != BROKER else []
        return {
            "name": self.name,
            **container_of(block.image or self.site.image),
            "command": command,
            **({"envFrom": secrets} if secrets else {}),
            "env": [{"name": key, "value": literal(text)} for key, text in block.environment],
            **({"ports": [{"containerPort": PORTS[self.role]}]} if self.role in PORTS else {}),
            "resources": requests_of(block),
            "volumeMounts": mounts,
            **probes(block, self._alive()),
        }

    def _alive(self) -> dict[str, Any]:
        """Return the liveness probe: what shows that it need not be restarted."""
        if self.role in PORTS:
            return {"tcpSocket": {"port": PORTS[self.role]}}
        return {"exec": {"command": list(is_fresh(pulse_of(self.of)))}}

    def _volumes(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield its volumes, each with where it is mounted."""
        yield _memory("temporary", "/tmp", "1Gi" if self.role in {WORKER, WEB} else "64Mi")  # noqa: S108
        if self.role == DATABASE:
            yield _claimed(DATABASE, DATABASE_FOLDER)
            yield _memory("socket", DATABASE_RUN, "1Mi")
        if self.role == BROKER:
            yield _memory("socket", SOCKET_FOLDER, "1Mi")
            yield _secret("users", BROKER, {"users.acl": "users.acl"}, USERS)
        if self.role in {INGEST, WEB}:
            if not self.choices.keeps_audio_in_bucket:
                yield _claimed("audio", AUDIO)
            if self.choices.has_tls:
                yield _secret("tls", "tls", {"tls.crt": "hub.pem", "tls.key": "hub.key"}, TLS)
        if self.role == WORKER and self.choices.makes_certificate:
            yield _secret("authority", "tls", {"ca.crt": "ca.pem"}, AUTHORITY)


def _place_of(program: str) -> str:
    """Return the name of a program in jobs: its module.

    Raises
    ------
    ConfigurationError
        If it is a short name and the program is not installed here.
    """
    place = available_programs().get(program, program).removesuffix(":Program")
    if "." in place or "_" in place:
        return place
    raise ConfigurationError(
        f'the module of the program "{program}" is not known here.',
        "--worker PACKAGE.MODULE, or pip install its package here",
        why="KEDA needs the queue of its jobs, which is named after its module.",
    )


def _role(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app.kubernetes.io/component": name}}}


Volume = tuple[dict[str, Any], dict[str, Any]]


def _memory(name: str, place: str, size: str) -> Volume:
    kind = {"emptyDir": {"medium": "Memory", "sizeLimit": size}}
    return {"name": name, **kind}, {"name": name, "mountPath": place}


def _claimed(name: str, place: str) -> Volume:
    volume = {"name": name, "persistentVolumeClaim": {"claimName": name}}
    return volume, {"name": name, "mountPath": place}


def _secret(name: str, secret: str, items: Mapping[str, str], place: str) -> Volume:
    files = [{"key": key, "path": path} for key, path in items.items()]
    source = {"secretName": secret, "defaultMode": 0o440, "items": files}
    return {"name": name, "secret": source}, {
        "name": name, "mountPath": place, "readOnly": True,
    }  # fmt: skip
