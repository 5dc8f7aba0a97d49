"""The manifests of a sensor for Kubernetes: their schemas, who may do what, what is refused."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import kubernetes_validate
import pytest
import yaml

from acoupi.bundles.cluster import CHOICES
from acoupi.bundles.compose_file import health_probe
from acoupi.bundles.manifest_checks import manifest_problems
from acoupi.cli.changes import apply
from acoupi.errors import ConfigurationError, TargetError
from acoupi.stack.stack import Stack
from acoupi.stack.variables import COMMAND_VARIABLES
from acoupi.system import Settings, setup_program, target_for
from acoupi.system.planning import SetupRequest, plan_setup
from acoupi.system.summary import summary_of

PROGRAMS = ["test", "default", "connected", "demo"]
TOKEN = "sesame-4711"
Document = dict[str, Any]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def set_up(settings: Settings, program: str = "demo", *options: str) -> list[Document]:
    """Every document of both files."""
    setup_program(settings, program, list(options), target="kubernetes", environ={})
    folder = settings.home / "kubernetes"
    texts = [(folder / name).read_text() for name in ("home.yaml", "sensor.yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text)]


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}


def pods(documents: list[Document]) -> dict[str, Document]:
    found = of_kind(documents, "Deployment")
    return {name: one["spec"]["template"]["spec"] for name, one in found.items()}


def containers(documents: list[Document]) -> dict[str, Document]:
    return {name: pod["containers"][0] for name, pod in pods(documents).items()}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_schemas_of_kubernetes_take_every_document(settings: Settings, program: str) -> None:
    web = ("--sensor.web.enabled", "true", "--sensor.web.host", "0.0.0.0")

    documents = set_up(settings, program, *(() if program == "test" else web))

    for version in ("1.27", "1.32", "1.37"):
        for document in documents:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_refuse_what_is_misspelt(settings: Settings) -> None:
    document = set_up(settings)[-1]
    document["spec"]["replica"] = 1

    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(document, "1.32", strict=True)


@pytest.mark.parametrize("program", ["default", "connected", "demo"])
def test_only_the_recorder_asks_for_the_sound_device(settings: Settings, program: str) -> None:
    documents = set_up(settings, program)

    asking = [
        name
        for name, one in containers(documents).items()
        if one["resources"]["limits"].get("squat.ai/audio") == 1
    ]
    assert asking == ["recording"]
    assert pods(documents)["recording"]["securityContext"]["supplementalGroups"] == [29]
    assert list(of_kind(documents, "PodDisruptionBudget")) == ["recording"]
    assert "hostPath" not in str(documents)
    assert "/dev/snd" not in str(documents)


def test_a_program_that_records_nothing_asks_for_no_device(settings: Settings) -> None:
    documents = set_up(settings, "test")

    assert "squat.ai" not in str(documents)
    assert of_kind(documents, "PodDisruptionBudget") == {}


@pytest.mark.parametrize("program", ["default", "connected", "demo"])
def test_only_setup_and_who_sends_get_out_and_nobody_in(settings: Settings, program: str) -> None:
    documents = set_up(settings, program)

    policies = {name: one["spec"] for name, one in of_kind(documents, "NetworkPolicy").items()}
    assert policies.pop("nobody") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies == {
        f"{name}-sends": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": name}},
            "policyTypes": ["Egress"],
            "egress": [{}],
        }
        for name in ("setup", "default")
    }
    assert of_kind(documents, "Service") == {}
    ports = [word for one in containers(documents).values() for word in one["command"]]
    assert ports[ports.index("--port") + 1] == "0"  # redis: only its socket


def test_every_network_policy_and_budget_selects_a_pod(settings: Settings) -> None:
    documents = set_up(settings, "default", "--sensor.web.enabled", "true")

    known = [
        one["spec"]["template"]["metadata"]["labels"]
        for one in of_kind(documents, "Deployment").values()
    ]
    for kind in ("NetworkPolicy", "PodDisruptionBudget", "Deployment"):
        for name, one in of_kind(documents, kind).items():
            selector = one["spec"].get("podSelector", one["spec"].get("selector"))
            wanted = (selector or {}).get("matchLabels", {}).items()
            found = [labels for labels in known if wanted <= labels.items()]
            assert len(found) == (len(known) if name == "nobody" else 1), (kind, name)


def test_the_page_is_reached_from_outside_only_where_it_listens_for_others(
    settings: Settings,
) -> None:
    here = set_up(settings, "default", "--sensor.web.enabled", "true")
    assert "web" in pods(here)
    assert of_kind(here, "Service") == {}
    assert "web-serves" not in of_kind(here, "NetworkPolicy")

    options = ("--sensor.web.host", "0.0.0.0", "--sensor.web.port", "8123")
    documents = set_up(settings, "default", "--sensor.web.enabled", "true", *options)

    service = of_kind(documents, "Service")["web"]["spec"]
    assert service["ports"] == [{"protocol": "TCP", "port": 8123}]
    assert service["selector"] == {"app.kubernetes.io/component": "web"}
    policy = of_kind(documents, "NetworkPolicy")["web-serves"]["spec"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8123}]}]
    assert "web-sends" not in of_kind(documents, "NetworkPolicy")


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_a_service_may_use_is_what_its_stack_says(settings: Settings, program: str) -> None:
    request = SetupRequest(program, target="kubernetes", environ={})
    stack = plan_setup(settings, request).stack
    documents = set_up(settings, program)

    for service in stack.services:
        pod, container = pods(documents)[service.name], containers(documents)[service.name]
        limits = container["resources"]["limits"]
        assert limits["memory"] == f"{(service.limits.memory_bytes or 0) // 2**20}Mi"
        assert pod["terminationGracePeriodSeconds"] >= service.stop_grace
        probe = container["readinessProbe"]["exec"]["command"]
        _, command, pulse, *words = health_probe(service)
        assert [probe[0], Path(probe[1]).name, *probe[2:]] == [command, Path(pulse).name, *words]
    every = [one for pod in pods(documents).values() for one in pod["initContainers"]]
    assert all(one["resources"]["limits"]["memory"] for one in every)


def test_models_are_ended_before_what_records_when_memory_runs_out(settings: Settings) -> None:
    found = {name: one["resources"] for name, one in containers(set_up(settings)).items()}

    def kept(name: str) -> float:
        asked, limit = (int(found[name][kind]["memory"][:-2]) for kind in ("requests", "limits"))
        return asked / limit

    assert kept("recording") == 1 > kept("beat") > kept("default") > kept("detection") > 0
    shares = {name: int(one["requests"]["cpu"][:-1]) for name, one in found.items()}
    assert shares["recording"] == 4 * shares["default"] == 16 * shares["detection"]
    assert sum(shares.values()) < 1000


def test_every_pod_is_on_the_node_with_the_microphone_and_the_disk(settings: Settings) -> None:
    documents = set_up(settings)

    assert {str(pod["nodeSelector"]) for pod in pods(documents).values()} == {
        "{'acoupi/microphone': 'true'}"
    }
    (claim,) = of_kind(documents, "PersistentVolumeClaim").values()
    assert claim["spec"]["storageClassName"] == "local-path"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    for name, pod in pods(documents).items():
        made = {Path(word).name for word in pod["initContainers"][0]["command"][4:]}
        mounts = pod["containers"][0]["volumeMounts"]
        assert {one["subPath"] for one in mounts if one["name"] == "home"} == made, name


def test_the_steps_name_what_was_chosen_and_what_there_is(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_KUBERNETES_NAMESPACE", "oak")
    monkeypatch.setenv("ACOUPI_KUBERNETES_SOUND", "example.org/mic")
    monkeypatch.setenv("ACOUPI_KUBERNETES_NODE", "kubernetes.io/hostname=pi-4")
    set_up(settings, "default", "--sensor.web.enabled", "true", "--sensor.web.port", "8123")
    steps = (settings.home / "kubernetes" / "README.md").read_text()

    assert "kubectl label node NODE" not in steps  # it has that label by itself
    assert '--domain example.org --device \'{"name": "mic"' in steps
    assert "kubectl -n oak port-forward deployment/web 8123" in steps
    assert "kubectl -n oak exec deployment/default -- acoupi status" in steps
    set_up(Settings(home=settings.home.parent / "other"), "test")
    steps = (settings.home.parent / "other" / "kubernetes" / "README.md").read_text()
    assert "--device" not in steps
    assert "port-forward" not in steps


def test_a_secret_is_named_and_never_in_a_file(settings: Settings) -> None:
    options = ["--messaging.http.base_url", "https://here/$(in)", "--messaging.http.token", TOKEN]
    documents = set_up(settings, "connected", *options)
    folder = settings.home / "kubernetes"

    for path in folder.iterdir():
        assert TOKEN not in path.read_text()
        assert str(settings.home) not in path.read_text()
    assert "`ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN`" in (folder / "README.md").read_text()
    given = {name: one.get("envFrom") for name, one in containers(documents).items()}
    setup = given.pop("setup")
    assert setup is not None
    assert {"secretRef": {"name": "secrets", "optional": True}} in setup
    assert set(given.values()) == {None}
    values = {one["name"]: one["value"] for one in containers(documents)["setup"]["env"]}
    # Kubernetes would replace $(in).
    assert values["ACOUPI_CONFIG__MESSAGING__HTTP__BASE_URL"] == "https://here/$$(in)"


@pytest.mark.parametrize(
    ("name", "value", "finds"),
    [
        ("NAMESPACE", "oak", lambda docs: of_kind(docs, "Namespace")["oak"]),
        ("NODE", "kubernetes.io/hostname=pi-4", lambda docs: _node(docs) == "pi-4"),
        ("SOUND", "example.org/mic", lambda docs: _limits(docs)["example.org/mic"] == 1),
        ("STORAGE_CLASS", "usb-disk", lambda docs: _claim(docs)["storageClassName"] == "usb-disk"),
        ("STORAGE", "1Ti", lambda docs: "1Ti" in str(_claim(docs)["resources"])),
    ],
)
def test_what_is_chosen_of_the_cluster_is_kept(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    finds: Callable[[list[Document]], object],
) -> None:
    variable = f"ACOUPI_KUBERNETES_{name}"
    assert variable in COMMAND_VARIABLES
    monkeypatch.setenv(variable, value)
    assert finds(set_up(settings))

    monkeypatch.delenv(variable)
    assert finds(set_up(settings))
    assert f"\n{variable}={value}\n" in (settings.home / ".env").read_text()

    monkeypatch.setenv(variable, "not: valid")
    with pytest.raises(ConfigurationError, match=variable) as caught:
        set_up(settings)
    assert caught.value.help == f"{variable}={CHOICES[variable][0]}"


def _node(documents: list[Document]) -> object:
    return pods(documents)["redis"]["nodeSelector"]["kubernetes.io/hostname"]


def _limits(documents: list[Document]) -> Document:
    found: Document = containers(documents)["recording"]["resources"]["limits"]
    return found


def _claim(documents: list[Document]) -> Document:
    found: Document = of_kind(documents, "PersistentVolumeClaim")["home"]["spec"]
    return found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--paths.recordings", "/media/usb/recordings"], "a pod cannot have"),
        (["--sensor.spool.memory_mb", "64"], "in memory on Kubernetes"),
    ],
)
def test_what_a_cluster_cannot_give_is_refused_by_name(
    settings: Settings, options: list[str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        set_up(settings, "default", *options)

    assert not settings.home.exists()


def test_services_with_one_name_in_a_cluster_are_refused(settings: Settings) -> None:
    plan = plan_setup(settings, SetupRequest("demo", target="kubernetes", environ={}))

    def named(*names: str) -> Stack:
        workers = (
            replace(one, name=name) for one, name in zip(plan.stack.workers, names, strict=True)
        )
        return replace(plan.stack, services=(*workers, plan.stack.beat))

    files = plan.target.files(named("recording", "BirdNET_v2", "default"))
    assert "\n  name: birdnet-v2\n" in files[PurePath("kubernetes/sensor.yaml")].text
    with pytest.raises(ConfigurationError, match='would be called "bat-net"'):
        plan.target.files(named("recording", "bat_net", "Bat-Net"))


STOPS = "kubectl --namespace acoupi scale deployment --all --replicas 0"


def test_nothing_is_started_here_and_what_does_it_is_said(settings: Settings) -> None:
    set_up(settings)
    target = target_for(settings)

    applies = f"-f {settings.home}/kubernetes/home.yaml -f {settings.home}/kubernetes/sensor.yaml"
    assert target.next_step == f"kubectl apply {applies}"
    for act, command in (
        (target.up, target.next_step),
        (target.start_workers, target.next_step),
        *((act, STOPS) for act in (target.down, target.stop_workers, target.stop_recorder)),
        (target.check, "kubectl --namespace acoupi get pods"),
        (target.logs, "kubectl --namespace acoupi logs deployment/setup"),
    ):
        with pytest.raises(TargetError, match="here") as caught:
            act()
        assert caught.value.help == command
    assert {one.state for one in target.status()} == {"unknown"}
    assert {one.message for one in target.status()} == {
        "it runs in a cluster: kubectl --namespace acoupi get pods"
    }


def test_the_status_says_where_it_runs_and_not_that_it_must_be_started(settings: Settings) -> None:
    set_up(settings)

    assert summary_of(settings).rows()["recording"] == (
        "it runs in a cluster: kubectl --namespace acoupi get pods"
    )


def test_settings_that_changed_are_brought_to_the_cluster_by_what_is_said(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(settings)

    apply(settings)

    assert f"elsewhere. Next: kubectl apply -f {settings.home}" in "".join(capsys.readouterr())


def test_a_folder_can_be_written_anywhere_but_holds_no_packages(
    settings: Settings, tmp_path: Path
) -> None:
    plan = plan_setup(settings, SetupRequest("default", target="kubernetes", environ={}))
    folder = tmp_path / "manifests"

    following = plan.target.render_folder(folder, plan.stack)

    assert following == f"kubectl apply -f {folder}/home.yaml -f {folder}/sensor.yaml"
    assert {"README.md", "home.yaml", "sensor.yaml"} < {one.name for one in folder.iterdir()}
    with pytest.raises(ConfigurationError, match="packages") as caught:
        plan.target.render_folder(folder, plan.stack, packages=["acoupi-birdnet"])
    assert "acoupi compose build --package acoupi-birdnet" in str(caught.value.help)


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """What is rendered, to be changed in copies."""
    return set_up(Settings(home=tmp_path_factory.mktemp("safe") / "home"))


def _change(path: str, value: object) -> Callable[[Document], None]:
    """Return what sets something in the pod of the detector; None takes it away."""

    def change(pod: Document) -> None:
        *above, last = path.split(".")
        place: Any = pod
        for word in above:
            place = place[int(word) if word.isdigit() else word]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


FIRST = "containers.0"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_change("hostNetwork", True), "has hostNetwork"),
        (_change("nodeSelector", None), "is not bound to a node"),
        (_change("nodeSelector", {"a": "b"}), "several nodes"),
        (_change("automountServiceAccountToken", None), "token"),
        (_change("volumes", [{"name": "x", "hostPath": {"path": "/"}}]), "hostPath"),
        (_change("securityContext.runAsNonRoot", None), "root"),
        (_change("securityContext.runAsUser", 0), "root"),
        (_change("securityContext.seccompProfile", {"type": "Unconfined"}), "seccomp"),
        (_change("securityContext.supplementalGroups", [0]), "group of root"),
        (_change(f"{FIRST}.securityContext.privileged", True), "is privileged"),
        (_change(f"{FIRST}.securityContext.allowPrivilegeEscalation", None), "gain privileges"),
        (_change(f"{FIRST}.securityContext.readOnlyRootFilesystem", False), "write its root"),
        (_change(f"{FIRST}.securityContext.capabilities", {"add": ["SYS_TIME"]}), "capabilities"),
        (_change(f"{FIRST}.securityContext.runAsUser", 0), "has a user"),
        (_change("initContainers.0.securityContext.privileged", True), "is privileged"),
        (_change(f"{FIRST}.resources.limits.memory", None), "no memory limit"),
        (_change(f"{FIRST}.resources.limits.sound", 1), "one may"),
        (_change(f"{FIRST}.readinessProbe", None), "no readinessProbe"),
        (_change(f"{FIRST}.livenessProbe", None), "no livenessProbe"),
        (_change(f"{FIRST}.ports", [{"containerPort": 1, "hostPort": 1}]), "port of the node"),
    ],
)
def test_each_of_these_would_not_be_written(
    safe: list[Document], change: Callable[[Document], None], problem: str
) -> None:
    assert manifest_problems(safe) == []
    changed = copy.deepcopy(safe)

    change(pods(changed)["detection"])

    assert any(problem in one for one in manifest_problems(changed))


def test_neither_would_an_open_namespace_nor_a_second_recorder(settings: Settings) -> None:
    documents = set_up(settings)
    of_kind(documents, "Deployment")["recording"]["spec"]["strategy"] = {"type": "RollingUpdate"}
    of_kind(documents, "NetworkPolicy")["nobody"]["spec"]["policyTypes"] = ["Ingress"]

    assert manifest_problems(documents) == [
        "recording can run twice at once",
        "no NetworkPolicy closes the namespace",
    ]
