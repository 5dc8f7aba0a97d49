"""The process of a worker that `acoupi hub analyse` starts: it does the jobs that it is told.

The first line that it reads says what it needs to know, each one after it the number of a job,
which it writes when it is over with it. It ends when there are no more lines: also if the one who
started it was killed.
"""

import os
import sys
from pathlib import Path

from pydantic import BaseModel, SecretStr

from acoupi.hub.analysing import Analyser
from acoupi.hub.calling import HubClient
from acoupi.hub.worker_home import worker_home
from acoupi.hub.working import AtWork
from acoupi.stack.loading import load_program_class

__all__ = ["Orders", "main"]


class Orders(BaseModel):
    """What a worker needs to know before its first job."""

    hub: str
    """Its address."""
    token: str
    program: str
    files: list[Path]
    """See `Analyser`."""
    lease_s: float


def main() -> None:
    """Do jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what models print is no answer
    orders = Orders.model_validate_json(sys.stdin.readline())
    with worker_home() as home:
        os.environ["ACOUPI_HOME"] = str(home)
        client = HubClient(orders.hub, SecretStr(orders.token))
        analyser = Analyser(load_program_class(orders.program), home, tuple(orders.files))
        at_work = AtWork(client, analyser, home, orders.lease_s)
        with at_work.giving_signs_of_life():
            for line in sys.stdin:
                at_work.do(int(line))
                answers.write(line)
                answers.flush()


if __name__ == "__main__":
    main()
