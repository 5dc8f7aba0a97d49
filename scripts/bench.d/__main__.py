"""Runs the measurements beside this file and prints what they found.

A measurement is a module with ``run(runs) -> dict``: figures by name, each a
number whose unit ends its name (``start_ms``), or ``{"value": …, "unit": …}``,
maybe with a ``"goal"`` (what it must not exceed, or text with ``"is_met"``), or a
further dict of them. Each runs in a process of its own; what it says to stderr is
seen at once.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
UNITS = {
    "ratio": "times", "x": "times", "s": "s", "ms": "ms", "us": "µs", "mb": "MB", "bytes": "B",
    "percent": "%", "hz": "Hz", "count": "",
}  # fmt: skip


def available() -> list[str]:
    """Return the names of the measurements."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def machine() -> dict[str, object]:
    """Describe the machine, without its name."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    """Return the model of the processor; on a Raspberry Pi that of the board."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {name.strip(): value.strip() for name, value in fields.items()}
    return names.get("Model") or names.get("model name") or platform.machine()


def measure(name: str, runs: int) -> dict[str, object]:
    """Run one measurement in a process of its own; ``{"error": …}`` if it fails."""
    program = (
        "import sys, json, importlib.util as u\n"
        "spec = u.spec_from_file_location(sys.argv[1], sys.argv[2])\n"
        "module = u.module_from_spec(spec); sys.modules[sys.argv[1]] = module\n"
        "spec.loader.exec_module(module)\n"
        "result = module.run(int(sys.argv[3]))\n"
        "print('\\n' + json.dumps(result, default=str))\n"
    )
    command = [sys.executable, "-c", program, f"bench_{name}", str(HERE / f"{name}.py"), str(runs)]
    last = ""
    with tempfile.TemporaryFile("w+") as answer:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=answer, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
        if code := process.wait():
            return {"error": last or f"ended with {code}"}
        answer.seek(0)
        return dict(json.loads(answer.read().strip().splitlines()[-1]))


def figures(result: dict[str, object], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield name, value, unit and goal of every figure, as text."""
    for name, value in result.items():
        path = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, dict) and set(value) >= {"value", "unit"}:
            yield path, _number(value["value"]), str(value["unit"]), _goal(value)
        elif isinstance(value, dict):
            yield from figures(value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            stem, _, unit = path.rpartition(" ")
            known = stem and unit in UNITS
            yield (stem if known else path), _number(value), UNITS[unit] if known else "", ""
        else:
            yield path, str(value), "", ""


def _goal(figure: dict[str, Any]) -> str:
    """Return what a figure should be, and whether it is."""
    goal = figure.get("goal")
    if goal is None:
        return ""
    if isinstance(goal, str):
        return f"{goal}  {'met' if figure.get('is_met') else 'MISSED'}"
    return f"≤ {_number(goal)}  {'met' if figure['value'] <= goal else 'MISSED'}"


def _number(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.6g}" if abs(value) >= 99.9 else f"{value:.3g}"


def main() -> int:
    """Run what was asked for; 1 if a measurement failed."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure the framework.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(available())} (all)")
    parser.add_argument("--runs", type=int, default=5, help="each figure is their median (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(available()))
    if unknown or options.runs < 1:
        parser.error(
            f"no such measurement: {', '.join(unknown)} (there are {', '.join(available())})"
            if unknown
            else f"--runs must be at least 1, not {options.runs}"
        )
    console = Console(highlight=False)
    described = machine()
    console.print(
        f"{described['processor']}, {described['cores']} cores, {described['memory_gb']} GB, "
        f"{described['system']}, Python {described['python']}, "
        f"load {described['load_before'][0]}; medians of {options.runs} runs",
        soft_wrap=True,
    )
    results: dict[str, dict[str, object]] = {}
    table = Table(box=None, pad_edge=False)
    table.add_column("measured")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("goal")
    for name in options.names or available():
        Console(stderr=True).print(f"measuring {name} ...", style="dim")
        results[name] = measure(name, options.runs)
        for figure, value, unit, goal in figures(results[name]):
            table.add_row(f"{name}: {figure}", value, unit, goal)
    console.print(table)
    described["load_after"] = [round(load, 2) for load in os.getloadavg()]
    if options.json:
        document = {"machine": described, "runs": options.runs, "figures": results}
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return int(any("error" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
