"""The preflight: what each kind of machine is told before anything is started."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import acoupi
from acoupi.bundles.engine import Answer, Host, Storage, compose_command, find_storage
from acoupi.bundles.preflight import CHECKS, Result, failure, run_preflight
from acoupi.bundles.preflight.engine import version_of
from acoupi.bundles.preflight.machine_state import Bundle
from acoupi.bundles.rendering import Manifest
from acoupi.stack.stack import Service
from acoupi.system import Sensor, Settings
from acoupi.writing import RenderedFile

IMAGE = "acoupi/sensor:dev"
REFUSED = (
    "Got permission denied while trying to connect to the Docker daemon socket at "
    "unix:///var/run/docker.sock: connect: permission denied"
)
UNREACHABLE = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
    "Is the docker daemon running?"
)
NO_COMPOSE = "docker: 'compose' is not a docker command.\nSee 'docker --help'"


def services(**recording: Any) -> dict[str, Any]:
    plain = {
        "image": IMAGE,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "user": "1000:1000",
        "restart": "unless-stopped",
    }
    recorder = {"device_cgroup_rules": ["c 116:* rw"], "mem_limit": "500000000"}
    return {
        "recording": plain | recorder | recording,
        "default": plain | {"mem_limit": "300000000"},
        "redis": plain | {"network_mode": "none"},
    }


@dataclass
class FakeHost:
    """A machine on which all is well, unless a test says otherwise."""

    info: dict[str, Any] = field(
        default_factory=lambda: {
            "ServerVersion": "24.0.7",
            "DockerRootDir": "/var/lib/docker",
            "MemoryLimit": True,
            "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
            "Name": "pi",
        }
    )
    answers: dict[str, Answer] = field(default_factory=dict)
    """By the first words of a docker command."""
    services: dict[str, Any] = field(default_factory=services)
    labels: dict[str, str] = field(
        default_factory=lambda: {"org.opencontainers.image.version": acoupi.__version__}
    )
    free: int = 50_000_000_000
    memory: int = 4_000_000_000
    writable: bool = True
    in_container: bool = False
    missing: tuple[str, ...] = ()
    file_system: Storage | None = field(
        default_factory=lambda: Storage("ext4", Path("/"), ("rw", "relatime"))
    )
    microphones: list[str] = field(default_factory=lambda: ["UltraMic"])
    synchronised: bool | None = True
    busy_ports: tuple[int, ...] = ()
    asked: list[str] = field(default_factory=list)

    def docker(self, *args: str, timeout: float = 0) -> Answer:
        del timeout
        line = " ".join(args)
        self.asked.append(line)
        for start, answer in self.answers.items():
            if line.startswith(start):
                return answer
        usual = {
            "info": json.dumps(self.info),
            "compose version": "2.26.1-4\n",
            "compose ls": "[]",
            "buildx version": "github.com/docker/buildx 0.13.1 abc",
            "image inspect": json.dumps({"Config": {"Labels": self.labels}}),
        }
        return Answer(0, next((out for start, out in usual.items() if line.startswith(start)), ""))

    def compose(self, settings: Settings, *args: str, override: bool = True) -> Answer:
        del settings, override
        self.asked.append(" ".join(("compose", *args)))
        wrong = self.answers.get("config")
        return wrong or Answer(0, json.dumps({"name": "acoupi", "services": self.services}))

    def is_container(self) -> bool:
        return self.in_container

    def free_bytes(self, path: Path) -> int | None:
        return self.free

    def memory_bytes(self) -> int:
        return self.memory

    def can_write(self, path: Path) -> bool:
        return self.writable

    def is_folder(self, path: Path) -> bool:
        return str(path) not in self.missing

    def storage(self, path: Path) -> Storage | None:
        return self.file_system

    def cards(self) -> list[str]:
        return self.microphones

    def is_clock_synchronised(self) -> bool | None:
        return self.synchronised

    def is_port_free(self, address: str, port: int, protocol: str) -> bool:
        return port not in self.busy_ports


@pytest.fixture
def sensor(settings: Settings) -> Settings:
    """A home that was set up for containers."""
    compose = RenderedFile("services: {}\n")
    manifest = Manifest(
        version=acoupi.__version__,
        target="compose",
        program="default",
        files={"docker-compose.yml": compose.digest},
        services=(Service("recording", "recorder", ()), Service("default", "worker", ())),
    )
    files = {
        settings.home / "docker-compose.yml": compose,
        settings.program_name_file: RenderedFile("default\n"),
        settings.program_config_file: RenderedFile("{}"),
        settings.manifest_file: manifest.to_file(),
    }
    for path, file in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    return settings


def found(settings: Settings, host: FakeHost) -> dict[str, Result]:
    return {
        result.name: result
        for result in run_preflight(settings, host, Sensor.at(settings).manifest)
    }


def only_failure(settings: Settings, host: FakeHost) -> list[str]:
    """The three lines of the one thing that is wrong."""
    failed = [
        one
        for one in run_preflight(settings, host, Sensor.at(settings).manifest)
        if one.outcome == "fail"
    ]
    assert len(failed) == 1, failed
    lines = failed[0].error().lines()
    assert [line.split(":")[0].strip() for line in lines] == ["Error", "Why", "Try"]
    assert all("\n" not in line for line in lines)
    return lines


def test_a_machine_on_which_all_is_well_passes_every_check_that_concerns_it(
    sensor: Settings,
) -> None:
    results = found(sensor, FakeHost())

    assert {one.outcome for one in results.values()} == {"ok"}
    # The engine is no snap's, no port is opened, and containers have rights of their own.
    assert {check.name for check in CHECKS} - set(results) == {
        *("engine from a snap", "ports", "rights of services"),
    }


def test_before_a_setup_the_machine_alone_is_looked_at(settings: Settings) -> None:
    host = FakeHost()

    results = found(settings, host)

    assert results["engine"].outcome == "ok"
    assert "bundle" not in results
    assert not settings.home.exists()


def test_without_containers_nothing_of_docker_is_asked(settings: Settings) -> None:
    host = FakeHost(answers={"": Answer(127)})

    results = list(run_preflight(settings, host, Sensor.at(settings).manifest, containers=False))

    assert host.asked == []
    assert {one.outcome for one in results} == {"ok"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("process", "what this user may"),
        ("systemd", "files, devices and the network are not"),
        ("systemd-system", "that it needs"),
    ],
)
def test_what_keeps_services_apart_without_containers_is_said(
    sensor: Settings, target: str, said: str
) -> None:
    manifest = replace(Sensor.at(sensor).manifest or pytest.fail("no manifest"), target=target)

    results = {
        one.name: one for one in run_preflight(sensor, FakeHost(), manifest, containers=False)
    }

    assert said in results["rights of services"].message


def test_a_container_is_not_asked_for_docker(sensor: Settings) -> None:
    host = FakeHost(in_container=True, writable=False)

    results = list(run_preflight(sensor, host, Sensor.at(sensor).manifest))

    assert host.asked == []
    assert {one.outcome for one in results} == {"ok"}
    assert [one.name for one in results] == [
        *("container", "space to record", "clock", "sound device")
    ]


# ---- what bad input gets


ENGINES = {
    "no docker": (Answer(127, err="docker is not installed"), "not installed", "get.docker.com"),
    "no engine": (Answer(1, err=UNREACHABLE), "Cannot connect", "systemctl start docker"),
    "an engine of a newer command": (
        Answer(0, out=json.dumps({"ServerErrors": [UNREACHABLE]})),
        "Cannot connect",
        "systemctl start docker",
    ),
    "no permission": (Answer(1, err=REFUSED), "permission denied", "usermod -aG docker"),
    "no answer": (Answer(124, err="no answer within 30 s"), "no answer", "restart docker"),
}


@pytest.mark.parametrize("case", ENGINES)
def test_an_engine_that_cannot_be_used_is_told_by_its_cause(sensor: Settings, case: str) -> None:
    answer, why, what_to_do = ENGINES[case]
    host = FakeHost(answers={"info": answer})

    lines = only_failure(sensor, host)

    assert "cannot reach the Docker engine" in lines[0]
    assert why in lines[1]
    assert what_to_do in lines[2]
    assert len(host.asked) == 1, "nothing else is asked of an engine that is not there"


def test_an_engine_that_is_too_old_is_refused(sensor: Settings) -> None:
    lines = only_failure(sensor, FakeHost(info={"ServerVersion": "19.03.15"}))

    assert "19.03.15 is too old" in lines[0]
    assert "20.10" in lines[1]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(1, err=NO_COMPOSE), "no Compose v2"),
        (Answer(125, err="unknown shorthand flag: 's' in --short"), "no Compose v2"),
        (Answer(0, out="v2.17.3\n"), "2.17.3"),
    ],
)
def test_a_machine_without_a_compose_that_will_do_is_refused(
    sensor: Settings, answer: Answer, said: str
) -> None:
    lines = only_failure(sensor, FakeHost(answers={"compose version": answer}))

    assert "Docker Compose" in lines[0]
    assert said in lines[1]


def test_no_space_for_the_images_is_a_failure_with_both_figures(sensor: Settings) -> None:
    host = FakeHost(free=900_000_000, answers={"image inspect": Answer(1, err="No such image")})

    lines = only_failure(sensor, host)

    assert "no space for the images" in lines[0]
    assert "900 MB free" in lines[1]
    assert "2.0 GB" in lines[1]


def test_with_the_image_there_little_space_will_do(sensor: Settings) -> None:
    results = found(sensor, FakeHost(free=900_000_000))

    assert results["disk space"].outcome == "ok"
    assert results["space to record"].outcome == "warn"


def test_an_image_that_is_absent_is_no_failure_because_up_makes_it(sensor: Settings) -> None:
    results = found(sensor, FakeHost(answers={"image inspect": Answer(1, err="No such image")}))

    assert results["image"].outcome == "warn"
    assert "program" not in results


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"org.opencontainers.image.version": "0.9.1"}, "holds acoupi 0.9.1"),
        ({}, "no label"),
    ],
)
def test_an_image_of_another_version_is_refused(
    sensor: Settings, labels: dict[str, str], said: str
) -> None:
    lines = only_failure(sensor, FakeHost(labels=labels))

    assert IMAGE in lines[0]
    assert said in lines[1]


def test_a_bundle_of_another_version_is_made_anew(sensor: Settings) -> None:
    manifest = Manifest.read(sensor.manifest_file)
    assert manifest is not None
    sensor.manifest_file.write_text(replace(manifest, version="0.9.1").to_file().text)

    lines = only_failure(sensor, FakeHost())

    assert "was made by acoupi 0.9.1" in lines[0]
    assert lines[2] == "  Try: acoupi compose build && acoupi compose render"


def test_a_program_that_is_missing_from_the_image_is_named(sensor: Settings) -> None:
    answer = Answer(1, err='cannot find the program "default". no module has that name.\n')

    lines = only_failure(sensor, FakeHost(answers={"run": answer}))

    assert 'the program "default" cannot be run by the image' in lines[0]
    assert "no module has that name" in lines[1]
    assert "--package" in lines[2]


def test_an_engine_that_does_not_see_the_home_is_named(sensor: Settings) -> None:
    said = 'docker: Error response from daemon: invalid mount config for type "bind": '
    answer = Answer(125, err=f"{said}bind source path does not exist: {sensor.home}/config/name.\n")

    lines = only_failure(sensor, FakeHost(answers={"run": answer}))

    assert f'the Docker engine cannot mount "{sensor.home}"' in lines[0]
    assert "docker context ls" in lines[2]


def test_the_container_that_looks_at_the_program_can_do_nothing_else(sensor: Settings) -> None:
    host = FakeHost()

    found(sensor, host)

    command = next(line for line in host.asked if line.startswith("run "))
    for option in ("--rm", "--network=none", "--read-only", "--cap-drop=ALL"):
        assert option in command.split()


def test_a_project_name_in_use_by_another_home_is_refused(sensor: Settings) -> None:
    other = [{"Name": "acoupi", "Status": "running(5)", "ConfigFiles": "/other/docker-compose.yml"}]
    host = FakeHost(answers={"compose ls": Answer(0, json.dumps(other))})

    lines = only_failure(sensor, host)

    assert '"acoupi" is in use' in lines[0]
    assert "/other/docker-compose.yml" in lines[1]
    assert "docker compose -f /other/docker-compose.yml down" in lines[2]


def test_the_bundle_of_this_home_is_not_in_its_own_way(sensor: Settings) -> None:
    files = f"{sensor.home}/docker-compose.yml,{sensor.home}/docker-compose.override.yml"
    own = [{"Name": "acoupi", "Status": "running(5)", "ConfigFiles": files}]
    ports = [{"published": "1883", "protocol": "tcp", "host_ip": "127.0.0.1"}]
    host = FakeHost(
        answers={"compose ls": Answer(0, json.dumps(own))},
        services=services(ports=ports),
        busy_ports=(1883,),
    )

    results = found(sensor, host)

    assert results["project name"].message == "acoupi runs already"
    assert "ports" not in results, "the port is held by the bundle itself"


def test_a_port_in_use_is_named(sensor: Settings) -> None:
    ports = [{"published": "1883", "protocol": "tcp"}]
    host = FakeHost(services=services(ports=ports), busy_ports=(1883,))

    assert "port 1883/tcp is in use" in only_failure(sensor, host)[0]


def test_a_generated_file_that_was_edited_is_named(sensor: Settings) -> None:
    (sensor.home / "docker-compose.yml").write_text("services: {mine: {}}\n")

    lines = only_failure(sensor, FakeHost())

    assert "docker-compose.yml" in lines[0]
    assert "edited by hand" in lines[0]
    assert "docker-compose.override.yml" in lines[1]


def test_a_compose_file_that_is_gone_is_named(sensor: Settings) -> None:
    host = FakeHost(missing=(str(sensor.home / "docker-compose.yml"),))

    assert "docker-compose.yml" in only_failure(sensor, host)[0]


def test_an_override_that_compose_refuses_is_shown_in_its_words(sensor: Settings) -> None:
    wrong = "services.recording Additional property privilegde is not allowed\n"
    host = FakeHost(answers={"config": Answer(15, err=wrong)})

    lines = only_failure(sensor, host)

    assert "privilegde" in lines[1]
    assert "docker-compose.override.yml" in lines[2]


MOUNTS = {
    "a stick without owners": (Storage("vfat", Path("/media/usb"), ("rw",)), "owners"),
    "another machine": (Storage("nfs4", Path("/mnt"), ("rw",)), "another machine"),
    "a mount of one user": (Storage("fuse.gocryptfs", Path("/x"), ("rw",)), "allow_other"),
    "a read-only disk": (Storage("ext4", Path("/"), ("relatime", "ro")), "read-only"),
    "the kernel": (Storage("proc", Path("/proc"), ("rw",)), "not a disk"),
}


@pytest.mark.parametrize("case", MOUNTS)
def test_a_home_that_cannot_be_mounted_is_refused(sensor: Settings, case: str) -> None:
    storage, why = MOUNTS[case]

    lines = only_failure(sensor, FakeHost(file_system=storage))

    assert str(sensor.home) in lines[0]
    assert why in lines[1]


def test_a_mount_that_everyone_may_see_will_do(sensor: Settings) -> None:
    storage = Storage("fuse.mergerfs", Path("/srv"), ("allow_other", "rw"))

    assert found(sensor, FakeHost(file_system=storage))["file system"].outcome == "ok"


def test_an_engine_from_a_snap_cannot_see_hidden_folders(sensor: Settings) -> None:
    hidden = sensor.home.with_name(".acoupi")
    sensor.home.rename(hidden)
    host = FakeHost()
    host.info["DockerRootDir"] = "/var/snap/docker/common/var-lib-docker"

    assert "hidden folders" in only_failure(Settings(home=hidden), host)[1]


def test_a_home_that_cannot_be_written_is_refused(sensor: Settings) -> None:
    assert "chown" in only_failure(sensor, FakeHost(writable=False))[2]


def test_what_to_try_is_quoted_for_the_shell(settings: Settings) -> None:
    home = settings.home.with_name("my sensor")

    tried = only_failure(Settings(home=home), FakeHost(writable=False))[2]

    assert f" '{home}' " in tried


def test_a_folder_to_be_mounted_that_is_missing_is_named(sensor: Settings) -> None:
    mounts = [{"type": "bind", "source": "/media/disk/recordings"}]
    host = FakeHost(services=services(volumes=mounts), missing=("/media/disk/recordings",))

    lines = only_failure(sensor, host)

    assert "/media/disk/recordings" in lines[0]
    assert lines[2] == "  Try: mkdir -p /media/disk/recordings"


@pytest.mark.parametrize("name", ["data", "secrets/config", "secrets/broker/users.acl"])
def test_what_is_missing_of_the_home_is_made_by_rendering(sensor: Settings, name: str) -> None:
    place = str(sensor.home / name)
    mounts = [{"type": "bind", "source": place}]
    host = FakeHost(services=services(volumes=mounts), missing=(place,))

    assert only_failure(sensor, host)[2] == "  Try: acoupi compose render"


# ---- the microphone


def other_bundle(**extra: Any) -> dict[str, Answer]:
    container = {
        "Name": "/heath-recording-1",
        "HostConfig": {"DeviceCgroupRules": ["c 116:* rw"]},
        "Config": {"Labels": {"com.docker.compose.project": "heath"}, **extra},
    }
    return {"ps": Answer(0, "abc\n"), "inspect": Answer(0, json.dumps([container]))}


def test_a_microphone_that_another_bundle_owns_is_refused(sensor: Settings) -> None:
    other = other_bundle(Env=["ACOUPI_HOME=/srv/heath"])

    lines = only_failure(sensor, FakeHost(answers=other))

    assert 'another sensor, "heath"' in lines[0]
    assert "heath-recording-1 (home: /srv/heath)" in lines[1]
    assert lines[2] == "  Try: docker compose -p heath down"


def test_a_bundle_that_hears_simulated_audio_is_in_nobodys_way(sensor: Settings) -> None:
    simulated = other_bundle(Env=["ACOUPI_SIMULATED_AUDIO=synthetic"])
    here = services(environment={"ACOUPI_SIMULATED_AUDIO": "synthetic"})

    assert found(sensor, FakeHost(answers=simulated))["microphone"].outcome == "ok"
    results = found(sensor, FakeHost(answers=other_bundle(), services=here))
    assert "microphone" not in results
    assert results["sound device"].message == "simulated: synthetic"


# ---- what is only a warning


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("sound device", {"microphones": []}, "no microphone"),
        ("clock", {"synchronised": False}, "not synchronised"),
        ("memory", {"memory": 700_000_000}, "the limits add up to 800 MB"),
        ("buildx", {"answers": {"buildx": Answer(1)}}, "buildx"),
        ("file system", {"file_system": Storage("tmpfs", Path("/tmp"), ("rw",))}, "in memory"),
    ],
)
def test_what_can_wait_is_a_warning(
    sensor: Settings, name: str, changes: dict[str, Any], said: str
) -> None:
    result = found(sensor, FakeHost(**changes))[name]

    assert result.outcome == "warn"
    assert said in result.message
    assert result.why
    assert result.help


def test_a_kernel_that_does_not_limit_memory_is_a_warning(sensor: Settings) -> None:
    host = FakeHost()
    host.info["MemoryLimit"] = False

    assert "cgroup_enable=memory" in (found(sensor, host)["memory"].help or "")


def test_what_the_machine_does_not_tell_is_left_out(sensor: Settings) -> None:
    results = found(sensor, FakeHost(synchronised=None, file_system=None))

    assert "clock" not in results
    assert "file system" not in results


def test_of_several_failures_the_first_is_raised_and_the_others_are_counted(
    sensor: Settings,
) -> None:
    host = FakeHost(writable=False, answers={"info": Answer(127)})

    error = failure(list(run_preflight(sensor, host, Sensor.at(sensor).manifest)))

    assert error is not None
    assert "cannot write" in error.message
    assert "shows 1 more" in (error.help or "")
    assert error.exit_code == 3
    assert failure([]) is None


# ---- reading


@pytest.mark.parametrize(
    ("text", "version"),
    [("20.10.24+dfsg1", (20, 10)), ("v2.26.1-4", (2, 26)), ("29-rc1", (29,)), ("dev", ())],
)
def test_versions_are_read_whatever_is_added_to_them(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"services": []}', "no json"])
def test_what_is_no_bundle_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its subclass for JSON too
        Bundle.parse(text)


def test_the_deepest_and_latest_mount_is_the_one_that_counts(tmp_path: Path) -> None:
    lines = [
        "1 0 8:1 / / rw - ext4 /dev/a rw",
        f"2 1 8:2 / {tmp_path} rw - xfs /dev/b rw",
        f"3 1 8:3 / {tmp_path} ro - vfat /dev/c rw",
        f"4 1 8:4 / {tmp_path}x rw - nfs /dev/d rw",
        "rubbish",
    ]

    storage = find_storage(tmp_path / "home", "\n".join(lines))

    assert storage is not None
    assert storage.kind == "vfat"
    assert "ro" in storage.options


def test_the_override_is_part_of_the_command_only_if_it_is_there(sensor: Settings) -> None:
    without = compose_command(sensor, "up")
    (sensor.home / "docker-compose.override.yml").write_text("services: {}\n")

    assert "docker-compose.override.yml" not in " ".join(without)
    assert compose_command(sensor, "up")[-3:] == [
        "-f",
        str(sensor.home / "docker-compose.override.yml"),
        "up",
    ]


def test_this_machine_answers_every_question(tmp_path: Path) -> None:
    host = Host()

    assert host.can_write(tmp_path / "not" / "there")
    assert (host.free_bytes(tmp_path / "not" / "there") or 0) > 0
    assert host.memory_bytes() > 0
    assert host.is_folder(tmp_path)
    assert not host.is_folder(tmp_path / ("a name that no disk takes" * 20))
    assert host.storage(tmp_path) is not None
    assert isinstance(host.cards(), list)
    assert host.is_clock_synchronised() in (True, False, None)
    assert host.is_port_free("127.0.0.1", 0, "tcp")
