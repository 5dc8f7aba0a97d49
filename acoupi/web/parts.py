"""The interfaces between the parts of the page: access, and the paths of each part.

======================================  =========================================  ==============
path (below the path prefix)            what                                       answered by
======================================  =========================================  ==============
``/``, ``/detections`` …                pages, GET only                            pages
``/api/v1/…``                           JSON twins, GET only                       twins
``/settings/plan``                      POST: form fields by dotted name; a page   pages
``/settings``                           POST: ``changes`` (JSON text); 303         writing
``/deployment/start``, ``…/stop``       POST: name, latitude, longitude; 303       writing
``/detections/{id}/verdict``            POST: verdict, species, note; 303          writing
``/recordings/{id}/verdict``            POST: the same, of a whole recording       writing
``/login``, ``/logout``                 access                                     access
``/api/v1/recordings/{id}/picture.png`` ``?start=&end=`` seconds                   media
``/api/v1/recordings/{id}/audio.wav``   ``?start=&end=&slow=``                     media
``/api/v1/recordings/{id}/file``        the file as it was stored                  media
``/api/v1/live``, ``/api/v1/live/…``    events; live sound                         live
======================================  =========================================  ==============

Every POST of a form has the field ``csrf``; htmx and scripts send it as ``X-CSRF-Token``. With
``HX-Request`` a POST answers 200 and, in place of 303, ``HX-Redirect``. An `AcoupiError` that is
raised anywhere becomes a page (or JSON below ``/api``) of three lines: `acoupi.web.app`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.routing import BaseRoute

__all__ = ["METRICS", "SENSOR", "Access", "Subject", "Visitor", "WebSettings"]

METRICS = "/metrics"
"""Where Prometheus reads the state of the sensor."""


@dataclass(frozen=True)
class Subject:
    """The subject of the pages: a sensor or a hub."""

    menu: Mapping[str, str]
    """Path and name of each page that there is."""
    first: str
    """Template of the first page."""
    trouble: str
    """Path of the page about faults."""
    has_sound: "Callable[[str], bool]" = lambda _: True
    """Whether there may be sound for a recording (its id)."""

    def has(self, path: str) -> bool:
        """Return whether there is a page, or an answer, at a path: where none in the menu misses.

        Examples
        --------
        >>> hub = Subject({"": "Sensors"}, "fleet", "")
        >>> [one.has("/settings/plan") for one in (SENSOR, hub)], hub.has("/not/in/any/menu")
        ([True, False], True)
        """
        return path.split("/")[1] not in SENSOR.menu.keys() - self.menu.keys()


SENSOR = Subject(
    menu={
        "": "Now",
        "detections": "Detections",
        "species": "Species",
        "effort": "Effort",
        "health": "Health",
        "settings": "Settings",
        "deployment": "Deployment",
        "export": "Export",
        "help": "Help",
    },
    first="now",
    trouble="health",
)
"""One sensor."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visitor, and their rights."""

    name: str | None
    """None: not logged in."""
    csrf: str
    """Token for forms; "" if they may not write."""
    may_write: bool
    may_listen: bool
    """Whether they may listen to live sound."""


class Access(Protocol):
    """Controls access to the page."""

    @property
    def routes(self) -> "Sequence[BaseRoute]":
        """Log in and out."""

    @property
    def middleware(self) -> "Sequence[Middleware]":
        """Sessions, rate limits, headers; refuses visitors without access."""

    def visitor(self, request: "Request") -> Visitor:
        """Return the visitor of a request."""


class WebSettings(Protocol):
    """The settings of section ``web`` that pages need."""

    @property
    def path_prefix(self) -> str:
        """Such as "/oak", where a proxy serves the page below a path; "" for none."""

    @property
    def metrics(self) -> bool:
        """Whether there are metrics for Prometheus, for everybody who reaches the page."""
