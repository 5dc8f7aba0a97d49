"""Prints what a sensor announces: each component with the parts that all share."""

import json
import sys

import acoupi
from acoupi.components.messengers.home_assistant import Announcement

SENSOR = Announcement("homeassistant", "sensor 7/ä", "acoupi/sensor-7/status")

document = SENSOR.document()
shared = {name: document[name] for name in ("device", "origin")}
components = {key: {**one, **shared} for key, one in document["components"].items()}
json.dump({"acoupi": acoupi.__version__, "components": components}, sys.stdout)
