"""A hub that is set up again: other servers, other places, secrets of one that is gone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from typer.testing import CliRunner

from acoupi.bundles.engine import Answer, Engine
from acoupi.cli.app import app
from acoupi.config.env_files import read_env
from acoupi.errors import ConfigurationError, TargetError
from acoupi.hub.bundle.choices import HubHome
from acoupi.hub.bundle.running import RunningHub
from acoupi.hub.bundle.setting_up import set_up_hub

GIVEN: dict[str, Any] = {"name": "hub.example.org", "workers": {"demo": 1}}


def set_up(folder: Path, **urls: str) -> Path:
    """Set a hub up; return where the token of its worker is kept."""
    set_up_hub(HubHome(folder), GIVEN, own_servers=urls)
    return folder / "secrets" / "worker-demo.env"


@pytest.mark.parametrize("kind", ["broker", "database"])
def test_workers_get_new_tokens_only_with_another_broker_or_database(
    tmp_path: Path, kind: str
) -> None:
    token = set_up(tmp_path)
    (tmp_path / "database" / "15").mkdir()
    token.write_text("ACOUPI_HUB_WORKER_TOKEN=old\n")

    set_up(tmp_path)
    assert read_env(token) == {"ACOUPI_HUB_WORKER_TOKEN": "old"}
    scheme = {"broker": "amqps", "database": "postgresql"}[kind]
    set_up(tmp_path, **{kind: f"{scheme}://me:word@example.org/x"})
    assert read_env(token) == {}


def test_the_secrets_of_a_hub_that_is_gone_make_another_one_the_same_to_sensors(
    tmp_path: Path,
) -> None:
    gone, new = tmp_path / "gone", tmp_path / "new"
    set_up(gone).write_text("ACOUPI_HUB_WORKER_TOKEN=old\n")
    trusted = x509.load_pem_x509_certificate((gone / "ca" / "ca.pem").read_bytes())
    set_up(new)

    shutil.copytree(gone / "secrets", new / "secrets", dirs_exist_ok=True)
    token = set_up(new)

    for path in ("ca/ca.pem", "tls/hub.pem"):
        x509.load_pem_x509_certificate((new / path).read_bytes()).verify_directly_issued_by(trusted)
    assert read_env(token) == {}  # its database knows no worker


def test_another_place_for_sound_is_said_to_lack_what_the_hub_has(tmp_path: Path) -> None:
    def said(*words: str) -> str:
        variables = {"ACOUPI_HUB_HOME": str(tmp_path / "hub")}
        result = CliRunner().invoke(app, ["hub", "setup", *words], env=variables)
        assert result.exit_code == 0
        return result.stderr

    (tmp_path / "disk").mkdir()
    assert "sound" not in said()
    assert f"{tmp_path}/hub/audio: copy it to {tmp_path}/disk" in " ".join(
        said("--audio", str(tmp_path / "disk")).split()
    )
    assert "sound" not in said()


def test_a_disk_for_sound_that_is_not_mounted_is_named_before_anything_starts(
    tmp_path: Path,
) -> None:
    home, disk = HubHome(tmp_path / "hub"), tmp_path / "disk"
    set_up_hub(home, GIVEN | {"audio": str(disk)}, own_servers={})

    with pytest.raises(TargetError, match=f'"{disk}"') as raised:
        RunningHub(home).check()
    assert "mount" in str(raised.value.help)


def test_what_was_edited_by_hand_is_written_over_by_setup_of_a_hub_alone(tmp_path: Path) -> None:
    set_up(tmp_path)
    with (tmp_path / "docker-compose.yml").open("a") as file:
        file.write("# mine")

    for act in (lambda: set_up(tmp_path), RunningHub(HubHome(tmp_path)).check):
        with pytest.raises(ConfigurationError) as raised:
            act()
        assert "acoupi hub setup --force" in str(raised.value.help)


class Restarting(Engine):
    """Runs a worker that ends at once, and gives its log as Compose does."""

    def ask(self, *words: str, timeout: float = 0) -> Answer:
        if "logs" in words:
            return Answer(0, "\x1b[2KError: no program x.\n\x1b[2K  Why: y.\n\x1b[2K  Try: z\n" * 2)
        return Answer(0, '{"Service": "worker-demo", "State": "restarting"}')


class Refusing(Restarting):
    """Runs a worker that is told a program which is not there."""

    def ask(self, *words: str, timeout: float = 0) -> Answer:
        if "logs" in words:
            return super().ask(*words)
        return Answer(0, '{"Service": "worker-demo", "State": "restarting", "ExitCode": 2}')


def test_a_service_that_refuses_what_it_was_told_is_not_waited_for(tmp_path: Path) -> None:
    set_up(tmp_path)

    with pytest.raises(TargetError) as raised:
        RunningHub(HubHome(tmp_path), Refusing()).wait("worker-demo", patience=1e9)
    assert str(raised.value.why) == "it is restarting: Error: no program x. Why: y."


@pytest.mark.parametrize("program", ["nonsense", "acoupi.nonsense", "acoupi_nonsense.program"])
def test_a_program_that_no_image_has_is_refused_at_setup(tmp_path: Path, program: str) -> None:
    given = {"name": "hub.example.org", "workers": {program: 1}}

    with pytest.raises(ConfigurationError, match=program) as raised:
        set_up_hub(HubHome(tmp_path / "hub"), given, own_servers={})
    assert "demo" in str(raised.value.help)
    assert not (tmp_path / "hub").exists()

    more = {**given, "packages": (str(Path(__file__).parents[2]),)}
    assert set_up_hub(HubHome(tmp_path / "hub"), more, own_servers={}).workers == {program: 1}


def test_what_does_not_start_is_told_with_its_reason(tmp_path: Path) -> None:
    set_up(tmp_path)

    with pytest.raises(TargetError) as raised:
        RunningHub(HubHome(tmp_path), Restarting()).wait("worker-demo", patience=0)
    assert str(raised.value.why).endswith("after 0 s: Error: no program x. Why: y.")
