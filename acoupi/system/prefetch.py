"""``python -m acoupi.system.prefetch``: load each model once while an image is built.

Files that the models download then stay in the image, for workers without a network.
"""

import os
import shutil
import socket
import sys
import textwrap
from collections.abc import Callable, Iterator

from acoupi.errors import AcoupiError
from acoupi.stack.loading import programs_to_choose
from acoupi.stack.prefetched import carried_folder
from acoupi.system.model_trial import try_model
from acoupi.system.program_trial import program_trial

__all__ = ["CANNOT_FETCH", "main", "prefetch"]

CANNOT_FETCH = "acoupi cannot fetch the weights of"
"""Start of the line that reports a failure; `acoupi.bundles.images` looks for it."""
LONGEST = 400
"""Longest reason, characters; it includes the address that could not be reached."""
CLIENTS = {"aiohttp", "httpx", "huggingface_hub", "requests", "urllib", "urllib3"}
"""Libraries that download; their errors count as network errors."""


def prefetch(program: str, say: Callable[[str], object]) -> bool:
    """Load a program's model by a run on synthetic sound; return whether it could be fetched.

    A model that fails for another reason may still work with the sensor's settings and devices:
    this is reported, and ``acoupi check`` tests it there.
    """
    try:
        with program_trial(program) as trial:
            took = try_model(trial.program)
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        if reason := next(filter(_is_of_network, _causes(error)), None):
            say(f"{CANNOT_FETCH} {program}: {type(reason).__name__}: {_line(reason)}")
            return False
        if isinstance(error, AcoupiError) and error.why:
            say(f"The model of {program} was not loaded: {error.message} {error.why}")
        else:
            say(f"The model of {program} was not loaded: {type(error).__name__}: {_line(error)}")
        return True
    say(f"The model of {program} took {took}." if took else f"{program} has no model.")
    return True


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_network(error: BaseException) -> bool:
    is_of_client = type(error).__module__.partition(".")[0] in CLIENTS
    return is_of_client or isinstance(error, (ConnectionError, TimeoutError, socket.gaierror))


def _line(error: BaseException) -> str:
    return textwrap.shorten(str(error), LONGEST, placeholder=" ...") or "no reason given"


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Load the models of all programs that packages brought; return the exit code."""
    folder = carried_folder()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(folder)
    places = programs_to_choose().values()
    fetched = [prefetch(one, _print) for one in places if not one.startswith("acoupi.")]
    shutil.rmtree(folder / "matplotlib", ignore_errors=True)  # only useful where it can be written
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    _print(f"The image holds {size / 1e6:.1f} MB that models downloaded.")
    return 0 if all(fetched) else 1


if __name__ == "__main__":
    sys.exit(main())
