"""A worker of a hub: takes jobs from the broker, analyses them with its program, reports results.

It never sees the database: sound comes and results go over HTTP. It may be killed at any moment;
its job is given to another worker when its lease ends.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from celery import Celery, signals
from celery.apps import worker as celery_worker
from celery.worker.consumer import Consumer
from pydantic import SecretStr

from acoupi import clock
from acoupi.errors import AcoupiError, ConfigurationError, HubError, HubUnavailableError
from acoupi.hub.analysing import Analyser
from acoupi.hub.analysis_pages import SignOfLife, WorkerFacts
from acoupi.hub.broker import TASK, make_hub_app, queue_of
from acoupi.hub.calling import HubClient
from acoupi.hub.jobs import Assignment, Claim, JobResult
from acoupi.hub.pulse import beat
from acoupi.hub.workers import broker_password, login_url
from acoupi.stack.loading import load_program_class

__all__ = ["LEASE", "AtWork", "broker_url", "work"]

logger = logging.getLogger(__name__)

LEASE = 120.0
"""Seconds without a sign of life after which a job is given to another worker."""
LONGEST_ANALYSIS = 3600.0
"""Seconds after which an analysis counts as hung, and the worker exits."""
PULSE = 5.0
"""Seconds between two pulses."""
REFUSED = 2.0
"""Seconds before connecting again to a broker that refused the worker."""
HUNG = 70
"""Exit code of a worker whose model hung."""


def work(
    client: HubClient,
    token: SecretStr,
    home: Path,
    *,
    program: str | None = None,
    files: tuple[Path, ...] = (),
    ca: Path | None = None,
    lease: float = LEASE,
) -> int:
    """Work until a signal ends it, or the token is withdrawn; return the exit code.

    Parameters
    ----------
    home
        ACOUPI_HOME of this process; an empty folder that nobody else uses.
    program
        The program that this worker expects; None: the one of its token.
    files
        See `Analyser`.
    ca
        Certificates of the authority that signed those of the broker.

    Raises
    ------
    AcoupiError
        The hub does not answer or refuses it, or its program is not installed here.
    """
    facts = client.get("/v1/worker", WorkerFacts)
    if program not in (None, facts.program):
        raise ConfigurationError(
            f'the token of the worker "{facts.name}" is for another program.',
            f"acoupi hub add-worker {facts.name} --program {program}, at the hub",
            why=f"it is for {facts.program}.",
        )
    analyser = Analyser(load_program_class(facts.program), home, files)
    app = make_hub_app(broker_url(facts, token, ca), facts.program)
    at_work = AtWork(client, analyser, home, lease)

    @app.task(name=TASK, acks_late=True)
    def analyse(job: int) -> None:
        at_work.do(job)

    def ready(**_: object) -> None:
        logger.info("The worker %s takes jobs for %s", facts.name, facts.program)

    with at_work.giving_signs_of_life():
        worker = _worker(app, facts)
        signals.worker_ready.connect(ready, weak=False)
        worker.start()
    return at_work.exit_code or int(worker.exitcode or 0)


def _worker(app: Celery, facts: WorkerFacts) -> "_Worker":
    return _Worker(
        app=app,
        hostname=f"{facts.name}-{os.getpid()}@acoupi",
        queues=[queue_of(facts.program)],
        consumer_cls=_Consumer,
        pool="threads",
        concurrency=1,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        task_events=False,
        quiet=True,
    )


def broker_url(facts: WorkerFacts, token: SecretStr, ca: Path | None = None) -> str:
    """Return the address of the broker with the login of this worker."""
    url = login_url(facts.broker, facts.user, broker_password(token.get_secret_value()))
    if ca is None:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode({'ssl_ca_certs': str(ca)})}"


class AtWork:
    """Does one job at a time, and sends the hub signs of life meanwhile."""

    def __init__(self, client: HubClient, analyser: Analyser, home: Path, lease: float) -> None:
        self._client, self._analyser, self._home, self._lease = client, analyser, home, lease
        self._job: SignOfLife = SignOfLife()
        self._hung_at: float | None = None
        self.exit_code = 0

    def do(self, job: int) -> None:
        """Do a job; whatever goes wrong, the hub sends it out again."""
        claim = Claim(id=uuid4(), lease_s=self._lease)
        try:
            assignment = Assignment.model_validate(
                self._client.post(f"/v1/jobs/{job}/claim", claim)
            )
        except AcoupiError as error:
            logger.info("Skipping job %d: %s", job, _words(error))
            return
        self._hung_at = clock.monotonic() + LONGEST_ANALYSIS
        self._job = SignOfLife(job=job, claim=claim)
        try:
            self._say(job, self._result(assignment, claim))
        except AcoupiError as error:
            logger.warning("Job %d was not finished: %s", job, _words(error))
        finally:
            self._job, self._hung_at = SignOfLife(), None

    def _result(self, job: Assignment, claim: Claim) -> JobResult:
        sound = self._home / "sound" / Path(job.name).name
        sound.parent.mkdir(exist_ok=True)
        try:
            self._client.fetch(f"/v1/audio/{job.recording.id}", sound, job.bytes, job.sha256)
            result = self._analyser.analyse(job, sound, claim.id)
        except HubUnavailableError as error:
            return JobResult(claim=claim.id, error=_words(error), is_attempt=False)
        except Exception as error:  # a program may raise anything while it is built
            logger.exception("Job %d cannot be done", job.job)
            return JobResult(claim=claim.id, error=_words(error))
        states = ", ".join(f"{one.name_model} {one.state.value}" for one in result.analyses)
        logger.info("Job %d is done: %s", job.job, states)
        return result

    def _say(self, job: int, result: JobResult) -> None:
        try:
            self._client.post(f"/v1/jobs/{job}", result)
        except HubUnavailableError:
            raise
        except HubError as error:  # such as a result that is too long
            failed = JobResult(claim=result.claim, error=_words(error))
            self._client.post(f"/v1/jobs/{job}", failed)

    @contextmanager
    def giving_signs_of_life(self) -> Iterator[None]:
        """Send the hub a sign of life now and then."""
        over = threading.Event()

        def live() -> None:
            due = clock.monotonic()
            while not over.wait(min(PULSE, self._lease / 4)):
                if clock.monotonic() >= due:
                    self._show()
                    due = clock.monotonic() + self._lease / 4
                beat()

        thread = threading.Thread(target=live, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()

    def _show(self) -> None:
        if self._hung_at is not None and clock.monotonic() > self._hung_at:
            logger.critical("The analysis hangs; this worker exits")
            os._exit(HUNG)  # a hung thread cannot be stopped otherwise
        try:
            self._client.post("/v1/worker/alive", self._job)
        except ConfigurationError as error:
            logger.error("This worker stops: %s", _words(error))  # noqa: TRY400 - no traceback
            self.exit_code = error.exit_code
            os.kill(os.getpid(), signal.SIGTERM)
        except AcoupiError as error:
            logger.warning("%s", _words(error))


def _words(error: Exception) -> str:
    if isinstance(error, AcoupiError):
        return " ".join(filter(None, (error.message, error.why)))
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


class _Consumer(Consumer):
    """Retries while the broker does not know the worker (any more).

    `acoupi hub dispatch` makes its user: some seconds after its token, and again after the broker
    was wiped. A worker whose token was withdrawn hears of that from the hub, and stops.
    """

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Log why it cannot work, and wait."""
        logger.warning("The broker does not accept this worker yet: %s", " ".join(str(exc).split()))
        time.sleep(REFUSED)


class _Worker(celery_worker.Worker):
    """Celery's worker without its output for terminals."""

    def install_platform_tweaks(self, worker: Any) -> None:
        """Finish the current job when asked to stop; handle no other signals."""
        celery_worker.install_worker_term_handler(worker, verbose=False)
        celery_worker.install_worker_term_handler(worker, sig="SIGINT", verbose=False)
        celery_worker.install_worker_term_hard_handler(worker, verbose=False)

    def setup_logging(self, colorize: bool | None = None) -> bool:
        """Do not change the logging."""
        return True

    def set_process_status(self, info: Any) -> None:
        """Keep the title of the process."""
