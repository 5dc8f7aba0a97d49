"""A sensor in Home Assistant: what the MQTT messenger announces, and where its states are.

One retained document announces the device with all its entities (device-based discovery, Home
Assistant 2024.11 and later): https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery.
Each entity has a topic of its own for its state, and "online" or "offline" on the status topic
of the messenger, which the broker writes when the sensor is gone, says whether it is available.
All ids come from the id of the device, which is in its home: a new container has the same.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import acoupi

__all__ = ["ENTITIES", "Announcement", "Entity"]

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")
UNKNOWN = "None"
"""Home Assistant's text for an unknown state."""


class Entity(NamedTuple):
    """One thing that Home Assistant shows."""

    key: str
    name: str
    platform: str
    settings: Mapping[str, Any] = {}
    has_attributes: bool = False
    """Whether further figures come as JSON on the topic `Announcement.attributes_topic`."""


_TREND = {"state_class": "measurement"}
_ABOUT_ITSELF = {"entity_category": "diagnostic"}
_PROBLEM = {"device_class": "problem"}

ENTITIES = (
    Entity("recording", "Recording", "binary_sensor", {"device_class": "running"}),
    Entity("last_detection", "Last detection", "sensor", {"icon": "mdi:bat"}, has_attributes=True),
    Entity(
        "detections_today",
        "Detections today",
        "sensor",
        {"state_class": "total_increasing", "icon": "mdi:counter"},
    ),
    Entity("last_recording", "Last recording", "sensor", {"device_class": "timestamp"}),
    Entity(
        "recorded_share",
        "Recorded of the plan, 24 h",
        "sensor",
        {**_TREND, "unit_of_measurement": "%", "suggested_display_precision": 1},
    ),
    Entity(
        "lost_seconds",
        "Lost of the plan, 24 h",
        "sensor",
        {**_TREND, "device_class": "duration", "unit_of_measurement": "s"},
    ),
    Entity("waiting_recordings", "Recordings not analysed", "sensor", _TREND),
    Entity("alarm", "Alarm", "binary_sensor", _PROBLEM, has_attributes=True),
    Entity("microphone_problem", "Microphone", "binary_sensor", _PROBLEM),
    Entity(
        "noise_floor",
        "Noise floor",
        "sensor",
        {**_TREND, "unit_of_measurement": "dBFS", "suggested_display_precision": 1},
    ),
    Entity("services_problem", "Services", "binary_sensor", {**_PROBLEM, **_ABOUT_ITSELF}),
    Entity("clock_problem", "Clock", "binary_sensor", {**_PROBLEM, **_ABOUT_ITSELF}),
    Entity("supply_problem", "Supply voltage", "binary_sensor", {**_PROBLEM, **_ABOUT_ITSELF}),
    Entity(
        "disk_hours_left",
        "Disk full in",
        "sensor",
        {**_TREND, **_ABOUT_ITSELF, "device_class": "duration", "unit_of_measurement": "h"},
    ),
    Entity(
        "disk_free",
        "Free disk",
        "sensor",
        {**_TREND, **_ABOUT_ITSELF, "device_class": "data_size", "unit_of_measurement": "GB"},
    ),
    Entity(
        "temperature",
        "Temperature",
        "sensor",
        {**_TREND, **_ABOUT_ITSELF, "device_class": "temperature", "unit_of_measurement": "°C"},
    ),
)
"""All of a sensor, beside "Online", which is the status of its connection."""


@dataclass(frozen=True)
class Announcement:
    """What is announced of one sensor.

    Parameters
    ----------
    prefix
        Where Home Assistant looks for devices: its discovery prefix.
    device_id
        Of the sensor.
    status_topic
        Where "online" and "offline" are kept.
    """

    prefix: str
    device_id: str
    status_topic: str

    @property
    def birth_topic(self) -> str:
        """Topic on which Home Assistant publishes "online" after its start."""
        return f"{self.prefix}/status"

    @property
    def _id(self) -> str:
        return f"acoupi_{_NOT_IN_IDS.sub('_', self.device_id)}"

    @property
    def topic(self) -> str:
        """Where the document is kept."""
        return f"{self.prefix}/device/{self._id}/config"

    def state_topic(self, key: str) -> str:
        """Return where the state of an entity is kept."""
        return f"{self.status_topic.removesuffix('/status')}/state/{key}"

    def attributes_topic(self, key: str) -> str:
        """Return where further figures of an entity are kept."""
        return f"{self.state_topic(key)}/attributes"

    def document(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "device": {
                "identifiers": [self._id],
                "name": f"acoupi {self.device_id}",
                "manufacturer": "acoupi",
                "model": "acoustic sensor",
                "serial_number": self.device_id,
                "sw_version": acoupi.__version__,
            },
            "origin": {"name": "acoupi", "sw_version": acoupi.__version__},
            "components": {"online": self._online(), **{e.key: self._of(e) for e in ENTITIES}},
        }

    def payload(self) -> bytes:
        """Return the document as it is published."""
        return json.dumps(self.document(), ensure_ascii=False).encode()

    def _online(self) -> dict[str, Any]:
        """Return the entity for whether the sensor is online: it is always available."""
        return {
            "platform": "binary_sensor",
            "unique_id": f"{self._id}_online",
            "name": "Online",
            "state_topic": self.status_topic,
            "payload_on": "online",
            "payload_off": "offline",
            "device_class": "connectivity",
            **_ABOUT_ITSELF,
        }

    def _of(self, entity: Entity) -> dict[str, Any]:
        more = {}
        if entity.has_attributes:
            more["json_attributes_topic"] = self.attributes_topic(entity.key)
        return {
            "platform": entity.platform,
            "unique_id": f"{self._id}_{entity.key}",
            "name": entity.name,
            "state_topic": self.state_topic(entity.key),
            "availability_topic": self.status_topic,
            **entity.settings,
            **more,
        }
