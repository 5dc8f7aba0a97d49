"""What every compose file of ours has in common, whoever renders it."""

import math

from acoupi.stack.stack import MEBIBYTE, Service

__all__ = [
    "BROKER_GRACE",
    "BROKER_MEMORY",
    "BROKER_SCORE",
    "BROKER_URL",
    "HEALTH",
    "HEALTH_COMMAND",
    "PROCESSES",
    "SOCKET",
    "SOCKET_FOLDER",
    "health_probe",
    "mebibytes",
    "memory_variable",
]

SOCKET_FOLDER = "/run/broker"
SOCKET = f"{SOCKET_FOLDER}/redis.sock"
BROKER_URL = f"redis+socket://{SOCKET}"
BROKER_GRACE = 10.0
BROKER_MEMORY = "64m"
BROKER_SCORE = 100
"""Added to every score: an engine without CAP_SYS_RESOURCE (rootless, or in a virtual
machine) starts no container with a score below its own. The order stays."""
PROCESSES = 64
"""Processes and threads that a container may have."""
HEALTH_COMMAND = "acoupi-health"
HEALTH = {
    "health_interval": 2.0,
    "health_timeout": 360.0,
    "health_start": 60.0,
    "health_retries": 2,
}
"""Seconds between looks, each of which lasts five minutes unless something is wrong.

One look may be wrong: the clock was set.
"""


def memory_variable(service: str) -> str:
    """Return the name in ``.env`` of the memory that a service may use."""
    return f"ACOUPI_MEMORY_{service.upper().replace('-', '_')}"


def mebibytes(number: int | None) -> str:
    """Write a limit of memory, rounded up, as a compose file has it; "0" is none."""
    return f"{math.ceil((number or 0) / MEBIBYTE)}m" if number else "0"


def health_probe(service: Service) -> tuple[str, ...]:
    """Return the probe: ``images/sensor/health``, which looks at the pulse."""
    assert service.health is not None
    words = (service.health.words,) if service.health.words else ()
    return ("CMD", HEALTH_COMMAND, str(service.health.pulse), *words)
