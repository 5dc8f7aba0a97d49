"""In containers, the worker of the default queue sees how the other services are."""

from tests.docker.bundles import QUICK, Bundle

SERVICES = {"recording", "detection", "default", "beat"}


def up(bundle: Bundle) -> dict[str, float]:
    """What the text file of the metrics says of each service."""
    path = bundle.home / "data" / "metrics" / "acoupi.prom"
    begin = 'acoupi_service_up{service="'
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line.removeprefix(begin).split('"} ') for line in lines if line.startswith(begin)]
    return {name: float(value) for name, value in found}


def test_a_container_that_is_gone_is_seen_and_so_is_its_return(fresh: Bundle) -> None:
    fresh.set_up(
        *QUICK,
        *("--sensor.alarms.enabled", "true", "--sensor.metrics.interval_seconds", "5"),
        *("--sensor.metrics.textfile", "data/metrics/acoupi.prom"),
    )
    fresh.compose("up", "-d")
    fresh.eventually(lambda: up(fresh) == dict.fromkeys(SERVICES, 1), "the state of every service")

    fresh.compose("stop", "beat")  # which orders that the metrics are written
    fresh.eventually(lambda: up(fresh) == dict.fromkeys(SERVICES, 1) | {"beat": 0}, "its absence")
    fresh.compose("start", "beat")
    fresh.eventually(lambda: up(fresh) == dict.fromkeys(SERVICES, 1), "its return")
