"""The HTTP endpoints at which workers ask for jobs and report results."""

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from acoupi.hub.asking import Asked, page
from acoupi.hub.jobs import Claim, JobResult, claim_job, give_again, renew_lease
from acoupi.hub.parts import Hub
from acoupi.hub.taking_in import take_in_result
from acoupi.hub.workers import broker_of, broker_user, note_alive

__all__ = ["SignOfLife", "WorkerFacts", "analysis_routes"]


class WorkerFacts(BaseModel):
    """What a worker must know at its start; its password is derived from its token."""

    name: str
    program: str
    broker: str
    """Address of the broker, without a login."""
    user: str
    """User of this worker at the broker."""


class SignOfLife(BaseModel):
    """A sign of life from a worker, and its current job."""

    job: int | None = None
    claim: Claim | None = None


def analysis_routes(hub: Hub) -> list[Route]:
    """Return the pages of workers."""
    worker = ("worker",)
    return [
        page(hub, "/v1/worker", _facts, allowed=worker),
        page(hub, "/v1/worker/alive", _alive, method="POST", allowed=worker),
        page(hub, "/v1/jobs/{job:count}/claim", _claim, method="POST", allowed=worker),
        page(hub, "/v1/jobs/{job:count}", _result, method="POST", allowed=worker),
    ]


def _facts(asked: Asked) -> Response:
    """Tell a starting worker what it must know."""
    facts = WorkerFacts(
        name=asked.caller.name,
        program=asked.caller.scope,
        broker=broker_of(asked.hub.database, asked.caller),
        user=broker_user(asked.caller.name),
    )
    note_alive(asked.hub.database, asked.caller)
    give_again(asked.hub.database, asked.caller.scope)
    return JSONResponse(facts.model_dump())


def _alive(asked: Asked) -> Response:
    said, database = asked.parsed(SignOfLife, "a sign of life"), asked.hub.database
    note_alive(database, asked.caller)
    has_job = (
        said.job is not None
        and said.claim is not None
        and renew_lease(database, asked.caller, said.job, said.claim)
    )
    return JSONResponse({"has_job": has_job})


def _claim(asked: Asked) -> Response:
    claim = asked.parsed(Claim, "a claim")
    job = claim_job(asked.hub.database, asked.caller, asked.request.path_params["job"], claim)
    return Response(job.model_dump_json(), media_type="application/json")


def _result(asked: Asked) -> Response:
    result = asked.parsed(JobResult, "a result")
    take_in_result(asked.hub.database, asked.caller, asked.request.path_params["job"], result)
    return JSONResponse({"stored": True})
