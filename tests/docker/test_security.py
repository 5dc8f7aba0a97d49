"""What the containers cannot do, tried from inside each."""

import ast
import errno
import gzip
import json
import platform
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.bundles import (
    EVERY,
    QUICK,
    SECRETS,
    SERVICES,
    SOUND,
    TOKEN,
    WITH_SERVERS,
    Bundle,
    device_nodes,
    docker,
)
from tests.services import require

OFFLINE = ("redis", "recording", "detection", "beat")
"""Services that talk to nothing but the broker."""
OPEN = """
import os, errno
try:
    os.close(os.open("/dev/snd/pcmC0D0c", os.O_RDWR | os.O_NONBLOCK))
    print("opened")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
MAKE_AND_OPEN = """
import os, errno, stat
try:
    os.mknod("/tmp/mine", stat.S_IFCHR | 0o666, os.makedev(116, 24))
    os.close(os.open("/tmp/mine", os.O_RDWR | os.O_NONBLOCK))
    print("opened")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
RIGHTS = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
    "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
DEFAULT_RIGHTS = [word for right in RIGHTS for word in ("--cap-add", right)]
"""What Docker gives root when nobody says anything."""
WRITE = """
import errno, sys
try:
    with open(sys.argv[1], "a") as file:
        file.write(" ")
    print("written")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
BROKER = """
import os
from urllib.parse import urlsplit
import redis
client = redis.Redis(
    unix_socket_path="/run/broker/redis.sock",
    username=os.environ["ACOUPI_BROKER_USER"],
    password=open(os.environ["ACOUPI_BROKER_PASSWORD_FILE"]).read().strip(),
)
def try_to(*command):
    try:
        return str(client.execute_command(*command))
    except redis.RedisError as error:
        return type(error).__name__
"""


def process(bundle: Bundle, service: str) -> dict[str, str]:
    """What the kernel says of the first process of a container."""
    text = bundle.run_in(service, "cat", "/proc/1/status").stdout
    return {key: value.strip() for key, value in (line.split(":", 1) for line in text.splitlines())}


@pytest.mark.parametrize("service", EVERY)
def test_it_is_not_root_and_has_no_rights(bundle: Bundle, service: str) -> None:
    status = process(bundle, service)

    assert "0" not in status["Uid"].split()
    assert "0" not in status["Gid"].split()
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


@pytest.mark.parametrize("service", EVERY)
def test_its_own_files_are_read_only(bundle: Bundle, service: str) -> None:
    for path in ("/usr/bin/mine", "/opt/acoupi/mine", "/etc/mine", "/mine"):
        answer = bundle.run_in(service, "python", "-c", WRITE, path, user="0").stdout.strip()

        assert answer == "EROFS"


@pytest.mark.parametrize("service", SERVICES)
def test_it_cannot_change_what_it_is_to_do(bundle: Bundle, service: str) -> None:
    names = ("app.py", ".env", "docker-compose.yml", "config/program.json", "config/mine")
    before = {name: content(bundle.home / name) for name in names}

    for name in names:
        for user in (None, "0"):
            bundle.run_in(service, "python", "-c", WRITE, str(bundle.home / name), user=user)
    answer = bundle.run_in(
        service, "python", "-c", WRITE, str(bundle.home / "config" / "program.json"), user="0"
    )

    assert {name: content(bundle.home / name) for name in names} == before
    assert answer.stdout.startswith("E"), answer  # the name of an error: it was tried


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("service", OFFLINE)
def test_it_has_no_network(bundle: Bundle, service: str) -> None:
    interfaces = bundle.run_in(service, "ls", "/sys/class/net").stdout.split()

    assert interfaces == ["lo"]


def test_only_who_sends_messages_has_a_network(bundle: Bundle) -> None:
    assert "eth0" in bundle.run_in("default", "ls", "/sys/class/net").stdout.split()


@pytest.mark.parametrize("service", EVERY)
def test_nothing_of_the_host_is_given_to_it(bundle: Bundle, service: str) -> None:
    host = bundle.inspect(service)["HostConfig"]

    assert host["Privileged"] is False
    assert host["PidMode"] == ""
    assert host["IpcMode"] != "host"
    assert host["NetworkMode"] != "host"
    assert not any("docker.sock" in str(mount) for mount in bundle.inspect(service)["Mounts"])


@pytest.mark.parametrize("service", ["redis", "recording", "detection", "beat"])
def test_no_other_service_sees_a_secret(bundle: Bundle, service: str) -> None:
    assert TOKEN not in json.dumps(bundle.inspect(service))


@pytest.mark.parametrize("service", OFFLINE)
def test_what_needs_no_secret_finds_none_also_after_another_setup(
    bundle: Bundle, service: str
) -> None:
    link = bundle.home / "config" / "secrets.env"
    search = (
        "grep",
        "-rsl",
        TOKEN,
        str(bundle.home),
        "/run",
        "/proc/1/environ",
        "/proc/self/environ",
    )

    for user in (None, "0"):
        assert bundle.run_in(service, "cat", str(link), user=user).returncode != 0
        assert bundle.run_in(service, *search, user=user).stdout == ""
    bundle.set_up(*QUICK, *WITH_SERVERS, environ=SECRETS)
    assert TOKEN in link.read_text()
    assert bundle.run_in(service, *search, user="0").stdout == ""


def test_who_sends_messages_reads_the_secrets_also_new_ones(bundle: Bundle) -> None:
    link = bundle.home / "config" / "secrets.env"

    assert TOKEN in bundle.run_in("default", "cat", str(link)).stdout
    bundle.set_up(*QUICK, *WITH_SERVERS, environ=SECRETS)
    assert TOKEN in bundle.run_in("default", "cat", str(link)).stdout


def test_the_bundle_names_no_secret(bundle: Bundle) -> None:
    for name in ("docker-compose.yml", ".env"):
        assert TOKEN not in (bundle.home / name).read_text()
    assert TOKEN not in bundle.compose("config").stdout


@pytest.mark.parametrize("service", ["default", "detection"])
def test_a_worker_can_neither_order_recordings_nor_rule_the_broker(
    bundle: Bundle, service: str
) -> None:
    refused = [
        ("LPUSH", "recording", "{}"),
        ("LRANGE", "recording", "0", "1"),
        ("DEL", "recording"),
        ("SADD", "celery", "x"),
        ("EVAL", "return 1", "0"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
        ("KEYS", "*"),
        ("MODULE", "LIST"),
        ("HGETALL", "unacked:recording"),
    ]
    own = {"default": "celery"}.get(service, service)
    code = BROKER + f"for one in {refused!r}: print(try_to(*one))\nprint(try_to('LLEN', {own!r}))"

    *answers, allowed = bundle.python_in(service, code).splitlines()

    assert dict(zip(refused, answers, strict=True)) == dict.fromkeys(refused, "NoPermissionError")
    assert allowed.isdigit()


def test_nobody_gets_in_without_a_password(bundle: Bundle) -> None:
    code = "import redis\nprint(redis.Redis(unix_socket_path='/run/broker/redis.sock').ping())"

    assert "AuthenticationError" in bundle.python_in("default", code)


def test_the_password_of_another_service_is_not_to_be_seen(bundle: Bundle) -> None:
    names = ("recording", "beat", "users.acl")

    for name in names:
        path = bundle.home / "secrets" / "broker" / name
        assert path.exists()
        assert bundle.run_in("default", "cat", str(path)).returncode != 0


@pytest.fixture
def card(bundle: Bundle) -> Iterator[None]:
    """The nodes of a sound card, with nobody behind them."""
    is_free = not SOUND.exists() or not any(SOUND.iterdir())
    require(f"there is a sound card, or no right to make one in {SOUND}", is_free)
    settings = (bundle.home / ".env").read_text()
    group = next(
        int(line.split("=")[1].strip("\"'"))
        for line in settings.splitlines()
        if line.startswith("ACOUPI_AUDIO_GID=")
    )
    try:
        with device_nodes(group):
            yield
    except PermissionError:
        require("making device nodes needs root", False)


def test_the_kernel_lets_nobody_but_the_recorder_reach_the_card(card: None, bundle: Bundle) -> None:
    with_card = ("--volume", f"{SOUND}:{SOUND}:ro")
    recorder = bundle.run_in("recording", "python", "-c", OPEN).stdout.strip()
    answers = {}
    for service in ("detection", "default", "beat", "redis"):
        for user, rights in (((), ()), (("--user", "0"), DEFAULT_RIGHTS)):
            run = ("run", "--rm", "--no-deps", *with_card, *user, *rights)
            done = bundle.compose(*run, "--entrypoint", "python", service, "-c", OPEN, check=False)
            answers[service, bool(user)] = done.stdout.strip() or done.stderr[-300:]

    assert recorder == errno.errorcode[errno.ENXIO]
    for (service, is_root), answer in answers.items():
        # Whoever is not in the group is refused by the file already.
        assert answer in ({"EPERM"} if is_root else {"EPERM", "EACCES"}), (service, is_root)


def test_root_cannot_make_a_card_of_his_own_in_another_container(image: str) -> None:
    done = docker(
        "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "python",
        image, "-c", MAKE_AND_OPEN,
    )  # fmt: skip

    assert done.stdout.strip() == errno.errorcode[errno.EPERM]


def test_the_image_has_no_tools_to_build_but_its_byte_code_and_the_time_zones(image: str) -> None:
    code = (
        "import pathlib, shutil, acoupi\n"
        "print([t for t in ('gcc', 'cc', 'make', 'pip', 'pip3', 'git') if shutil.which(t)])\n"
        "root = pathlib.Path(acoupi.__file__).parents[1]\n"
        "sources = [p for p in root.rglob('*.py') if 'site-packages' in str(p)]\n"
        "compiled = list(root.rglob('*.pyc'))\n"
        "print(len(compiled) / len(sources) > 0.95)\n"
        "print(all(pathlib.Path('/usr/share/acoupi', n).stat().st_size > 1000\n"
        "    for n in ('sbom.cdx.json', 'debian-packages.txt')))\n"
        "from acoupi.devices.timezones import timezone_at\n"
        "print(timezone_at((52.5, 13.4)))\n"
    )

    answer = docker("run", "--rm", "--network", "none", "--user", "4321:4321", "--read-only",
                    image, "python", "-c", code).stdout.split("\n")[:4]  # fmt: skip

    assert answer == ["[]", "True", "True", "Europe/Berlin"]


KERNEL = """
import ctypes, errno, socket, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
def tried(make):
    try:
        make()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "made"
def call(number):
    ctypes.set_errno(0)
    libc.syscall(number, 0, 0, 0, 0, 0)
    return errno.errorcode.get(ctypes.get_errno(), "done")
families = {name: tried(lambda: socket.socket(number, kind)) for name, number, kind in (
    ("UNIX", 1, 1), ("INET", 2, 1), ("VSOCK", 40, 1), ("ALG", 38, 5), ("BLUETOOTH", 31, 1))}
calls = {"io_uring_setup": 425, "keyctl": 250, "ptrace": 101, "userfaultfd": 323, "unshare": 272}
calls = {name: call(number) for name, number in calls.items()} if libc else {}
assert libc.adjtimex(ctypes.create_string_buffer(208)) >= 0, "the clock cannot be asked"
threading.Thread(target=print).start()
print(families, calls, subprocess.run(["true"]).returncode, sep="\\n")
"""


@pytest.mark.parametrize("service", SERVICES)
def test_the_kernel_is_asked_for_what_services_need_and_no_more(
    bundle: Bundle, service: str
) -> None:
    require("the numbers are those of x86-64", platform.machine() == "x86_64")
    said = bundle.python_in(service, KERNEL).splitlines()[-3:]

    families = ast.literal_eval(said[0])
    assert families.pop("UNIX") == families.pop("INET") == "made"
    assert set(families.values()) == {"EPERM"}, families
    assert set(ast.literal_eval(said[1]).values()) == {"EPERM"}, said[1]
    assert said[2] == "0"


def test_no_file_of_the_image_gives_another_user_or_group(image: str) -> None:
    find = ("find", "/", "-xdev", "-type", "f", "-perm", "/6000")
    done = docker("run", "--rm", "--network=none", "--user=0", "--entrypoint=", image, *find)

    assert done.stdout == ""


def test_the_image_is_small_and_our_code_a_small_part_of_it(image: str, tmp_path: Path) -> None:
    base = docker("image", "inspect", "--format", "{{.Size}}", "debian:bookworm-slim").stdout
    size = docker("image", "inspect", "--format", "{{.Size}}", image).stdout
    fetched = len(gzip.compress(last_layer(image, tmp_path)))

    assert int(size) - int(base) <= 280_000_000
    assert fetched <= 4_000_000


def last_layer(image: str, folder: Path) -> bytes:
    """The layer of our own code, as it would be sent before it is compressed."""
    docker("save", "--output", str(folder / "image.tar"), image)
    with tarfile.open(folder / "image.tar") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        layers = [name for one in json.load(manifest) for name in one["Layers"]]
        contents = [archive.extractfile(name) for name in reversed(layers)]
        # An empty one is of the working folder.
        sizes = [one.read() for one in contents[:2] if one is not None]
    return max(sizes[:2], key=len) if len(sizes[0]) < 4096 else sizes[0]


def test_the_bake_file_is_valid() -> None:
    root = Path(__file__).parents[2]

    done = docker("buildx", "bake", "-f", "images/docker-bake.hcl", "--print", cwd=root)

    platforms = json.loads(done.stdout)["target"]["sensor"]["platforms"]
    assert platforms == ["linux/amd64", "linux/arm64"]
