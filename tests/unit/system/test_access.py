"""What a service may do with each place: the table, and the mounts that follow from it."""

from pathlib import Path
from typing import Any

import pytest

import acoupi
from acoupi.programs.core.workers import AcoupiWorker, WorkerConfig
from acoupi.programs.demo import Program
from acoupi.stack.access import ACCESS, NONE, Access, Job, Place, access_of, mounts_for
from acoupi.stack.doors import door_keeper, door_roles
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Stack, stack_for

PAGE = Path(acoupi.__path__[0]) / "docs" / "security.md"


def stack_of(settings: Settings, *workers: AcoupiWorker) -> Stack:
    class Parted(Program):
        worker_config = WorkerConfig(workers=list(workers))

    config: Any = Program.get_config_schema()()
    return stack_for(Parted, config, settings, queues=["recording", "detection", "celery", "out"])


def seen(stack: Stack, service: str, settings: Settings) -> dict[str, str]:
    """What a service sees of the home, and what it may do there."""
    return {
        str(one.source.relative_to(settings.home)): "read" if one.read_only else "write"
        for one in stack.service(service).mounts
    }


RECORDER = AcoupiWorker(name="recording", queues=["recording"], concurrency=1)
MODEL = AcoupiWorker(name="detection", queues=["detection"])
OWN = {"config": "read", "app.py": "read"}


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


def test_a_model_sees_the_spool_and_its_door(settings: Settings) -> None:
    stack = stack_of(settings, RECORDER, MODEL, AcoupiWorker(name="default", queues=["celery"]))

    assert seen(stack, "detection", settings) == OWN | {
        "log/detection": "write",
        "run/detection": "write",
        "data/cache": "read",
        "data/spool": "read",
        "run/door/detection": "read",
        "waiting/detection": "write",
    }
    assert seen(stack, "beat", settings) == {
        "config": "read",
        "log/beat": "write",
        "run/beat": "write",
    }


def test_a_worker_that_only_sends_is_the_only_one_with_secrets(settings: Settings) -> None:
    stack = stack_of(
        settings,
        RECORDER,
        MODEL,
        AcoupiWorker(name="default", queues=["celery"], network=False),
        AcoupiWorker(name="sending", queues=["out"], network=True),
    )

    assert {one.name for one in stack.services if one.secrets} == {"sending"}
    assert {one.name for one in stack.services if one.network} == {"sending"}
    assert seen(stack, "sending", settings) == OWN | {
        "log/sending": "write",
        "run/sending": "write",
        "data": "write",
        "data/cache": "read",
        "data/recordings": "read",
        "data/spool": "read",
    }
    assert seen(stack, "default", settings)["data"] == "write"
    assert "data/recordings" not in seen(stack, "default", settings), "written, with data/"


@pytest.mark.parametrize(
    "workers",
    [
        [AcoupiWorker(name="all", concurrency=1)],
        [RECORDER, MODEL],
        [RECORDER, MODEL, AcoupiWorker(name="default", queues=["celery"])],
        [RECORDER, AcoupiWorker(name="rest", queues=["detection", "celery"])],
        [AcoupiWorker(name="recording", queues=["recording", "detection"], concurrency=1),
         AcoupiWorker(name="default", queues=["celery"])],
        [RECORDER, AcoupiWorker(name="detection", queues=["detection"], network=True),
         AcoupiWorker(name="default", queues=["celery"])],
    ],
)  # fmt: skip
def test_who_writes_no_store_has_a_door_and_who_answers_there_writes_it(
    settings: Settings, workers: list[AcoupiWorker]
) -> None:
    stack = stack_of(settings, *workers)
    roles, keeper = door_roles(stack), door_keeper(stack)

    for one in stack.workers:
        mounts = seen(stack, one.name, settings)
        has_door = mounts.get(f"run/door/{one.name}") == "read"
        assert has_door == (one.name in roles), one.name
        assert (mounts.get("data") == "write") is not has_door, one.name
    if roles:
        assert keeper is not None
        answered = seen(stack, keeper.name, settings)
        assert all(answered[f"run/door/{name}"] == "write" for name in roles)
        assert all(answered[f"waiting/{name}"] == "write" for name in roles)


def test_who_has_two_jobs_may_do_what_either_may() -> None:
    assert access_of(["recorder", "model"], ["recordings"]) is Access.READ
    assert access_of(["manager", "sender"], ["recordings", "keys"]) is Access.WRITE
    assert access_of(["beat"], ["data"]) is Access.NONE


def test_a_place_below_another_is_mounted_where_less_or_more_may_be_done_with_it() -> None:
    places = {Path("/a"): {"data"}, Path("/a/b"): {"recordings"}, Path("/a/b/c"): {"spool"}}

    found = mounts_for(["recorder"], places)  # type: ignore[arg-type]

    assert [(str(one.source), one.read_only) for one in found] == [
        ("/a", False),
        ("/a/b", True),
        ("/a/b/c", False),
    ]


# --- docs/security.md ---

WORDS: dict[Place, str] = {
    "config": "`config/` without secrets, `app.py`",
    "data": "`data/`, with the databases",
    "spool": "`data/spool/`, or `paths.tmp_audio`",
    "recordings": "`data/recordings/`, or `paths.recordings`",
    "cache": "`data/cache/`: models that libraries downloaded",
    "outbox": "the database or file of messages, if it is not in `data/`",
    "keys": "certificates and keys of messengers",
    "read": "other files that are marked as read only",
    "written": "other files and folders that the configuration names",
}


def place_table() -> str:
    jobs: tuple[Job, ...] = ("recorder", "model", "manager", "sender", "beat", "web")
    rows = [
        ("", *jobs),
        ("---",) * (len(jobs) + 1),
        *(
            (WORDS[place], *(of.get(job, NONE).name.lower() for job in jobs))
            for place, of in ACCESS.items()
        ),
        ("its own folder in `log/` and in `run/`", *(["write"] * len(jobs))),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_page_shows_the_table() -> None:
    assert place_table() in PAGE.read_text()
