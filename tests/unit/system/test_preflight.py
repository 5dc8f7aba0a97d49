"""The preflight: what each kind of machine is told before anything is started."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acoupi.bundles.engine import Answer, Host, Storage
from acoupi.bundles.preflight import CHECKS, run_preflight
from acoupi.bundles.rendering import Manifest
from acoupi.system import Sensor, Settings
from acoupi.targets import find_target
from tests.preflight import IMAGE, FakeHost, found, only_failure, services

REFUSED = (
    "Got permission denied while trying to connect to the Docker daemon socket at "
    "unix:///var/run/docker.sock: connect: permission denied"
)
UNREACHABLE = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
    "Is the docker daemon running?"
)
NO_COMPOSE = "docker: 'compose' is not a docker command.\nSee 'docker --help'"


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
        ("process", "everything that this user may"),
        ("systemd", "files, devices and the network are not"),
        ("systemd-system", "that it needs"),
    ],
)
def test_what_keeps_services_apart_without_containers_is_said(
    sensor: Settings, target: str, said: str
) -> None:
    manifest, rights = Sensor.at(sensor).manifest, find_target(target).rights

    results = {
        one.name: one
        for one in run_preflight(sensor, FakeHost(), manifest, containers=False, rights=rights)
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


def test_the_file_system_of_a_path_is_the_one_mounted_nearest_above_it() -> None:
    storage = Host().storage(Path("/proc/self/nothing/here"))

    assert storage is not None
    assert (storage.kind, storage.mounted_on) == ("proc", Path("/proc"))


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
    assert lines[2] == (
        "  Try: mount its disk, or if it needs none: mkdir -p /media/disk/recordings"
    )


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


# ---- reading
