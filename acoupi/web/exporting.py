"""Exports for a browser: made by a separate process with numpy, and sent as a ZIP file."""

import asyncio
import importlib
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from acoupi.errors import AcoupiError, ParameterError
from acoupi.web.asking import Ask

__all__ = ["main", "routes"]

DEADLINE_S = 600
_RETRY_S = 30


def routes(ask: Callable[[Request], Ask], folder: Path | None) -> list[BaseRoute]:
    """Return where exports are fetched."""
    one_at_a_time = asyncio.Lock()

    async def export(request: Request) -> Response:
        """Return what was heard in a format for other tools, as a ZIP file.

        The filters are those of detections; ``precision`` rounds coordinates to degrees. One
        export is made at a time: 503 with Retry-After while there is another.
        """
        if one_at_a_time.locked():
            headers = {"Retry-After": str(_RETRY_S)}
            raise HTTPException(503, "Another export is being made.", headers)
        async with one_at_a_time:
            asked = await run_in_threadpool(ask, request)
            order = await run_in_threadpool(_order, asked, request.path_params["format"])
            work = tempfile.TemporaryDirectory(prefix="acoupi-export-", dir=folder)
            try:
                await _made({**order, "folder": work.name})
            except BaseException:
                work.cleanup()
                raise
        name = f"{order['format']}.zip"
        return FileResponse(
            Path(work.name) / "export.zip",
            media_type="application/zip",
            filename=name,
            background=BackgroundTask(work.cleanup),
        )

    return [Route("/api/v1/export/{format}", export)]


def _order(ask: Ask, format_: str) -> dict[str, Any]:
    """Return the order for the other process.

    Raises
    ------
    ParameterError
        If there is no such format, or the filters are not valid.
    """
    from acoupi.exports.formats import FORMATS  # noqa: PLC0415 - only who exports needs them

    if format_ not in FORMATS:
        raise ParameterError(
            format_,
            f'there is no format "{format_}".',
            "csv",
            why=f"it is one of {', '.join(FORMATS)}.",
        )
    _ = ask.filters  # invalid filters are refused at once
    return {
        "reader": ask.sensor.child_reader,
        "format": format_,
        "choice": asdict(ask.choice),
        "timezone": ask.timezone,
        "precision": ask.number("precision", 1e-6, 10),
    }


async def _made(order: dict[str, Any]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "acoupi.web.exporting"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            told, _ = await process.communicate(json.dumps(order).encode())
    except TimeoutError:
        raise AcoupiError(
            "the export took too long.",
            "choose a shorter time, or run acoupi export on the sensor",
            why=f"it was not ready after {DEADLINE_S // 60} minutes.",
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    _check(process.returncode, told)


def _check(code: int | None, told: bytes) -> None:
    if code == 0:
        return
    try:
        problem = json.loads(told)
    except ValueError:
        raise AcoupiError(
            "the export failed.",
            "see the log of the service web",
            why=f"its process ended with code {code}.",
        ) from None
    kind = ParameterError if problem.pop("is_parameter") else None
    message, help_, why = problem["error"], problem["try"], problem["why"]
    if kind is not None:
        raise kind("", message, help_, why=why)
    raise AcoupiError(message, help_, why=why)


# In the other process


def main() -> int:
    """Make the export ordered on standard input; return 0, or report the error."""
    order = json.load(sys.stdin)
    try:
        _export(order)
    except AcoupiError as error:
        is_parameter = isinstance(error, ParameterError)
        told = {"error": error.message, "why": error.why, "try": error.help}
        sys.stdout.write(json.dumps({**told, "is_parameter": is_parameter}))
        return 1
    return 0


def _export(order: dict[str, Any]) -> None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - in this process only, as the others

    from acoupi.exports.formats import FORMATS  # noqa: PLC0415
    from acoupi.exports.packages import export  # noqa: PLC0415
    from acoupi.system.choosing import Choice, Choosing  # noqa: PLC0415

    module, _, name = order["reader"][0].partition(":")
    reader = getattr(importlib.import_module(module), name)(order["reader"][1])
    kind: Any = FORMATS[order["format"]]
    filters = Choosing(reader, ZoneInfo(order["timezone"])).filters(Choice(**order["choice"]))
    folder = Path(order["folder"])
    made = folder / kind.name
    export(kind(), reader, filters, made, precision=order["precision"])
    with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(made.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
                path.unlink()


if __name__ == "__main__":
    sys.exit(main())
