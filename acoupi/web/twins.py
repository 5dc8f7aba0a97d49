"""The JSON twins of the pages, and the document that describes them."""

import re
from collections.abc import Callable, Iterable, Mapping
from inspect import cleandoc, getdoc
from typing import Any, NamedTuple, get_type_hints

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from acoupi import __version__
from acoupi.web import answers
from acoupi.web.asking import FILTERS, LIMIT, Ask
from acoupi.web.parts import SENSOR, Subject

__all__ = ["API", "TWINS", "Twin", "document", "routes"]

API = "/api/v1"

_PERIOD = {name: FILTERS[name] for name in ("from", "to")}
_PAGE = {
    "after": "Id of the last row on the previous page: its `next`.",
    "limit": f"Most rows to return, 1 to {LIMIT}.",
}
_BY = {"by": "night, day, hour, species or deployment."}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "What happened."},
        "why": {"type": ["string", "null"]},
        "try": {"type": ["string", "null"]},
    },
}


class Twin(NamedTuple):
    """An endpoint with an answer in JSON."""

    path: str
    """Below `API`."""
    answer: Callable[[Ask], Any]
    parameters: Mapping[str, str] = {}


TWINS = (
    Twin("/now", answers.now),
    Twin("/health", answers.health),
    Twin(
        "/effort", answers.effort, {"deployment": "Name or id; by default, the latest.", **_PERIOD}
    ),
    Twin("/deployments", answers.deployments),
    Twin("/detections", answers.detections, {**FILTERS, **_PAGE}),
    Twin("/detections/{id}", answers.detection),
    Twin("/recordings", answers.recordings, {**FILTERS, **_PAGE}),
    Twin("/recordings/{id}", answers.recording),
    Twin("/counts", answers.counts, {**_BY, **FILTERS}),
    Twin("/species", answers.species_list, FILTERS),
    Twin("/species/when", answers.species, FILTERS),
    Twin("/tags", answers.tags),
    Twin("/settings", answers.settings),
    Twin("/settings/schema", answers.settings_schema),
)
"""What the pages show. What media, live and writing answer is described by their functions."""


def routes(ask: Callable[[Request], Ask], subject: Subject) -> list[BaseRoute]:
    """Return where the twins answer."""

    def endpoint(twin: Twin) -> Callable[[Request], Response]:
        return lambda request: JSONResponse(twin.answer(ask(request)))

    return [
        Route(API + one.path, endpoint(one), name=f"twin {one.path}") for one in _twins_of(subject)
    ]


def _twins_of(subject: Subject) -> list[Twin]:
    """Return the twins, without those of pages that the subject does not have."""
    return [one for one in TWINS if subject.has(one.path)]


# The document


def document(every: Iterable[BaseRoute], subject: Subject = SENSOR) -> dict[str, Any]:
    """Return the OpenAPI document of all routes below `API`."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths = {API + one.path: {"get": _of_twin(one, schemas)} for one in _twins_of(subject)}
    for route in every:
        if isinstance(route, Route) and route.path.startswith(API):
            path = _plain(route.path)
            paths.setdefault(path, {})
            for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
                paths[path].setdefault(method.lower(), _of_route(route))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "An acoupi sensor",
            "version": __version__,
            "description": "Times are ISO 8601 with a zone; durations in seconds, "
            "frequencies in hertz, levels in dB of full scale.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _plain(path: str) -> str:
    """Return a path without the kinds of its parameters.

    Examples
    --------
    >>> _plain("/recordings/{id:uuid}/file")
    '/recordings/{id}/file'
    """
    return re.sub(r"{(\w+):\w+}", r"{\1}", path)


def _of_twin(twin: Twin, schemas: dict[str, Any]) -> dict[str, Any]:
    kind = get_type_hints(twin.answer)["return"]
    return {
        "summary": _first_line(twin.answer),
        "parameters": [*_in_path(twin.path), *map(_parameter, twin.parameters.items())],
        "responses": {
            "200": {
                "description": _first_line(twin.answer),
                "content": {"application/json": {"schema": _schema(kind, schemas)}},
            },
            **_errors(),
        },
    }


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an answer; those that it names are added to `schemas`."""
    found = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(found.pop("$defs", {}))
    return found


def _of_route(route: Route) -> dict[str, Any]:
    return {
        "summary": _first_line(route.endpoint),
        "description": cleandoc(getdoc(route.endpoint) or ""),
        "parameters": _in_path(_plain(route.path)),
        "responses": {"200": {"description": _first_line(route.endpoint)}, **_errors()},
    }


def _first_line(function: Any) -> str:
    return (getdoc(function) or "").partition("\n")[0]


def _errors() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"default": {"description": "What happened, why, what to try.", "content": content}}


def _in_path(path: str) -> list[dict[str, Any]]:
    schema = {"type": "string"}
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _parameter(named: tuple[str, str]) -> dict[str, Any]:
    name, description = named
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}
