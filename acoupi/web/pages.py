"""The pages: answers, laid out for people. All can be read without JavaScript."""

import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from acoupi import __version__, clock
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.web import answers, help_pages, shown
from acoupi.web.asking import FILTERS, Ask, zone_named
from acoupi.web.forms import Form, changes_in, fields_of
from acoupi.web.parts import Access, Subject
from acoupi.web.recent import Recent

__all__ = ["Pages"]

HEARD_NOW = 10
"""Detections, and recordings, on the first page."""
SLOWER = (1, 5, 10, 20)
"""How many times slower sound can be played."""
DAYS = 14
"""Days of effort by default."""


class Pages:
    """Makes pages.

    Parameters
    ----------
    recent
        The state of the sensor.
    ask
        Reads the parameters of a request.
    access
        Controls access.
    subject
        The sensor or hub of the pages.
    has_live, has_writing
        Whether something answers live streams, and what changes the sensor.
    """

    def __init__(
        self,
        recent: Recent,
        ask: Callable[[Request], Ask],
        access: Access,
        subject: Subject,
        *,
        has_live: bool,
        has_writing: bool,
    ) -> None:
        self._recent, self._ask, self._access, self._subject = recent, ask, access, subject
        self._environment = Environment(
            loader=PackageLoader("acoupi.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            subject=subject, version=__version__, has_live=has_live, has_writing=has_writing
        )
        self._environment.filters.update(shown.FILTERS)

    def routes(self) -> list[BaseRoute]:
        """Return where the pages are that the subject has."""
        every = [
            Route("/", self.now),
            Route("/detections", self.detections),
            Route("/detections/{id}", self.detection),
            Route("/recordings/{id}", self.recording),
            Route("/species", self.species_list),
            Route("/species/when", self.species),
            Route("/effort", self.effort),
            Route("/health", self.health),
            Route("/settings", self.settings),
            Route("/settings/plan", self.plan, methods=["POST"]),
            Route("/deployment", self.deployment),
            Route("/export", self.export),
            Route("/help", self.help),
            Route("/help/{page:path}", self.help),
        ]
        return [one for one in every if self._subject.has(one.path)]

    @staticmethod
    def base(request: Request) -> str:
        """Return the prefix of this page's addresses."""
        return str(request.scope.get("root_path", ""))

    def now(self, request: Request) -> Response:
        """Show the state of the sensor, and what it has just heard."""
        ask, state = self._ask(request), self._recent.fresh()
        found, made = self._latest(ask)
        return self._page(
            request, self._subject.first, state=state, detections=found, recordings=made
        )

    def _latest(self, ask: Ask) -> tuple[Any, Any]:
        """Return the last detections, and the last recordings with their states."""
        try:
            few = ask.with_limit(HEARD_NOW)
            made = answers.recordings(few)["recordings"]
            analyses = [ask.reader.analyses(UUID(one["recording_id"])) for one in made]
            found = list(zip(made, map(shown.fate, made, analyses), strict=True))
            return answers.detections(few)["detections"], found
        except ConfigurationError:
            return [], []  # nothing has been recorded yet

    def detections(self, request: Request) -> Response:
        """Show the detections, and the form of filters."""
        ask = self._ask(request)
        found = answers.detections(ask)
        more = found["next"] and f"{ask.address()}&after={found['next']}".lstrip("&")
        rows = found["detections"]
        sites = len({one["deployment_id"] for one in rows}) > 1
        return self._page(
            request, "detections", rows=rows, more=more, has_sites=sites, **self._chooser(ask)
        )

    def _chooser(self, ask: Ask) -> dict[str, Any]:
        """Return the contents of the form of filters."""
        return {"tags": answers.tags(ask), "chosen": ask.chosen(), "address": ask.address()}

    def detection(self, request: Request) -> Response:
        """Show one detection: picture, sound, data and verdicts."""
        ask = self._ask(request)
        answer = answers.detection(ask)
        older = ask.reader.detections(ask.filters, newest_first=True, after=ask.id(), limit=1)
        following = next(iter(older), None)
        return self._page(
            request,
            "detection",
            **answer,
            address=ask.address(),
            following=following and str(following.id),
            slower=SLOWER,
            capture_words=shown.clock_of(answer["capture"]),
        )

    def recording(self, request: Request) -> Response:
        """Show one recording, with all that was found in it."""
        answer = answers.recording(self._ask(request))
        words = shown.clock_of(answer["capture"])
        return self._page(request, "recording", **answer, slower=SLOWER, capture_words=words)

    def species_list(self, request: Request) -> Response:
        """Show which species were heard."""
        ask = self._ask(request)
        found = answers.species_list(ask)["species"]
        return self._page(request, "species", rows=found, **self._chooser(ask))

    def species(self, request: Request) -> Response:
        """Show when one species was heard, and its best clip."""
        ask = self._ask(request)
        answer = answers.species(ask)
        best = answer["heard"] and answer["heard"]["best_detection"]
        clip = best and answers.detection(ask.of(best))
        return self._page(
            request,
            "species_when",
            name=ask.text("species"),
            answer=answer,
            clip=clip,
            address=ask.address(),
            slower=SLOWER,
        )

    def effort(self, request: Request) -> Response:
        """Show how much of the plan was recorded, and why the rest was not."""
        ask = self._ask(request)
        sites = _deployments(ask)
        found = None
        if sites:
            which = answers.deployment(ask) or UUID(sites[-1]["id"])
            site = next(one for one in sites if one["id"] == str(which))
            since, until = ask.period
            since = since or _days_before(site, until, ask.zone)
            found = shown.effort(self._recent.sensor.effort(which, since, until))
        chosen = ask.chosen(("from", "to", "deployment"))
        return self._page(request, "effort", found=found, sites=sites, chosen=chosen)

    def health(self, request: Request) -> Response:
        """Show the health of the sensor, and its faults."""
        state = self._recent.fresh()
        return self._page(request, "health", state=state, **answers.health(self._ask(request)))

    def settings(self, request: Request) -> Response:
        """Show all settings, as a form."""
        form = Form(self._recent.sensor.settings())
        pending = self._recent.fresh()["status"].get("pending")
        return self._page(request, "settings", sections=form.sections, pending=pending)

    async def plan(self, request: Request) -> Response:
        """Show the effects of changed settings, before anything changes."""
        return await run_in_threadpool(self._planned, request, await fields_of(request))

    def _planned(self, request: Request, given: Mapping[str, str]) -> Response:
        if not self._access.visitor(request).may_write:
            raise HTTPException(403, "Only people who are logged in can change settings.")
        sensor = self._recent.sensor
        changes, problems = changes_in(sensor.settings(), given)
        plan = sensor.plan_settings(changes)
        plan["problems"] = [*problems, *plan["problems"]]
        status = 422 if plan["problems"] else 200
        return self._page(request, "settings_plan", status, plan=plan, changes=json.dumps(changes))

    def deployment(self, request: Request) -> Response:
        """Show the deployments, and the form that starts or stops one."""
        state, ask = self._recent.fresh(), self._ask(request)
        return self._page(request, "deployment", state=state, every=_deployments(ask)[::-1])

    def export(self, request: Request) -> Response:
        """Show the formats that what was heard can be exported in."""
        from acoupi.exports.formats import FORMATS  # noqa: PLC0415 - only who exports needs them

        formats = {name: one.purpose for name, one in FORMATS.items()}
        return self._page(request, "export", formats=formats, **self._chooser(self._ask(request)))

    def help(self, request: Request) -> Response:
        """Show a page of the documentation that travels with acoupi."""
        name = request.path_params.get("page", "index")
        if (image := help_pages.picture(name)) is not None:
            return Response(image, media_type="image/jpeg")
        content = help_pages.page(name, f"{self.base(request)}/help")
        if content is None:
            raise HTTPException(404, f'There is no page "{name}".')
        return self._page(request, "help", title=content.title, content=content.html)

    def problem(
        self,
        request: Request,
        status: int,
        error: AcoupiError,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Show an error."""
        told = {"error": error, "status": status, "passing": "Refresh" in (headers or {})}
        return self._page(request, "problem", status, headers, **told)

    def _page(
        self,
        request: Request,
        template: str,
        status: int = 200,
        headers: dict[str, str] | None = None,
        /,
        **context: Any,
    ) -> Response:
        base = self.base(request)
        path = request.scope["path"].removeprefix(base).strip("/")
        now = self._recent.now()
        html = self._environment.get_template(f"{template}.html").render(
            base=base,
            here=path.partition("/")[0],
            now=now,
            zone=zone_named(self._recent.timezone()),
            visitor=self._access.visitor(request),
            filters=FILTERS,
            **context,
        )
        return HTMLResponse(html, status, headers)


def _deployments(ask: Ask) -> list[Any]:
    try:
        return answers.deployments(ask)["deployments"]
    except ConfigurationError:
        return []  # nothing has been recorded yet


def _days_before(
    site: Mapping[str, Any], until: datetime.datetime | None, zone: datetime.tzinfo
) -> datetime.datetime:
    """Return the midnight before the last days of a deployment."""
    ended_on = site["ended_on"] and datetime.datetime.fromisoformat(site["ended_on"])
    ends = [one for one in (until, ended_on, clock.utc_now()) if one]
    last: datetime.datetime = min(ends).astimezone(zone)
    first = last - datetime.timedelta(days=DAYS - 1)
    return first.replace(hour=0, minute=0, second=0, microsecond=0)
