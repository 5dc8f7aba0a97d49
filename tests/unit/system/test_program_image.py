"""A command of acoupi that runs in an image, and what is written down of that image."""

from itertools import pairwise
from pathlib import Path

import pytest

from acoupi.bundles.images import named_packages
from acoupi.bundles.overrides import files_of_others
from acoupi.bundles.variables import choose, chosen_variables
from acoupi.errors import ConfigurationError, TargetError
from acoupi.system import Settings, setup_program
from acoupi.targets.compose import ComposeTarget


@pytest.fixture
def bundle(settings: Settings) -> ComposeTarget:
    setup_program(settings, "demo", [], target="compose", environ={})
    return ComposeTarget(settings)


def mounts(command: list[str]) -> list[str]:
    return [
        after for word, after in pairwise(command) if word == "--mount" and "/dev/snd" not in after
    ]


def test_the_home_is_mounted_where_it_is_and_the_words_come_last(bundle: ComposeTarget) -> None:
    command = bundle.command_inside(["config", "set"])

    home = bundle.settings.home
    data = f"type=bind,source={home / 'data'},target={home / 'data'},readonly"
    assert mounts(command) == [f"type=bind,source={home},target={home}", data]
    assert command[-4:] == [bundle.image, "acoupi", "config", "set"]
    assert f"ACOUPI_HOME={home}" in command
    assert {"--read-only", "--cap-drop=ALL", "--rm"} <= set(command)
    assert "--tty" not in command
    assert "--tty" in bundle.command_inside([], terminal=True)


@pytest.mark.parametrize(
    ("words", "writes", "has_network"),
    [
        (["config", "get"], [], False),
        (["task", "list"], [], False),
        (["effort"], ["data", "run"], False),
        (["messages", "list"], ["data", "run"], False),
        (["task", "run", "detection_task"], ["data", "run"], True),
        (["check"], ["data", "run"], True),
        (["setup"], [""], False),
        (["config", "set", "a", "1"], [""], False),
        (["config", "undo"], [""], False),
    ],
)
def test_a_command_gets_what_it_needs_and_no_more(
    bundle: ComposeTarget, words: list[str], writes: list[str], has_network: bool
) -> None:
    home = bundle.settings.home
    for folder in ("data", "run"):
        (home / folder).mkdir(exist_ok=True)

    command = bundle.command_inside(words)

    found = mounts(command)
    written = sorted(f"type=bind,source={home / name},target={home / name}" for name in writes)
    assert sorted(one for one in found if not one.endswith("readonly")) == written
    assert ("--network=none" in command) is not has_network
    assert {"--pids-limit=512", "--memory=2g"} <= set(command)
    if "" not in writes:
        for name in ("docker-compose.yml", ".env", "secrets/broker"):
            assert (home / name).exists()
            assert not any(f"source={home / name}," in one for one in found)
        assert f"type=bind,source={home},target={home}" not in found


@pytest.mark.parametrize("words", [["setup"], ["config", "set", "a", "1"]])
def test_a_setup_writes_neither_data_nor_files_of_the_owner(
    bundle: ComposeTarget, words: list[str]
) -> None:
    home = bundle.settings.home
    (home / "docker-compose.override.yml").touch()
    (home / "mosquitto").mkdir()
    (home / "disk").symlink_to("/elsewhere")

    found = mounts(bundle.command_inside(words))

    kept = {one for one in found if one.endswith("readonly")}
    names = ("data", "docker-compose.override.yml", "mosquitto")
    assert kept == {f"type=bind,source={home / one},target={home / one},readonly" for one in names}


@pytest.mark.parametrize("name", ["docker-compose.override.yml", "compose.yaml", ".env"])
def test_what_a_program_leaves_for_compose_during_its_setup_is_refused(
    bundle: ComposeTarget, name: str
) -> None:
    home = bundle.settings.home
    before = files_of_others(home)
    with (home / name).open("a") as file:
        file.write("COMPOSE_FILE=/tmp/mine.yml\n")

    with pytest.raises(TargetError) as caught:
        bundle.check_written(before)

    assert name in str(caught.value.why)
    bundle.check_written(files_of_others(home))  # what was there before is the owner's


def test_a_bundle_that_a_program_made_unsafe_during_its_setup_is_refused(
    bundle: ComposeTarget,
) -> None:
    path = bundle.settings.home / "docker-compose.yml"
    path.write_text(path.read_text().replace("read_only: true", "privileged: true", 1))

    with pytest.raises(ConfigurationError, match="not safe"):
        bundle.check_written(())


def test_it_runs_as_the_user_of_the_bundle(bundle: ComposeTarget) -> None:
    choose(bundle.settings.home, {"ACOUPI_UID": "4711", "ACOUPI_GID": "4712"})

    command = bundle.command_inside([])

    assert command[command.index("--user") + 1] == "4711:4712"


def test_variables_are_passed_by_name_so_that_no_secret_is_seen(
    bundle: ComposeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN", "not-for-everyone")

    command = bundle.command_inside(["setup"])

    assert "ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN" in command
    assert not any("not-for-everyone" in word for word in command)


def test_a_file_that_is_named_can_be_read_there(
    bundle: ComposeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a,b.yaml").write_text("")
    (tmp_path / "c.wav").write_text("")
    monkeypatch.chdir(tmp_path)

    command = bundle.command_inside(["setup", "--config=a,b.yaml", "--recording", "c.wav", "x"])

    place = tmp_path / "a,b.yaml"
    assert f'type=bind,"source={place}","target={place}",readonly' in mounts(command)
    assert any("c.wav" in one and one.endswith("readonly") for one in mounts(command))
    assert command[command.index("--workdir") + 1] == str(tmp_path)
    assert len(mounts(command)) == 4


def test_folders_that_the_bundle_uses_are_there_too(settings: Settings, tmp_path: Path) -> None:
    disk = tmp_path / "disk $HOME"
    setup_program(settings, "demo", ["--paths.recordings", str(disk)], target="compose", environ={})

    command = ComposeTarget(settings).command_inside(["effort"])

    assert f"type=bind,source={disk},target={disk}" in mounts(command)


# --- what is written down -----------------------------------------------------------------


def test_a_choice_takes_the_line_of_its_default(bundle: ComposeTarget) -> None:
    home = bundle.settings.home
    lines = len((home / ".env").read_text().splitlines())

    bundle.choose_image("acoupi/sensor:1-abc", ["acoupi-birdnet", "/srv/my model"])
    bundle.choose_image("acoupi/sensor:2-abc", ["acoupi-birdnet", "/srv/my model"])

    assert bundle.image == "acoupi/sensor:2-abc"
    assert bundle.packages == ["acoupi-birdnet", "/srv/my model"]
    assert len((home / ".env").read_text().splitlines()) == lines


def test_the_choice_of_an_image_outlives_a_setup(bundle: ComposeTarget) -> None:
    bundle.choose_image("acoupi/sensor:1-abc", ["acoupi-birdnet"])

    setup_program(bundle.settings, "demo", [], target="compose", environ={})

    assert bundle.image == "acoupi/sensor:1-abc"
    assert bundle.packages == ["acoupi-birdnet"]


def test_a_password_of_a_package_is_not_written_down(bundle: ComposeTarget) -> None:
    bundle.choose_image("acoupi/sensor:1-abc", ["git+https://me:secret@example.org/mine"])

    assert "secret" not in chosen_variables(bundle.settings.home)["ACOUPI_PACKAGES"]
    assert bundle.packages == ["git+https://example.org/mine"]


def test_what_stands_there_twice_stands_there_once_afterwards(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# a = b is no line\n#A=default\nA=old\nB=kept\n")

    choose(tmp_path, {"A": "new", "C": "it's"})

    text = (tmp_path / ".env").read_text()
    assert text == '# a = b is no line\nA=new\nB=kept\nC="it\'s"\n'
    assert chosen_variables(tmp_path)["C"] == "it's"


def test_a_path_of_a_package_means_the_same_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)

    assert named_packages(["./mine", "acoupi-birdnet"]) == [
        str(tmp_path / "mine"),
        "acoupi-birdnet",
    ]
