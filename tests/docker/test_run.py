"""`scripts/run` on a machine with an engine: the demo sensor, a container for each service."""

import json
import subprocess
import threading

from acoupi.components import SqliteStore
from tests.docker.bundles import EVERY, Bundle, docker, ended_in, environment, run_in
from tests.integration.test_demo import ROOT, RUN
from tests.services import eventually


def test_the_demo_runs_in_containers_and_shows_what_it_heard(image: str, fresh: Bundle) -> None:
    home = fresh.home
    with ended_in(home) as ended:
        done = subprocess.run(
            [*RUN, "--seconds", "20", "--home", home], stdin=subprocess.DEVNULL, cwd=ROOT,
            capture_output=True, text=True, timeout=240, check=False, env=environment(),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        eventually(
            lambda: {one["com.docker.compose.service"] for one in ended()} == set(EVERY),
            "a container of each service has ended",
        )

    assert "each service gets a container of its own" in done.stdout
    assert fresh.compose("ps", "--all", "--quiet").stdout == ""
    assert SqliteStore(home / "data" / "metadata.db").get_detections()
    assert "Detections" in done.stdout
    assert (home / "spectrogram.png").read_bytes().startswith(b"\x89PNG")
    lines = (home / "data" / "messages.jsonl").read_text().splitlines()
    assert any(json.loads(line)["content"].get("detections") for line in lines)


def test_what_is_run_in_a_container_between_two_starts_waits_for_the_second(image: str) -> None:
    container = docker("create", "--init", image, "sleep", "100").stdout.strip()
    starter = threading.Timer(0.5, docker, ("start", container))
    try:
        assert docker("exec", container, "true", check=False).returncode != 0
        starter.start()

        assert run_in(lambda: container, "echo", "here").stdout == "here\n"
    finally:
        starter.join()
        docker("rm", "--force", container)
