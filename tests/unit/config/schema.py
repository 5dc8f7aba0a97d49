"""A configuration with something of everything, and ways to fill it in."""

import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, HttpUrl, SecretStr

from acoupi.config import parse_config_from_args
from acoupi.errors import AcoupiError
from acoupi.programs.core.prompts import NoUserPrompt
from acoupi.programs.fields import TimeZoneName


class Transport(Enum):
    TCP = "tcp"
    UNIX = "unix"


class Recording(BaseModel):
    duration: float = Field(default=3, gt=0, description="Seconds.")
    interval: int = Field(default=10, gt=0)
    start: datetime.time = datetime.time(6)
    chunksize: Annotated[int, NoUserPrompt] = 8192


class Mqtt(BaseModel):
    host: str
    password: SecretStr | None = None
    transport: Transport = Transport.TCP
    port: int = 1884


class Http(BaseModel):
    base_url: str
    headers: dict[str, str] = Field(default_factory=dict)


class Messaging(BaseModel):
    order: Literal["oldest_first", "newest_first"] = "oldest_first"
    max_messages: int | None = Field(default=None, gt=0)
    use_tls: bool = False
    mqtt: Mqtt | None = None
    http: Http | None = None


class Bats(BaseModel):
    kind: Literal["bats"] = "bats"
    threshold: float = 0.3


class Birds(BaseModel):
    kind: Literal["birds"] = "birds"
    species: list[str] = []


class Schema(BaseModel):
    name: str = "sensor"
    recording: Recording = Field(default_factory=Recording)
    messaging: Messaging = Field(default_factory=Messaging)
    tags: list[str] = ["a", "b"]
    intervals: list[Recording] = []
    point: tuple[float, float] = (0.0, 0.0)
    levels: tuple[int, ...] = ()
    zone: TimeZoneName = "UTC"
    day: datetime.date | None = None
    when: datetime.datetime | None = None
    wait: datetime.timedelta = datetime.timedelta(seconds=1)
    folder: Path = Path("/data")
    model: Annotated[Bats | Birds, Field(discriminator="kind")] = Field(default_factory=Bats)
    second: Annotated[Bats | Birds, Field(discriminator="kind")] | None = None
    models: list[Annotated[Bats | Birds, Field(discriminator="kind")]] = []
    limit: int | float | str = 0
    page: HttpUrl | None = None
    bits: Literal[16, 24] = 16


def parse(*args: str, **kwargs: Any) -> Schema:
    kwargs.setdefault("environ", {})
    return parse_config_from_args(Schema, list(args), kwargs.pop("prompt", False), **kwargs)


def refusal(*args: str, **kwargs: Any) -> list[str]:
    with pytest.raises(AcoupiError) as caught:
        parse(*args, **kwargs)
    assert caught.value.exit_code == 2
    lines = caught.value.lines()
    assert len(lines) == 3
    assert not any("\n" in line for line in lines)
    return lines
