"""Exports, fetched with a browser."""

import asyncio
import csv
import io
import zipfile
from pathlib import Path

import pytest
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from acoupi.stack.settings import Settings
from acoupi.system.page import PageSensor
from acoupi.web import exporting
from acoupi.web.asking import Ask
from tests.web.heard_home import BAT, RECORDINGS, Visitor


def table(archive: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(archive.read(name).decode())))


def test_an_export_is_that_of_the_command_line(visitor: Visitor, tmp_path: Path) -> None:
    answer = visitor.get(f"/api/v1/export/csv?species={BAT}&precision=0.1&from=&verdict=")

    assert answer.status_code == 200, answer.text
    assert 'filename="csv.zip"' in answer.headers["content-disposition"]
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    rows = table(archive, "csv/detections.csv")
    assert len(rows) == RECORDINGS / 3
    assert {one["species"] for one in rows} == {BAT}
    assert {one["latitude"] for one in rows} == {"51.5", ""}
    assert "csv/effort.csv" in archive.namelist()
    assert list(tmp_path.glob("acoupi-export-*")) == [], "nothing stays"


@pytest.mark.parametrize(
    ("address", "words"),
    [("nothing", "one of csv"), ("csv?species=Yeti", "Yeti"), ("csv?from=2040-01-01", "export"),
     ("darwin-core", "Pond")],
)  # fmt: skip
def test_what_cannot_be_exported_is_told(
    visitor: Visitor, tmp_path: Path, address: str, words: str
) -> None:
    answer = visitor.get(f"/api/v1/export/{address}")

    assert answer.status_code in {409, 422, 503}
    assert words in answer.json()["error"] + answer.json()["why"]
    assert list(tmp_path.glob("acoupi-export-*")) == []


def test_one_export_is_made_at_a_time(heard: Settings, tmp_path: Path) -> None:
    def ask(request: Request) -> Ask:
        params = {"format": "csv"}
        return Ask(PageSensor(heard), QueryParams(""), params, "Europe/Berlin")

    async def both() -> list[Response | BaseException]:
        (route,) = exporting.routes(ask, tmp_path)
        assert isinstance(route, Route)
        request = Request({"type": "http", "path_params": {"format": "csv"}, "headers": []})
        found = await asyncio.gather(
            route.endpoint(request), route.endpoint(request), return_exceptions=True
        )
        assert isinstance(found[0], FileResponse), found[0]
        assert found[0].background is not None
        await found[0].background()
        return found

    first, second = asyncio.run(both())

    assert not isinstance(first, BaseException)
    assert list(tmp_path.iterdir()) == [], "nothing stays"
    assert isinstance(second, HTTPException)
    assert (second.status_code, second.headers) == (503, {"Retry-After": "30"})
