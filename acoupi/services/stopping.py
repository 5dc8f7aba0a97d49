"""Being asked to stop, by the signals that engines, systemd and people send."""

import signal
import threading

__all__ = ["stop_event"]


def stop_event() -> threading.Event:
    """Return an event that is set once this process is asked to stop (TERM, INT or QUIT)."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: stop.set())
    return stop
