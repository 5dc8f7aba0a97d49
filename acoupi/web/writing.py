"""Changes of the sensor: submitted forms, and where the browser goes next."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from acoupi import clock
from acoupi.errors import ParameterError, RecordingFileError
from acoupi.heard import Verdict, VerdictRow
from acoupi.web.forms import fields_of
from acoupi.web.parts import SENSOR, Access, Subject
from acoupi.web.sensor import Sensor

__all__ = ["routes"]

Fields = Mapping[str, str]
MOST_TEXT = 500
"""Characters of a name or a note."""


def routes(sensor: Sensor, access: Access, subject: Subject = SENSOR) -> list[Route]:
    """Return the routes that change the sensor; access was checked before.

    Parameters
    ----------
    sensor
        The sensor.
    access
        Identifies the visitor.
    subject
        The subject of the pages: only things with a page can be changed.
    """

    def writing(path: str, change: Callable[[Fields, Request, str], str]) -> Route:
        async def answer(request: Request) -> Response:
            fields = await fields_of(request)
            by = access.visitor(request).name or ""
            then = await run_in_threadpool(change, fields, request, by)
            return _gone_to(request, then)

        answer.__doc__ = change.__doc__
        return Route(path, _named(answer, change.__name__), methods=["POST"])

    def apply_settings(fields: Fields, request: Request, by: str) -> str:
        """Change settings, as they were planned."""
        sensor.apply_settings(_changes(fields), by)
        return "/settings"

    def start_deployment(fields: Fields, request: Request, by: str) -> str:
        """Start a deployment."""
        latitude = _degrees(fields, "latitude", 90)
        longitude = _degrees(fields, "longitude", 180)
        sensor.start_deployment(_text(fields, "name"), latitude, longitude, by)
        return "/deployment"

    def stop_deployment(fields: Fields, request: Request, by: str) -> str:
        """Stop recording, and end the deployment."""
        sensor.stop_deployment(by)
        return "/deployment"

    def judge_detection(fields: Fields, request: Request, by: str) -> str:
        """Store a verdict on a detection."""
        id_ = _id(request)
        row = sensor.reader.detection(id_)
        if row is None:
            raise _unknown("detection", id_)
        sensor.add_verdict(_verdict(fields, row.recording.id, id_, by))
        return fields.get("then") or f"/detections/{id_}"

    def judge_recording(fields: Fields, request: Request, by: str) -> str:
        """Store a verdict on a recording in which nothing was found."""
        id_ = _id(request)
        if sensor.reader.recording(id_) is None:
            raise _unknown("recording", id_)
        sensor.add_verdict(_verdict(fields, id_, None, by))
        return fields.get("then") or f"/recordings/{id_}"

    every = [
        writing("/settings", apply_settings),
        writing("/deployment/start", start_deployment),
        writing("/deployment/stop", stop_deployment),
        writing("/detections/{id}/verdict", judge_detection),
        writing("/recordings/{id}/verdict", judge_recording),
    ]
    shown = {*subject.menu, "recordings"}
    return [one for one in every if one.path.split("/")[1] in shown]


def _named(
    answer: Callable[[Request], Awaitable[Response]], name: str
) -> Callable[[Request], Awaitable[Response]]:
    answer.__name__ = name
    return answer


def _gone_to(request: Request, path: str) -> Response:
    """Return a redirect to a path of this page."""
    if not path.startswith("/") or path[1:2] in ("/", "\\") or not path.isprintable():
        path = "/"
    url = f"{request.scope.get('root_path', '')}{path}"
    if request.headers.get("hx-request"):
        return Response(headers={"HX-Redirect": url})
    return RedirectResponse(url, 303)


def _changes(fields: Fields) -> dict[str, Any]:
    try:
        found = json.loads(fields.get("changes", ""))
    except (ValueError, RecursionError) as error:
        raise _wrong("changes", "", "it is not JSON") from error
    if not isinstance(found, dict):
        raise _wrong("changes", "", "it is not a JSON object")
    return found


def _verdict(fields: Fields, recording_id: UUID, detection_id: UUID | None, by: str) -> VerdictRow:
    given = fields.get("verdict", "")
    try:
        verdict = Verdict(given)
    except ValueError as error:
        words = ", ".join(one.value for one in Verdict)
        raise _wrong("verdict", given, f"it is one of {words}") from error
    # Another species; or, of a whole recording, the one that was missed.
    names = verdict is Verdict.OTHER or (verdict is Verdict.WRONG and detection_id is None)
    return VerdictRow(
        recording_id=recording_id,
        detection_id=detection_id,
        verdict=verdict,
        species=_text(fields, "species") or None if names else None,
        reviewer=by,
        note=_text(fields, "note"),
        given_on=clock.utc_now(),
    )


def _id(request: Request) -> UUID:
    given = str(request.path_params["id"])
    try:
        return UUID(given)
    except ValueError as error:
        raise _unknown("thing", given) from error


def _unknown(what: str, id_: object) -> RecordingFileError:
    return RecordingFileError(
        f"there is no such {what}.",
        "open the list again",
        why=f"none has the id {str(id_)[:80]}.",
    )


def _degrees(fields: Fields, name: str, most: float) -> float | None:
    given = fields.get(name, "").strip()
    if not given:
        return None
    try:
        degrees = float(given)
    except ValueError as error:
        raise _wrong(name, given, "it is a number of degrees, such as 51.54") from error
    if not -most <= degrees <= most:
        raise _wrong(name, given, f"it is in degrees, from -{most:g} to {most:g}")
    return degrees


def _text(fields: Fields, name: str) -> str:
    given = fields.get(name, "").strip()
    if len(given) > MOST_TEXT or not given.isprintable():
        why = f"it may have {MOST_TEXT} characters, and no line breaks"
        raise _wrong(name, given[:20], why)
    return given


def _wrong(name: str, given: str, why: str) -> ParameterError:
    return ParameterError(
        given, f"the value of {name} is not valid.", "correct it and send it again", why=f"{why}."
    )
