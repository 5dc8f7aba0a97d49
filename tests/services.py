"""What tests need of the machine: real servers (mosquitto, redis, RabbitMQ), ports, certificates.

All servers listen on the loopback, on ports that are free, keep their files
in a folder that the test gives, and end with their ``with`` block. Every wait
has a deadline. Servers that note or misbehave are in `tests.servers`.
"""

import itertools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
import pytest

DEADLINE = 90.0
"""Longest wait for something that comes soon, seconds: a busy machine may be very slow."""
LOWEST_PORT, HIGHEST_PORT = 10_000, 32_000
_numbers = itertools.count(os.getpid() * 997)


def require(reason: str, present: bool) -> None:
    """Skip the test where something it needs is absent; on CI fail instead.

    Parameters
    ----------
    reason
        What is missing and how to get it.
    present
        Whether it is there.
    """
    if present:
        return
    if os.environ.get("CI"):
        pytest.fail(f"needed on CI: {reason}")
    pytest.skip(reason)


def require_program(name: str) -> str:
    """Return the path of a program, or skip (fail on CI)."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    require(f"{name} is not installed: apt-get install {name}", path is not None)
    assert path is not None
    return path


def eventually(
    claim: Callable[[], object],
    what: str = "it",
    deadline: float = DEADLINE,
    more: Callable[[], str] = str,
) -> None:
    """Wait until the claim holds, or fail after `deadline` seconds and show `more`."""
    end = time.monotonic() + deadline
    while not claim():
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come true within {deadline} s\n{more()}".rstrip())
        time.sleep(0.02)


def free_port() -> int:
    """Return a port that nobody listens on, and that the kernel gives nobody by itself.

    One that it hands out (on Linux, from 32768) could be the end of somebody's
    connection before a server listens on it, and a client that finds nobody
    there can even be connected to itself. Each process of the tests counts
    from a place of its own.
    """
    while True:
        port = LOWEST_PORT + next(_numbers) % (HIGHEST_PORT - LOWEST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Return what a file has in each line so far; nothing if it is not there yet.

    The last line may not be whole while somebody writes it: it is for the next look.
    """
    with suppress(FileNotFoundError):
        text, _, _ = path.read_text().rpartition("\n")
        return [json.loads(line) for line in text.splitlines()]
    return []


# --- certificates ---


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, a server's certificate for localhost, a client's."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def server(self) -> Path:
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        return self.folder / "server.key"

    @property
    def client(self) -> Path:
        return self.folder / "client.pem"

    @property
    def client_key(self) -> Path:
        return self.folder / "client.key"

    def server_context(self, ask_client: bool = False) -> ssl.SSLContext:
        """Return what a server needs; with `ask_client` it admits only clients with our seal."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        if ask_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_authority(folder: Path, *addresses: str) -> Authority:
    """Make the certificates with openssl: valid for localhost and 127.0.0.1 for a day.

    Parameters
    ----------
    addresses
        Of this machine, for which they are valid, too.
    """
    require_program("openssl")
    folder.mkdir(parents=True, exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl(
        folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem",
        "-days", "1", "-subj", "/CN=acoupi test authority",
    )  # fmt: skip
    names = ",".join(["DNS:localhost", *(f"IP:{one}" for one in ("127.0.0.1", *addresses))])
    for name, subject in (("server", "/CN=localhost"), ("client", "/CN=sensor-1")):
        (folder / f"{name}.cnf").write_text(f"subjectAltName={names}\n")
        _openssl(
            folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr",
            "-subj", subject,
        )  # fmt: skip
        _openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-days", "1", "-extfile", f"{name}.cnf",
        )  # fmt: skip
    return Authority(folder)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=DEADLINE
    )


# --- real servers in processes of their own ---


class _Process:
    """A server process that is stopped by its own id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def _start(
        self,
        command: list[str],
        is_ready: Callable[[], bool],
        environ: dict[str, str] | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        """Start it as the leader of a process group of its own."""
        with (self.folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder,
                env=environ, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + deadline
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                pytest.fail(f"{command[0]} did not start: {self.log()[-2000:]}")
            time.sleep(0.01)

    @property
    def pid(self) -> int | None:
        """Its process id; None if it does not run."""
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """Let it end as it likes."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def log(self) -> str:
        """Return what it has said so far."""
        return (self.folder / "output.log").read_text(errors="replace")

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        os.killpg(self._process.pid, how)
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE)
        self._process = None


@dataclass
class Mosquitto(_Process):
    """A real MQTT broker.

    Parameters
    ----------
    folder
        Where its configuration and its log go.
    users
        Who is let in, with passwords; None: everyone; empty: nobody.
    acl
        Lines of an access list such as "topic write acoupi/#"; None: all is allowed.
    tls
        Speak TLS with the certificates of this authority.
    ask_client
        Admit only clients with a certificate of it.
    transport
        "tcp", "websockets" or "unix".
    options
        Further lines of configuration.
    """

    folder: Path
    users: dict[str, str] | None = None
    acl: str | None = None
    tls: Authority | None = None
    ask_client: bool = False
    transport: str = "tcp"
    options: str = ""
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        super().__init__(self.folder)

    @property
    def host(self) -> str:
        """What `MQTTMessenger` wants as host."""
        return str(self.folder / "socket") if self.transport == "unix" else "localhost"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, or start it again on the same port."""
        program = require_program("mosquitto")
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join([*self._lines(), self.options, ""]))
        self._start([program, "-c", str(config), "-v"], self._is_listening)

    def reload(self, users: dict[str, str] | None = None) -> None:
        """Let it read its files again, after writing who is let in from now on."""
        if users is not None:
            self._passwords(users)
        assert self.pid
        os.kill(self.pid, signal.SIGHUP)

    def _lines(self) -> Iterator[str]:
        if self.transport != "tcp":
            # Also beside websockets: mosquitto 2.0.11 does not count those as listening.
            yield f"listener 0 {self.folder / 'socket'}"
        if self.transport != "unix":
            yield f"listener {self.port} 127.0.0.1"
        if self.transport == "websockets":
            yield "protocol websockets"
        if os.geteuid() == 0:
            yield "user root"  # else it drops to a user that cannot read the test's files
        yield f"allow_anonymous {'true' if self.users is None else 'false'}"
        if self.users is not None:
            yield f"password_file {self._passwords(self.users)}"
        if self.acl is not None:
            (self.folder / "acl").write_text(self.acl + "\n")
            yield f"acl_file {self.folder / 'acl'}"
        if self.tls:
            yield f"cafile {self.tls.ca}"
            yield f"certfile {self.tls.server}"
            yield f"keyfile {self.tls.server_key}"
            yield f"require_certificate {'true' if self.ask_client else 'false'}"

    def _passwords(self, users: dict[str, str]) -> Path:
        path = self.folder / "passwords"
        path.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
        path.chmod(0o600)
        if users:
            subprocess.run(
                [require_program("mosquitto_passwd"), "-U", str(path)],
                check=True, capture_output=True, timeout=DEADLINE,
            )  # fmt: skip
        return path

    def _is_listening(self) -> bool:
        kind = socket.AF_UNIX if self.transport == "unix" else socket.AF_INET
        address = self.host if self.transport == "unix" else ("127.0.0.1", self.port)
        with socket.socket(kind) as probe:
            return probe.connect_ex(address) == 0


class Listener:
    """A client of a broker that notes what is published.

    Parameters
    ----------
    broker
        Where to listen; without TLS.
    user
        "user:password"; None: nobody.
    topic
        What to listen to.
    """

    def __init__(self, broker: Mosquitto, user: str | None = None, topic: str = "#") -> None:
        self.messages: list[tuple[str, bytes]] = []
        """Topic and content of each, in order."""
        self.properties: list[Any] = []
        self._broker = broker
        self._topic = topic
        self._is_subscribed = threading.Event()
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,  # type: ignore[attr-defined]
            protocol=mqtt.MQTTv5,
            transport=broker.transport,  # type: ignore[arg-type]
        )
        if user:
            self._client.username_pw_set(*user.split(":"))
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self._is_subscribed.set()
        self._client.on_message = self._note

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.port)
        self._client.loop_start()
        assert self._is_subscribed.wait(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, *_: Any) -> None:
        self._client.subscribe(self._topic, qos=1)

    def _note(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.properties.append(message.properties)
        self.messages.append((message.topic, bytes(message.payload)))

    def on(self, topic: str) -> list[bytes]:
        """Return what came on one topic so far."""
        return [content for at, content in list(self.messages) if at == topic]


class Redis(_Process):
    """A real redis that keeps nothing, on a loopback port or on a unix socket.

    Parameters
    ----------
    folder
        Where its files go.
    unix
        Listen on a socket in the folder instead of a port.
    tls
        Speak TLS on the port, with the certificates of this authority.
    """

    def __init__(self, folder: Path, unix: bool = False, tls: Authority | None = None) -> None:
        super().__init__(folder)
        self.unix = unix
        self.tls = tls
        self.port = 0 if unix else free_port()

    @property
    def socket_path(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """What Celery wants as ``broker_url``."""
        if self.unix:
            return f"redis+socket://{self.socket_path}"
        return f"redis{'s' if self.tls else ''}://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, or start it again in the same place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        port = ["--port", str(self.port)]
        if self.tls:
            port = [
                "--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no",
                "--tls-cert-file", str(self.tls.server), "--tls-key-file", str(self.tls.server_key),
                "--tls-ca-cert-file", str(self.tls.ca),
            ]  # fmt: skip
        place = ["--unixsocket", str(self.socket_path)] if self.unix else ["--bind", "127.0.0.1"]
        self._start(
            [
                require_program("redis-server"), *port, *place,
                "--dir", str(self.folder), "--save", "", "--appendonly", "no",
            ],
            self._is_ready,
        )  # fmt: skip

    def _is_ready(self) -> bool:
        kind = socket.AF_UNIX if self.unix else socket.AF_INET
        address = str(self.socket_path) if self.unix else ("127.0.0.1", self.port)
        with socket.socket(kind) as probe:
            probe.settimeout(1)
            try:
                probe.connect(address)
                if self.tls:
                    return True
                probe.sendall(b"PING\r\n")
                return probe.recv(7) == b"+PONG\r\n"
            except OSError:
                return False


class RabbitMQ:
    """A real RabbitMQ as Debian has it, as the user that runs the tests, without systemd.

    It has one login, which may administer it from anywhere, as `guest` may not.

    Its port mapper (epmd) is started beside it, lest it leaves one of its own behind.

    Parameters
    ----------
    folder
        Where its files go.
    has_management
        Whether its users can be managed over HTTP.
    tls
        Speak nothing but TLS, with the certificates of this authority.
    host
        An address of this machine to listen on.
    """

    USER, PASSWORD = "operator", "of-a-test"

    def __init__(
        self,
        folder: Path,
        *,
        has_management: bool = False,
        tls: Authority | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder, self.tls, self.host = folder, tls, host
        self.port = free_port()
        self.management_port = free_port() if has_management else None
        self._mapper = _Process(folder / "epmd")
        self._server = _Process(folder / "server")
        self._mapper_port, self._node_port = free_port(), free_port()

    @property
    def url(self) -> str:
        """What Celery wants as ``broker_url``; with TLS, it says whom to trust."""
        trusted = f"?ssl_ca_certs={self.tls.ca}" if self.tls else ""
        scheme = "amqps" if self.tls else "amqp"
        return f"{scheme}://{self.USER}:{self.PASSWORD}@{self.host}:{self.port}//{trusted}"

    @property
    def management(self) -> str:
        """Where its users are managed."""
        return f"http{'s' if self.tls else ''}://{self.host}:{self.management_port}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()  # the mapper may run
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, or start it again with what it kept."""
        program = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        require("RabbitMQ is not installed: apt-get install rabbitmq-server", program.exists())
        for one in (self._mapper, self._server):
            one.folder.mkdir(parents=True, exist_ok=True)
        files = self._server.folder
        (files / "rabbitmq.conf").write_text("".join(f"{one}\n" for one in self._options()))
        plugins = "rabbitmq_management" if self.management_port else ""
        (files / "enabled_plugins").write_text(f"[{plugins}].\n")
        mapper = [require_program("epmd"), "-address", "127.0.0.1", "-port", str(self._mapper_port)]
        self._mapper._start(mapper, lambda: _answers(self._mapper_port))
        self._server._start(
            [str(program)],
            lambda: all(_answers(one, self.host) for one in (self.port, self.management_port)),
            self._environ(files),
            deadline=240,  # its start takes more than any other, and a busy machine five times that
        )

    def _options(self) -> Iterator[str]:
        yield f"default_user = {self.USER}"
        yield f"default_pass = {self.PASSWORD}"
        yield "vm_memory_high_watermark.absolute = 256MB"
        yield "disk_free_limit.absolute = 50MB"
        kind = "ssl" if self.tls else "tcp"
        if self.tls:
            yield "listeners.tcp = none"
            yield from self._certificates("ssl_options")
        yield f"listeners.{kind}.1 = {self.host}:{self.port}"
        if self.management_port:
            yield f"management.{kind}.port = {self.management_port}"
            yield f"management.{kind}.ip = {self.host}"
            if self.tls:
                yield from self._certificates("management.ssl")

    def _certificates(self, section: str) -> Iterator[str]:
        assert self.tls is not None
        yield f"{section}.cacertfile = {self.tls.ca}"
        yield f"{section}.certfile = {self.tls.server}"
        yield f"{section}.keyfile = {self.tls.server_key}"

    def _environ(self, files: Path) -> dict[str, str]:
        return {
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(files),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(files / "mnesia"),
            "RABBITMQ_LOG_BASE": str(files / "log"),
            "RABBITMQ_CONFIG_FILE": str(files / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(files / "enabled_plugins"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"
            ),
        }

    def stop(self) -> None:
        """Let it end as it likes."""
        self._server.stop()
        self._mapper.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._server.kill()
        self._mapper.kill()


def _answers(port: int | None, host: str = "127.0.0.1") -> bool:
    """Return whether somebody listens on a port; also if there is none to listen on."""
    with socket.socket() as probe:
        return port is None or probe.connect_ex((host, port)) == 0
