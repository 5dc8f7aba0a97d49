"""A dead man's switch: an address that is called as long as the sensor hears something."""

import requests

from acoupi.components.messengers.exchange import DeadlineSession

__all__ = ["call_dead_mans_switch"]

LONGEST = 10.0
"""Seconds for the whole exchange."""


def call_dead_mans_switch(url: str, seconds: float = LONGEST) -> str | None:
    """Call an address; return why that failed, without the address, or None.

    Raises nothing: the address holds a secret, and nothing depends on the call.
    """
    session = DeadlineSession()

    def exchange() -> int:
        with session.get(url, timeout=seconds, stream=True, allow_redirects=False) as answer:
            return answer.status_code

    try:
        status = session.within(seconds, exchange)
    except (TimeoutError, requests.Timeout):
        return f"no answer within {seconds:g} s"
    except (requests.RequestException, OSError, ValueError) as error:
        return f"it cannot be reached ({type(error).__name__})"
    finally:
        session.close()
    return None if status < 300 else f"it answered {status}"
