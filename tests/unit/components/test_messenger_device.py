"""A messenger of a fleet, told by one setting, is that of its device."""

from pathlib import Path

from acoupi.components.messengers import MQTTMessenger
from acoupi.components.messengers.config import MQTTConfig


def test_topic_and_client_id_of_a_fleet_become_those_of_the_device(
    home: Path,
) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "device.json").write_text('{"id": "bats-07"}')
    config = MQTTConfig(host="hub", topic="bats/{device_id}", client_id="fleet-{device_id}")

    messenger = MQTTMessenger.from_config(config)

    assert messenger.topic == "bats/bats-07"
    assert messenger.status_topic == "bats/bats-07/status"
    assert messenger.client_id == "fleet-bats-07"
