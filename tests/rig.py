"""`scripts/faults` and its parts, for tests."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.services import require

SCRIPT = Path(__file__).parents[1] / "scripts" / "faults.d"
TIMEOUT = 840.0
"""Longest run of the rig: its waits are bounded, and a loaded machine is slow."""


def part_of_rig(name: str) -> Any:
    """Return a module of the rig that needs no other of them."""
    spec = importlib.util.spec_from_file_location(f"faults_{name}", SCRIPT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def require_disk() -> None:
    """Skip where no file system of our own can be mounted; on CI fail instead."""
    reason = part_of_rig("disk").why_no_disk()
    require(f"power cuts: {reason}", not reason)


def faults(folder: Path, *options: str) -> dict[str, Any]:
    """Run the rig; return its report, and show it where all is not well."""
    command = [sys.executable, str(SCRIPT), *options, "--json"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # it leaves nothing behind then
            out, err = process.communicate()
    assert process.returncode == 0, out + err
    report: dict[str, Any] = json.loads(out)
    return report
