"""What a configuration asks for is what its fields declare, never what they are called."""

import datetime
import importlib
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AnyUrl, BaseModel, Field

from acoupi.components.messengers import HTTPConfig, MQTTConfig
from acoupi.programs.fields import Folder, ReadOnly, Server, WrittenFile
from acoupi.programs.templates import (
    BasicProgram,
    BasicProgramConfiguration,
    DetectionProgramConfiguration,
    PathsConfiguration,
)
from acoupi.services.broker import make_app
from acoupi.stack.access import Mount, mounts_for
from acoupi.stack.loading import load_program_class
from acoupi.stack.rights import names_server, places_of, secret_names
from acoupi.stack.settings import CelerySettings, Settings
from acoupi.stack.stack import Service, Stack, stack_of_program

PUBLISHED = Path(__file__).parents[2] / "integration" / "published"
HOME = Path("/home/pi/.acoupi")
PATHS = {
    "tmp_audio": "/disk/spool",
    "recordings": "/disk/kept.2026",
    "db_metadata": "/disk/db/metadata",
}
MESSAGING = {
    "messages_db": "/disk/db/messages",
    "http": {"base_url": "https://example.org", "ca_certificate": "/opt/certs/ca.pem"},
    "mqtt": {
        "host": "broker",
        "use_tls": True,
        "client_certificate": "/opt/certs/own.pem",
        "client_key": "/opt/certs/own.key",
    },
    "file": {"path": "/disk/out/messages"},
}
KEYS = {"/opt/certs/ca.pem", "/opt/certs/own.key", "/opt/certs/own.pem"}
"""Of messengers; the key is a secret."""
SEEN = {
    "recording": {
        "/disk/db": "write",
        "/disk/spool": "write",
        "/disk/kept.2026": "read",
        "/disk/wavs.d": "read",
    },
    "detection": {"/disk/spool": "read", "/disk/wavs.d": "read"},
    "default": {
        "/disk/db": "write",
        "/disk/spool": "write",
        "/disk/kept.2026": "write",
        "/disk/out": "write",
        "/disk/wavs.d": "read",
        **dict.fromkeys(KEYS, "read"),
    },
    "beat": {},
}


def stack_of(settings: Settings, name: str, given: dict[str, Any]) -> Stack:
    program_class = load_program_class(name)
    config = program_class.get_config_schema().model_validate(given)
    celery = CelerySettings()
    program = program_class(program_config=config, app=make_app(settings, celery))
    return stack_of_program(program, settings, celery, name)


def outside(service: Service, home: Path) -> dict[str, str]:
    """What a service sees outside the home, and what it may do there."""
    return {
        str(one.source): "read" if one.read_only else "write"
        for one in service.mounts
        if not one.source.is_relative_to(home)
    }


def with_network(stack: Stack) -> set[str]:
    return {one.name for one in stack.services if one.network}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(PUBLISHED))
    importlib.invalidate_caches()
    return "acoupi_nightjar.program"


@pytest.mark.parametrize("name", ["demo", "connected", "acoupi_nightjar.program"])
@pytest.mark.usefixtures("published")
def test_programs_that_send_have_what_their_types_declare(settings: Settings, name: str) -> None:
    microphone = {"device_name": "default", "simulated": {"path": "/disk/wavs.d"}}

    stack = stack_of(
        settings, name, {"microphone": microphone, "paths": PATHS, "messaging": MESSAGING}
    )

    for service in stack.services:
        assert outside(service, settings.home) == SEEN.get(service.name), service.name
    assert with_network(stack) == {"default"}


@pytest.mark.parametrize("name", ["test", "default", "demo", "connected"])
def test_shipped_programs_have_no_network_and_no_folder_by_default(
    settings: Settings, name: str
) -> None:
    stack = stack_of(settings, name, {})

    assert with_network(stack) == set()
    assert all(outside(service, settings.home) == {} for service in stack.services)


def test_the_weights_of_a_published_model_can_still_be_read(
    settings: Settings, published: str
) -> None:
    """Not marked: its folder is mounted, or only the file where the folder is not to be seen."""
    given = {"microphone": {"device_name": "default"}, "model": {"weights": "/opt/nightjar/w.npz"}}
    seen = stack_of(settings, published, given).service("detection").mounts
    assert Mount(Path("/opt/nightjar"), read_only=True) in seen

    given["model"] = {"weights": f"{settings.home.parent}/w.npz"}
    seen = stack_of(settings, published, given).service("detection").mounts
    assert Mount(settings.home.parent / "w.npz", read_only=True) in seen


# --- paths ----------------------------------------------------------------------------------


class Paths(BaseModel):
    read: Annotated[Path | None, ReadOnly] = None
    reads: list[Annotated[Path, ReadOnly]] = Field(default_factory=list)
    folder: Annotated[Path | None, Folder] = None
    written: Annotated[Path | None, WrittenFile] = None
    own: Path | None = None
    model_key_certificate_labels: Path | None = None
    db_metadata: Path | None = None


def mounts(**paths: Any) -> list[Mount]:
    """What a worker of the default queue is given."""
    return list(mounts_for(["manager"], places_of(Paths.model_validate(paths), HOME)))


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ({"read": "/a/b.bin"}, Mount(Path("/a/b.bin"), read_only=True)),
        ({"reads": ["/a/b"]}, Mount(Path("/a/b"), read_only=True)),
        ({"folder": "/a/b.d"}, Mount(Path("/a/b.d"))),
        ({"written": "/a/b"}, Mount(Path("/a"))),
        ({"own": "/a/b"}, Mount(Path("/a/b"))),
        ({"own": "/a/b.txt"}, Mount(Path("/a"))),
        ({"own": "/etc/b.txt"}, Mount(Path("/etc/b.txt"), read_only=True)),
        ({"own": "/home/pi/b.txt"}, Mount(Path("/home/pi/b.txt"), read_only=True)),
        ({"model_key_certificate_labels": "/a/b"}, Mount(Path("/a/b"))),
        ({"db_metadata": "/a/b"}, Mount(Path("/a/b"))),
    ],
)
def test_a_path_is_mounted_as_its_mark_says(paths: dict[str, Any], expected: Mount) -> None:
    assert mounts(**paths) == [expected]


def test_relative_paths_are_in_no_place() -> None:
    assert mounts(own="b.txt") == []


class Journal(BaseModel):
    path: Annotated[Path, WrittenFile] = Path("journal/messages.jsonl")


def test_a_file_below_the_home_that_is_written_has_its_folder() -> None:
    assert places_of(Journal(), HOME) == {HOME / "journal": {"data"}}
    assert places_of(Journal(path=Path("messages.jsonl")), HOME) == {}


def test_a_certificate_below_the_home_is_mounted_for_who_sends() -> None:
    config = MQTTConfig(
        host="a", use_tls=True, ca_certificate=Path("ca.pem"), client_certificate=Path("config/me")
    )
    assert places_of(config, HOME) == {
        HOME / "ca.pem": {"keys"}, HOME / "config" / "me": {"keys"},
    }  # fmt: skip


def test_a_model_writes_none_of_them_whatever_their_marks() -> None:
    paths = Paths.model_validate(
        {name: f"/{name}/x" for name in ("read", "folder", "written", "own", "db_metadata")}
    )

    found = mounts_for(["model"], places_of(paths, HOME))

    assert {str(one.source) for one in found} == {
        "/read/x",
        "/folder/x",
        "/own/x",
        "/db_metadata/x",
    }
    assert all(one.read_only for one in found)


def test_what_one_field_writes_another_may_read() -> None:
    assert mounts(read="/a/b", folder="/a/b") == [Mount(Path("/a/b"))]


class OwnPaths(PathsConfiguration):
    db_metadata: Path = Path("/disk/db/metadata")
    """A default of its own."""


def test_a_field_of_ours_with_another_default_keeps_its_mark() -> None:
    paths = OwnPaths(tmp_audio=Path("/disk/spool"), recordings=Path("/disk/kept"))

    assert places_of(paths, HOME)[Path("/disk/db")] == {"data"}


# --- networks -------------------------------------------------------------------------------


class Declared(BaseModel):
    upload: Annotated[str | None, Server] = None
    label: str = "heath"


class Silent(BaseModel):
    upload: str = ""
    at: datetime.time = datetime.time(6)
    count: int = 3
    place: Path = Path("/disk")


class Retimed(BasicProgramConfiguration):
    timezone: str = "Europe/Paris"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, False),
        (Declared(upload="hub"), True),
        (Declared(), False),
        (Silent(), False),
        (Silent(upload="hub"), True),
        (Retimed(), False),
        (HTTPConfig(base_url="https://example.org"), True),
        (MQTTConfig(host="broker"), True),
        (DetectionProgramConfiguration(), False),
    ],
)
def test_a_program_without_messengers_has_a_network_if_it_may_need_one(
    config: BaseModel | None, expected: bool
) -> None:
    assert names_server(config) is expected


def test_a_url_of_a_published_program_is_an_address() -> None:
    class Config(BaseModel):
        where: AnyUrl = AnyUrl("https://example.org")

    assert names_server(Config())


class Uploads(BasicProgramConfiguration):
    hostname: str = "hub"


class Uploading(BasicProgram[Uploads]):
    config_schema = Uploads


def test_a_published_program_that_sends_in_its_own_way_keeps_its_network(
    settings: Settings,
) -> None:
    program = Uploading(program_config=Uploads(), app=make_app(settings, CelerySettings()))

    stack = stack_of_program(program, settings, CelerySettings(), "uploading")

    assert with_network(stack) == {"default"}


def of_celery() -> None:
    """A task that a program registers with Celery itself."""


class Following(Uploading):
    def setup(self, config: Uploads) -> None:
        super().setup(config)
        self.add_task(lambda: None, [lambda _: None], queue="celery", name="analyse")


def test_results_go_where_callbacks_are_and_recordings_are_none(settings: Settings) -> None:
    def result_queues(kind: type[Uploading], *, adds: bool = False) -> tuple[str, ...] | None:
        program = kind(program_config=Uploads(), app=make_app(settings, CelerySettings()))
        if adds:
            program.app.task(of_celery, name="of_celery", shared=False)
        stack = stack_of_program(program, settings, CelerySettings(), "uploading")
        return stack.result_queues

    assert result_queues(Uploading) == ()
    assert result_queues(Following) == ("celery",)
    assert result_queues(Uploading, adds=True) is None


def test_secrets_are_named_as_they_are_kept() -> None:
    class Config(BaseModel):
        code: str = Field(default="1234", json_schema_extra={"secret": True})
        other: str = "x"

    assert secret_names(Config()) == ["ACOUPI_CONFIG__CODE"]
