"""The process of a worker that `acoupi hub analyse` starts: it does the jobs that it is given.

The first line of its input holds what it needs to know; each later line is the number of a job,
which it prints when the job is over. It exits at the end of the input, also if its parent was
killed.
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
    os.dup2(2, 1)  # what models print must not mix with the answers
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
