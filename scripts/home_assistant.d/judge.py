"""Runs in the environment of Home Assistant: judges each component by its own schema."""

import json
import sys
from typing import Any

import voluptuous
from homeassistant.components.mqtt import binary_sensor, sensor
from homeassistant.const import __version__

SCHEMAS = {
    "sensor": sensor.DISCOVERY_SCHEMA,
    "binary_sensor": binary_sensor.DISCOVERY_SCHEMA,
}


def fault(component: dict[str, Any]) -> str | None:
    """Return why Home Assistant refuses a component; None if it accepts it."""
    entity = {name: value for name, value in component.items() if name != "platform"}
    try:
        SCHEMAS[component["platform"]](entity)
    except voluptuous.Invalid as error:
        return str(error)
    return None


def main() -> None:
    """Print the cases; fail if anything that a sensor announces is refused."""
    given = json.load(sys.stdin)
    accepted = given["components"]
    if faults := {key: why for key, one in accepted.items() if (why := fault(one))}:
        sys.exit(f"Home Assistant refuses: {json.dumps(faults, indent=2)}")
    good = accepted["temperature"]
    wrong = {
        "no state topic": {name: value for name, value in good.items() if name != "state_topic"},
        "no such class": {**good, "device_class": "bats"},
        "no such category": {**good, "entity_category": "bats"},
    }
    cases = {
        "home_assistant": __version__,
        "acoupi": given["acoupi"],
        "accepted": accepted,
        "refused": {name: fault(one) for name, one in wrong.items()},
    }
    json.dump(cases, sys.stdout, indent=2, ensure_ascii=False, sort_keys=True)
    print()


main()
