"""A sensor whose page is looked at: a home with stores in which something was heard."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.config.tree import ConfigTree
from acoupi.exports.effort_report import find_deployment, measure, read_effort
from acoupi.heard import Verdict, VerdictRow
from acoupi.config.sensor import setting_trees
from acoupi.system import Settings
from acoupi.system.reading import reader_of, store_of, zone_of
from acoupi.system.sensor import Sensor
from acoupi.system.state import sensor_status
from acoupi.web.sensor import Health, Now, Plan, Setting


class HomeSensor:
    def __init__(self, settings: Settings) -> None:
        self.home = settings

    @property
    def reader(self):
        return reader_of(self.home)

    @property
    def child_reader(self):
        return "tests.web.homes:open_reader", str(self.home.home)

    def now(self) -> Now:
        status = sensor_status(Sensor.read(self.home)).model_dump(mode="json")
        return {
            "time": data.utc_now().isoformat(), "timezone": getattr(zone_of(self.home), "key", "UTC"),
            "device": "oak", "version": "1", "ok": not status["alarms"], "status": status, "alarms": status["alarms"],
            "next_recording": None, "disks": [{"path": "/x", "free_bytes": 5, "total_bytes": 10, "hours_left": 2.5}],
            "clock": {"synchronised": None, "error_s": 0.004},
        }

    def health(self) -> Health:
        return {"levels": [{"time": "2024-06-01T20:00:00+00:00", "rms_dbfs": -40.0, "peak_dbfs": -10.0, "noise_floor_dbfs": -60.0, "faults": []},
         {"time": "2024-06-01T20:01:00+00:00", "rms_dbfs": -41.0, "peak_dbfs": -10.0, "noise_floor_dbfs": -61.0, "faults": ["silent"]}], "alarms": [], "dead_letters": [], "errors": [{"service": "detection", "time": None, "line": "ERROR x"}]}

    def effort(self, deployment, since, until):
        store = store_of(self.home)
        which = find_deployment(store, None if deployment is None else str(deployment))
        found, spans = read_effort(store, which, since, until)
        measure(found, spans)
        return found.as_json()

    def settings_schema(self):
        return {}

    def add_verdict(self, verdict):
        store_of(self.home).add_verdict(verdict)

    def _nodes(self):
        s = Sensor.read(self.home)
        return [n for t in setting_trees(type(s.config)) for n in t.walk() if not n.is_section]

    def _settings(self):
        import json
        from acoupi.config.sensor import dump_setting
        s = Sensor.read(self.home)
        for n in self._nodes():
            try:
                v = json.loads(dump_setting(s.config, s.own_config, n.name))
            except Exception:
                continue
            yield {"name": n.name, "section": n.name.rpartition(".")[0], "title": n.title, "description": n.description or "",
                   "schema": {"type": "boolean"} if n.is_bool else {"enum": list(n.choices)} if n.choices else {"type": "number" if isinstance(v, (int, float)) else "string"},
                   "value": v, "is_secret": n.is_secret, "restarts": ["recording"]}

    def settings(self):
        return list(self._settings())

    def plan_settings(self, changes) -> Plan:
        return {"changes": [{"name": k, "old": 1, "new": v} for k, v in changes.items()], "problems": [], "restarts": ["recording"], "host_command": None, "state": "planned"}


