"""``acoupi metrics``: the state of the sensor as Prometheus reads it."""

import sys

from acoupi.cli import home
from acoupi.cli.output import example
from acoupi.cli.table import single

__all__ = ["app"]

app = single()


@app.command(epilog=example("acoupi metrics"))
def metrics() -> None:
    """Print the state of the sensor as metrics for Prometheus.

    To make the sensor write them to a file for node_exporter:
    acoupi config set sensor.metrics.textfile data/metrics/acoupi.prom
    """
    from acoupi.system.metrics import sensor_metrics

    found = home.sensor()
    sys.stdout.write(sensor_metrics(found, home.load(found, only_reads=True)))
