"""Runs `scripts/faults` for tests."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "scripts" / "faults.d"
TIMEOUT = 840.0
"""Longest run of the rig: its waits are bounded, and a loaded machine is slow."""


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
