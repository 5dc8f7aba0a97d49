"""`acoupi update` and `rollback` where there are no containers, and with what cannot be."""

from pathlib import Path

import pytest

from acoupi.bundles.engine import Answer, Engine
from acoupi.errors import TargetError
from acoupi.system import Settings
from acoupi.system.updating import load
from acoupi.targets.compose import ComposeTarget
from tests.cli.support import Run


@pytest.mark.parametrize("command", ["update", "rollback"])
def test_without_containers_the_package_is_what_is_updated(
    run: Run, sensor: Path, command: str
) -> None:
    done = run(command)

    assert done.exit_code != 0
    said = done.stderr.splitlines()
    assert [line.split(":")[0].strip() for line in said if line] == ["Error", "Why", "Try"]
    assert "pip" in said[-1]
    assert not (sensor / "updates").exists()


def test_an_image_and_a_file_exclude_each_other(run: Run, sensor: Path) -> None:
    done = run("update", "--image", "one", "--file", "images.tar")

    assert done.exit_code == 2
    assert "--image and --file" in done.stderr


class Loading(Engine):
    """An engine that answers to ``docker load``."""

    def __init__(self, said: str) -> None:
        self.said = said

    def ask(self, *words: str, timeout: float = 0) -> Answer:
        del timeout
        assert words[0] == "load"
        return Answer(0, self.said)


@pytest.mark.parametrize(
    "said", ["", "Loaded image ID: sha256:12\n", "Loaded image: a:1\nLoaded image: b:1\n"]
)
def test_a_file_must_hold_one_image_with_a_name(home: Path, said: str) -> None:
    engine = Loading(said)
    with pytest.raises(TargetError, match="cannot update from"):
        load(ComposeTarget(Settings(home=home), engine=engine), home / "images.tar")


def test_the_image_of_a_file_is_the_one_to_run_from(home: Path) -> None:
    target = ComposeTarget(Settings(home=home), engine=Loading("Loaded image: sensor:1.2\n"))

    assert load(target, home / "images.tar") == "sensor:1.2"
