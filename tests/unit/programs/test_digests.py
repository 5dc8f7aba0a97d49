"""Digests of settings, by which sensors are compared."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from acoupi.components.messengers import FileConfig, HTTPConfig
from acoupi.programs.templates import (
    AudioConfiguration,
    MessagingConfig,
    MessagingProgramConfiguration,
)
from acoupi.programs.templates.digests import section_digests, settings_digest


def config(interval: float = 10, **messaging: Any) -> MessagingProgramConfiguration:
    return MessagingProgramConfiguration(
        recording=AudioConfiguration(interval=interval), messaging=MessagingConfig(**messaging)
    )


def test_secrets_and_places_are_no_part_of_a_digest() -> None:
    def to(password: str, folder: str) -> MessagingProgramConfiguration:
        http = HTTPConfig(base_url="https://hub", username="a", password=SecretStr(password))
        place = Path(folder)
        return config(
            http=http, messages_db=place / "m.db", file=FileConfig(path=place / "m.jsonl")
        )

    one, other = to("secret", "/home/pi"), to("another", "/data")

    assert settings_digest(one) == settings_digest(other)
    assert section_digests(one) == section_digests(other)
    assert not any(digest.startswith("paths=") for digest in section_digests(one))


def test_a_setting_changes_the_digest_of_its_section_only() -> None:
    one, other = (section_digests(config(interval)) for interval in (10, 30))

    assert settings_digest(config(10)) != settings_digest(config(30))
    assert [name.partition("=")[0] for name in set(one) ^ set(other)] == ["recording"] * 2
