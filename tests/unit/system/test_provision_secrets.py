"""Where secrets are, of a home that sets itself up."""

import stat
from pathlib import Path

from acoupi.system import Settings
from tests.provisioning import URL, config_of, put

HOST = {
    "CONFIG__MESSAGING__MQTT__HOST": "hub",
    "CONFIG__MESSAGING__MQTT__USERNAME": "bat",
}


MQTT_PASSWORD = "CONFIG__MESSAGING__MQTT__PASSWORD"


def shown_in(folder: Path, text: str) -> list[str]:
    """The files of a folder that hold a text, without those that are elsewhere."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path.name for path in found if text in path.read_text()]


def test_where_secrets_have_a_volume_nothing_of_them_is_in_config(settings: Settings) -> None:
    """Neither what is in force, nor what was before, nor what a URL gave."""
    config = settings.program_config_file.parent
    (settings.home / "secrets").mkdir(parents=True)
    page = "messaging: {mqtt: {host: hub, username: bat, password: geheim}}"
    for interval in (10, 20):
        put(settings, {URL: f"{page}\nrecording: {{interval: {interval}}}"},
            PROGRAM="connected", CONFIG_URL=URL)  # fmt: skip

    assert shown_in(config, "geheim") == []
    assert sorted(shown_in(settings.home / "secrets", "geheim")) == [
        "fetched.json", "secrets.env", "secrets.env",
    ]  # fmt: skip
    assert config_of(settings).messaging.mqtt.password.get_secret_value() == "geheim"
    found, _ = put(settings, PROGRAM="connected", CONFIG_URL=URL)
    assert found.fault is not None, "what was fetched last is found there"
    assert config_of(settings).recording.interval == 20


def test_secrets_of_before_move_into_their_volume(settings: Settings) -> None:
    config = settings.program_config_file.parent
    for duration in ("3", "4"):
        put(settings, PROGRAM="connected", CONFIG__RECORDING__DURATION=duration, **HOST,
            **{MQTT_PASSWORD: "geheim"})  # fmt: skip
    assert sorted(shown_in(config, "geheim")) == ["secrets.env", "secrets.env"]
    (settings.home / "secrets").mkdir()

    put(settings, PROGRAM="connected", CONFIG__RECORDING__DURATION="4", **HOST,
        **{MQTT_PASSWORD: "geheim"})  # fmt: skip

    assert shown_in(config, "geheim") == []
    assert "geheim" in settings.secrets_file.read_text()
    assert stat.S_IMODE(settings.secrets_file.stat().st_mode) == 0o600
