"""A hub in containers: what setup writes, keeps, and refuses; nothing is started here."""

import json
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePath
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography import x509
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

import acoupi
from acoupi import data
from acoupi.bundles.bundle_checks import bundle_problems
from acoupi.bundles.engine import Answer, Engine
from acoupi.components.messengers.hub import HubMessenger
from acoupi.components.messengers.mqtt_collecting import read_address
from acoupi.config.env_files import read_env
from acoupi.config.hub import Hub
from acoupi.errors import AcoupiError, ConfigurationError, MessageSendError, TargetError
from acoupi.hub.broker import queue_of
from acoupi.hub.bundle.certificates import own_certificate
from acoupi.hub.bundle.choices import HubHome, Listening
from acoupi.hub.bundle.compose import hub_problems
from acoupi.hub.bundle.manifest_checks import hub_manifest_problems, reached_in
from acoupi.hub.bundle.running import RunningHub
from acoupi.hub.bundle.services import worker_name
from acoupi.hub.bundle.setting_up import set_up_hub
from acoupi.services.hub import make_messenger
from acoupi.writing import write_files
from tests.services import DEADLINE, free_port

NAME = {"name": "hub.example.org"}
EVERYTHING = {
    **NAME,
    "workers": {"test": 2},
    "listen": {"address": "0.0.0.0", "port": 443},
    "listen_broker": {"address": "0.0.0.0", "port": 6380},
    "listen_web": {"address": "0.0.0.0", "port": 8443},
}

MQTT = "mqtts://hub:very-secret@broker.example.org/acoupi"


def set_up(folder: Path, given: Mapping[str, Any] = NAME, **urls: str) -> dict[str, Any]:
    """Set a hub up; return its compose file."""
    set_up_hub(HubHome(folder), given, own_servers=urls)
    text = (folder / "docker-compose.yml").read_text()
    assert bundle_problems(text) == []
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    return tmp_path / "hub"


def test_only_ingest_is_published_and_only_to_this_machine(hub: Path) -> None:
    services = set_up(hub)["services"]

    ports = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert ports == {"ingest": ["127.0.0.1:8090:8090"]}


def test_no_service_but_those_that_need_it_reaches_the_database(hub: Path) -> None:
    services = set_up(hub, EVERYTHING, subscribe=MQTT)["services"]

    reached = {name for name, one in services.items() if "database" in one["networks"]}
    assert reached == {"database", "ingest", "dispatch", "subscribe", "web"}
    assert services[worker_name("test")]["networks"] == ["broker", "work"]


def test_the_pages_only_read_sound_and_are_published_where_it_is_said(hub: Path) -> None:
    web = set_up(hub, EVERYTHING)["services"]["web"]

    assert web["ports"] == ["0.0.0.0:8443:8091"]
    assert HubHome(hub).read().pages == "https://hub.example.org:8443/"
    assert {one["target"]: one["read_only"] for one in web["volumes"]} == {
        "/run/tls": True,
        "/audio": True,
    }
    assert set(read_env(hub / "secrets" / "web.env")) == {"ACOUPI_HUB_DATABASE"}


def test_what_subscribes_has_a_way_out_of_its_own_and_no_folder(hub: Path) -> None:
    document = set_up(hub, EVERYTHING, subscribe=MQTT)
    services = document["services"]

    assert services["subscribe"]["networks"] == ["database", "subscribe"]
    assert not services["subscribe"].get("volumes")
    assert not services["subscribe"].get("ports")
    joined = [name for name, one in services.items() if "subscribe" in one["networks"]]
    assert joined == ["subscribe"]
    states = {one.name for one in RunningHub(HubHome(hub), Told()).states()}
    assert "subscribe" in states


def test_the_password_of_the_mqtt_broker_is_in_its_secret_alone_and_stays(hub: Path) -> None:
    set_up(hub, EVERYTHING, subscribe=MQTT)
    set_up(hub, {"timezone": "Europe/London"})

    holders = [one.relative_to(hub).as_posix() for one in hub.rglob("*")
               if one.is_file() and "very-secret" in one.read_text()]  # fmt: skip
    assert sorted(holders) == ["secrets/subscribe.env", "secrets/subscribe.url"]
    variables = read_env(hub / "secrets" / "subscribe.env")
    assert variables.keys() == {"ACOUPI_HUB_DATABASE", "ACOUPI_HUB_MQTT"}
    assert variables["ACOUPI_HUB_MQTT"] == MQTT

    assert "subscribe" not in set_up(hub, {}, subscribe="")["services"]
    assert not (hub / "secrets" / "subscribe.url").exists()


def test_the_authority_of_the_mqtt_broker_goes_along(hub: Path, tmp_path: Path) -> None:
    [pem, *_] = own_certificate(tmp_path, ["broker.example.org"]).values()
    (tmp_path / "ca.pem").write_text(pem.text)

    set_up(hub, NAME, subscribe=f"{MQTT}?ca={tmp_path / 'ca.pem'}")

    url = read_env(hub / "secrets" / "subscribe.env")["ACOUPI_HUB_MQTT"]
    (tmp_path / "ca.pem").unlink()
    broker, topic = read_address(url)
    assert (broker.username, topic) == ("hub", "acoupi")
    assert broker.certificates
    assert broker.certificates.ca_certificate == pem.text


@pytest.mark.parametrize(
    ("kind", "url", "said"),
    [
        ("subscribe", "http://broker.example.org", "mqtts://"),
        ("subscribe", "mqtt://localhost/acoupi", "localhost is the container"),
        ("subscribe", MQTT + "?ca=/dev/null", "must be a certificate"),
        ("subscribe", MQTT + "?ca=/there/is/none", "no such file"),
        ("database", "postgresql://me@127.0.0.1/hub", "localhost is the container"),
        ("broker", "redis://[::1]:6379/0", "localhost is the container"),
    ],
)
def test_an_address_that_a_container_cannot_use_is_refused(
    hub: Path, kind: str, url: str, said: str
) -> None:
    error = refusal(lambda: set_up(hub, NAME, **{kind: url}))

    assert said in " ".join(error.lines())
    assert "very-secret" not in " ".join(error.lines())
    assert not hub.exists()


def test_a_worker_sees_no_folder_but_that_of_the_authority(hub: Path) -> None:
    worker = set_up(hub, EVERYTHING)["services"][worker_name("test")]

    assert [one["target"] for one in worker["volumes"]] == ["/run/ca"]
    assert worker["scale"] == 2


@pytest.mark.parametrize(
    ("service", "change", "problem"),
    [
        ("worker-test", {"networks": ["database"]}, "worker-test reaches the database"),
        ("database", {"networks": ["ingest"]}, "database has a network that leads out"),
        ("worker-test", {"networks": ["ingest"]}, "worker-test has a network that leads out"),
        ("database", {"ports": ["5432:5432"]}, "database publishes a port"),
        ("worker-test", {"volumes": [{"target": "/x"}]}, "worker-test mounts folders of the hub"),
    ],
)
def test_a_file_that_mixes_services_up_is_refused(
    hub: Path, service: str, change: dict[str, Any], problem: str
) -> None:
    document = set_up(hub, EVERYTHING)
    assert hub_problems(document) == []

    document["services"][service] |= change

    assert problem in hub_problems(document)


def test_secrets_are_for_their_owner_alone_and_in_no_other_file(hub: Path) -> None:
    set_up(hub, EVERYTHING)

    secrets = [one for one in (hub / "secrets").iterdir() if one.is_file()]
    secrets += [hub / "tls" / "hub.key", hub / "broker" / "users.acl"]
    assert {stat.S_IMODE(one.stat().st_mode) for one in secrets} == {0o600}
    passwords = [(hub / "secrets" / one).read_text().strip() for one in ("database", "broker")]
    others = [one for one in hub.iterdir() if one.is_file()]
    assert not [one for one in others for word in passwords if word in one.read_text()]


def test_a_second_setup_keeps_choices_passwords_and_certificate(hub: Path) -> None:
    set_up(hub, EVERYTHING)
    kept = {one: one.read_bytes() for one in hub.rglob("*") if one.is_file()}

    set_up(hub, {})

    assert {one: one.read_bytes() for one in hub.rglob("*") if one.is_file()} == kept


def test_its_database_is_found_whatever_other_one_the_user_has_and_the_page_says_how(
    hub: Path,
) -> None:
    url = HubHome(hub).host_database
    page = (Path(acoupi.__path__[0]) / "docs" / "hub.md").read_text()

    assert conninfo_to_dict(url)["port"] == "5432"
    assert f'export ACOUPI_HUB_DATABASE="{url.replace(str(hub), "$HOME/.acoupi-hub")}"' in page


def test_workers_are_added_and_taken_away_one_by_one(hub: Path) -> None:
    set_up(hub, EVERYTHING)

    services = set_up(hub, {"workers": {"demo": 1}})["services"]
    assert {"worker-test", "worker-demo"} <= services.keys()

    services = set_up(hub, {"workers": {"test": 0}})["services"]
    assert "worker-test" not in services
    assert "worker-demo" in services


def test_another_name_gives_another_certificate_of_the_same_authority(hub: Path) -> None:
    set_up(hub)
    authority = (hub / "ca" / "ca.pem").read_bytes()

    set_up(hub, {"name": "bats.example.org"})

    made = x509.load_pem_x509_certificate((hub / "tls" / "hub.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "bats.example.org" in names.get_values_for_type(x509.DNSName)
    assert (hub / "ca" / "ca.pem").read_bytes() == authority
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))


def test_a_database_and_a_broker_of_ones_own_are_used(hub: Path) -> None:
    url, broker = "postgresql://me:word@db.example.org/hub", "amqps://me:word@mq.example.org//"

    document = set_up(hub, EVERYTHING | {"listen_broker": None}, database=url, broker=broker)

    assert not {"database", "broker"} & document["services"].keys()
    assert read_env(hub / "secrets" / "ingest.env")["ACOUPI_HUB_DATABASE"] == url
    assert read_env(hub / "secrets" / "dispatch.env")["ACOUPI_HUB_BROKER"] == broker
    assert "word" not in (hub / "docker-compose.yml").read_text()
    assert "broker" in set_up(hub, {}, broker="", database="")["services"]


def test_a_broker_is_trusted_and_managed_inside_as_it_is_here(hub: Path, tmp_path: Path) -> None:
    authority = tmp_path / "mq-ca.pem"
    authority.write_text("of mine")
    broker = f"amqps://me:word@mq.example.org//?ssl_ca_certs={authority}"
    place = "https://mq.example.org:4711"
    known = {"source": str(hub / "ca"), "target": "/run/ca", "read_only": True}

    set_up(hub, NAME | {"workers": {"demo": 1}}, broker=broker, management=place)
    services = set_up(hub)["services"]

    variables = read_env(hub / "secrets" / "dispatch.env")
    assert variables["ACOUPI_HUB_BROKER_MANAGEMENT"] == place
    assert variables["ACOUPI_HUB_BROKER"] == broker.replace(str(authority), "/run/ca/broker.pem")
    assert (hub / "ca" / "broker.pem").read_text() == "of mine"
    for name in ("dispatch", worker_name("demo")):
        assert [one.items() >= known.items() for one in services[name]["volumes"]] == [True]

    cluster = HubHome(tmp_path / "cluster")
    with pytest.raises(ConfigurationError, match="private authority for your broker"):
        set_up_hub(cluster, NAME | {"target": "kubernetes"}, own_servers={"broker": broker})
    authority.unlink()
    with pytest.raises(AcoupiError, match=authority.name):
        set_up(hub)
    set_up(hub, {}, broker="", management="")
    assert "ACOUPI_HUB_BROKER_MANAGEMENT" not in read_env(hub / "secrets" / "dispatch.env")


def test_sound_in_a_bucket_lets_ingest_out_and_keeps_its_keys_secret(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    document = set_up(hub, NAME | {"audio": "s3://bats/2026"})
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    set_up(hub, {})

    assert document["services"]["ingest"]["environment"]["ACOUPI_HUB_AUDIO"] == "s3://bats/2026"
    masquerade = "com.docker.network.bridge.enable_ip_masquerade"
    assert document["networks"]["ingest"]["driver_opts"][masquerade] == "true"
    assert read_env(hub / "secrets" / "ingest.env")["AWS_SECRET_ACCESS_KEY"] == "very-secret"


# --- Kubernetes --------------------------------------------------------------------------


def manifests(folder: Path, **given: Any) -> list[dict[str, Any]]:
    pages = {"listen_web": {"port": 8091}}
    more = {"target": "kubernetes", "workers": {"test": 2}, **pages, **given}
    set_up_hub(HubHome(folder), NAME | more, own_servers={"subscribe": MQTT})
    files = [folder / "kubernetes" / one for one in ("kept.yaml", "hub.yaml")]
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


@pytest.mark.parametrize("version", ["1.27", "1.32", "1.37"])
def test_every_document_of_a_hub_is_one_of_kubernetes(hub: Path, version: str) -> None:
    documents = manifests(hub)
    secrets = yaml.safe_load_all((hub / "secrets" / "kubernetes.yaml").read_text())

    for one in [*documents, *secrets]:
        kubernetes_validate.validate(one, version, strict=True)


def test_policies_let_in_whom_the_networks_of_compose_let_in(hub: Path, tmp_path: Path) -> None:
    more = {"workers": {"test": 2}, "listen_web": {"port": 8091}}
    services = set_up(tmp_path / "compose", NAME | more, subscribe=MQTT)["services"]
    joined = {
        (caller.removesuffix("-test"), name)
        for name in ("database", "broker")
        for caller, one in services.items()
        if name in one["networks"] and caller != name
    }

    let_in = set(reached_in(manifests(hub)))

    assert let_in == joined | {("everybody", "ingest"), ("everybody", "web")}


def test_the_manifests_name_secrets_and_hold_none(hub: Path) -> None:
    documents = manifests(hub, scales=True)
    text = (hub / "kubernetes" / "hub.yaml").read_text()
    kept = list(yaml.safe_load_all((hub / "secrets" / "kubernetes.yaml").read_text()))

    texts = [value for one in kept for value in one["stringData"].values()]
    assert not [one for one in texts if len(one) > 12 and one in text]
    named = {found["name"] for one in _find(documents, "secretRef") for found in [one]}
    named |= {one["secretName"] for one in _find(documents, "secret")}
    made = {one["metadata"]["name"] for one in kept}
    assert named - {"worker-test"} <= made  # that one is made when ingest runs
    assert stat.S_IMODE((hub / "secrets" / "kubernetes.yaml").stat().st_mode) == 0o600


def _find(node: Any, key: str) -> list[Any]:
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = [node[key]] if isinstance(node, dict) and key in node else []
    return [*own, *(found for one in below for found in _find(one, key))]


def test_with_keda_the_queue_says_how_many_workers_there_are(hub: Path) -> None:
    documents = manifests(hub, scales=True)

    worker = next(one for one in documents if one["metadata"]["name"] == "worker-test")
    [scaled] = [one for one in documents if one["kind"] == "ScaledObject"]
    assert "replicas" not in [one for one in documents if one["kind"] == "Deployment"][-1]["spec"]
    assert scaled["spec"]["maxReplicaCount"] == 2
    queue = scaled["spec"]["triggers"][0]["metadata"]["listName"]
    assert queue == f"acoupi:acoupi.programs.test:{queue_of('acoupi.programs.test')}"
    assert worker["metadata"]["namespace"] == scaled["metadata"]["namespace"]


def test_workers_of_a_cluster_are_told_the_broker_that_there_is(hub: Path) -> None:
    given = NAME | {"target": "kubernetes", "workers": {"test": 2}}
    steps = hub / "kubernetes" / "README.md"

    set_up_hub(HubHome(hub), given, own_servers={})
    assert "--broker redis://broker:6379/0)" in steps.read_text()

    own = {"broker": "amqps://me:SECRET@rabbit.example.org:5671//"}
    set_up_hub(HubHome(hub), {}, own_servers=own)
    assert "--broker amqps://rabbit.example.org:5671//)" in steps.read_text()

    assert (
        "KEDA"
        in refusal(lambda: set_up_hub(HubHome(hub), {"scales": True}, own_servers={})).message
    )


@pytest.mark.parametrize(
    ("kind", "change", "problem"),
    [
        ("StatefulSet", {"hostNetwork": True}, "database has hostNetwork"),
        ("StatefulSet", {"volumes": [{"name": "x", "hostPath": {}}]}, "kind hostPath"),
        ("StatefulSet", {"securityContext": {}}, "database may run as root"),
    ],
)
def test_a_pod_of_a_hub_with_too_many_rights_is_refused(
    hub: Path, kind: str, change: dict[str, Any], problem: str
) -> None:
    documents = manifests(hub)
    assert hub_manifest_problems(documents) == []

    found = next(one for one in documents if one["kind"] == kind)
    found["spec"]["template"]["spec"] |= change

    assert problem in " ".join(hub_manifest_problems(documents))


def test_a_policy_that_lets_a_worker_to_the_database_is_refused(hub: Path) -> None:
    documents = manifests(hub)
    worker = {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "worker"}}}
    for one in documents:
        if one["metadata"]["name"] == "database-is-reached":
            one["spec"]["ingress"][0]["from"].append(worker)

    assert hub_manifest_problems(documents) == ["database is reached by worker"]
    closed = [one for one in documents if one["metadata"]["name"] != "nobody"]
    assert "no policy closes the namespace" in hub_manifest_problems(closed)


def test_a_hub_for_a_cluster_is_neither_started_nor_asked_here(hub: Path) -> None:
    manifests(hub)

    said = refusal(lambda: RunningHub(HubHome(hub), Told()))

    assert "kubectl" in str(said.help)


def refusal(act: Any) -> AcoupiError:
    with pytest.raises(AcoupiError) as raised:
        act()
    assert len(raised.value.lines()) == 3
    return raised.value


def test_the_home_of_a_sensor_and_a_folder_of_others_are_refused(hub: Path) -> None:
    (hub / "config").mkdir(parents=True)
    (hub / "config" / "program.json").write_text("{}")
    assert "home of a sensor" in str(refusal(lambda: set_up(hub)).why)

    other = hub / "photos"
    other.mkdir()
    (other / "oak.jpg").touch()
    assert "oak.jpg" in str(refusal(lambda: set_up(other)).why)
    assert [one.name for one in other.iterdir()] == ["oak.jpg"]


def test_an_edited_compose_file_is_not_written_over(hub: Path) -> None:
    set_up(hub)
    (hub / "docker-compose.yml").write_text("services: {}\n")

    assert "edited by hand" in str(refusal(lambda: set_up(hub, {})))


@pytest.mark.parametrize("text", ["hub.example.org", "0.0.0.0:0", "0.0.0.0:99999", ""])
def test_where_it_cannot_listen_is_refused(text: str) -> None:
    refusal(lambda: Listening.parse("--listen", text, 8090))


def test_a_certificate_with_another_key_is_refused(hub: Path, tmp_path: Path) -> None:
    files = own_certificate(tmp_path, ["hub.example.org"])
    others = own_certificate(tmp_path, ["hub.example.org"])
    write_files({tmp_path / "a.pem": files[Path("tls/hub.pem")]})
    write_files({tmp_path / "b.key": others[Path("tls/hub.key")]})

    given = NAME | {"certificate": tmp_path / "a.pem", "key": tmp_path / "b.key"}

    assert "another certificate" in str(refusal(lambda: set_up(hub, given)).why)


class Told(Engine):
    """An engine that answers what it was told, by the first words of a question."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers

    def ask(self, *words: str, timeout: float = 0) -> Answer:
        found = next((one for word, one in self.answers.items() if word in words), None)
        return found or Answer(0)


def test_no_engine_is_said_before_anything_else(hub: Path) -> None:
    set_up(hub)
    running = RunningHub(HubHome(hub), Told(version=Answer(127, err="docker is not installed")))

    assert "not installed" in str(refusal(running.check).why)


@pytest.mark.parametrize("option", ["listen", "listen_web", "listen_broker"])
def test_a_port_that_is_taken_is_named(hub: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        set_up(hub, NAME | {"listen": {"port": free_port()}} | {option: {"port": port}})

        said = refusal(RunningHub(HubHome(hub), Told()).check)

    assert str(port) in said.message
    assert f"--{option.replace('_', '-')} " in str(said.help)


def test_a_copy_of_a_hub_that_runs_is_not_started(hub: Path) -> None:
    set_up(hub)
    running = RunningHub(HubHome(hub), Told(working_dir=Answer(0, out="/srv/hub\n")))
    running.engine.ask = lambda *words, timeout=0: Answer(  # type: ignore[method-assign]
        0, out="/srv/hub\n" if "ps" in words and "--filter" in words else ""
    )

    said = refusal(running.check)

    assert isinstance(said, TargetError)
    assert "ACOUPI_HUB_HOME=/srv/hub acoupi hub down" in str(said.help)


def test_the_worst_container_of_a_service_is_its_state(hub: Path) -> None:
    set_up(hub, EVERYTHING)
    lines = [
        {"Service": "worker-test", "State": "running", "Health": "healthy"},
        {"Service": "worker-test", "State": "restarting", "Health": ""},
    ]
    answer = Answer(0, out="\n".join(map(json.dumps, lines)))

    states = {one.name: one for one in RunningHub(HubHome(hub), Told(ps=answer)).states()}

    worker = states["worker-test"]
    assert (worker.state, worker.well, worker.wanted) == ("restarting", 1, 2)
    assert not worker.is_well
    assert states["database"].state == "stopped"


# --- the sensor's side -------------------------------------------------------------------


@pytest.mark.parametrize("is_text", [False, True])
def test_a_sensor_trusts_the_authority_that_it_is_given_and_no_other(
    tmp_path: Path, is_text: bool
) -> None:
    write_files({tmp_path / path: one for path, one in
                 own_certificate(tmp_path, ["localhost"]).items()})  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls" / "hub.pem", tmp_path / "tls" / "hub.key")
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"https://localhost:{server.server_port}"
        file = tmp_path / "ca" / "ca.pem"
        sure = messenger_of(url, file.read_text() if is_text else str(file))
        unsure = messenger_of(url, another_authority(tmp_path) if is_text else None)
        message = data.Message(content="{}")
        try:
            with pytest.raises(MessageSendError, match="cannot reach"):
                unsure.send_message(message)
            assert sure.send_message(message).status is data.ResponseStatus.SUCCESS
        finally:
            sure.close()
            unsure.close()
            server.shutdown()
            thread.join(DEADLINE)


def messenger_of(url: str, authority: str | None) -> HubMessenger:
    return make_messenger(Hub(url=url, token=SecretStr("t"), ca_certificate=authority))


def another_authority(folder: Path) -> str:
    return own_certificate(folder / "other", ["localhost"])[PurePath("ca/ca.pem")].text


@pytest.mark.parametrize("spoilt", [lambda text: text.replace("\n", "\\n"),
                                    lambda text: text.replace("\n", " "),
                                    lambda text: f"made by hand:\r\n{text}"])  # fmt: skip
def test_a_certificate_that_lost_its_line_ends_in_a_variable_is_the_same(
    tmp_path: Path, spoilt: Callable[[str], str]
) -> None:
    pem = another_authority(tmp_path)

    hub = Hub(url="https://hub", token=SecretStr("t"), ca_certificate=spoilt(pem + pem))

    assert hub.ca_certificate == pem + pem


def test_what_is_no_certificate_is_refused_at_setup(tmp_path: Path) -> None:
    pem = another_authority(tmp_path)
    key = own_certificate(tmp_path, ["x"])[PurePath("tls/hub.key")].text
    for text in (pem[:300], pem.replace("M", "!"), key, pem.replace(pem[40:80], "")):
        with pytest.raises(ValueError, match="must be a certificate"):
            Hub(url="https://hub", token=SecretStr("t"), ca_certificate=text)


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_an_authority_without_tls_is_refused() -> None:
    with pytest.raises(ValueError, match="https"):
        Hub(url="http://hub", token=SecretStr("t"), ca_certificate="ca.pem")
