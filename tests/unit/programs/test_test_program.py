"""The test program."""

import pytest
from celery import Celery

from acoupi.errors import HealthCheckError
from acoupi.programs import test as module


def test_it_prints_every_ten_seconds(app: Celery, capsys: pytest.CaptureFixture[str]) -> None:
    program = module.TestProgram(module.TestConfigSchema(), app)

    (entry,) = app.conf.beat_schedule.values()
    program.tasks[entry["task"]].delay()

    assert entry["schedule"].run_every.total_seconds() == 10
    assert capsys.readouterr().out == "test_program: it runs\n"


def test_its_check_fails_under_another_name(app: Celery) -> None:
    config = module.TestConfigSchema(name="other")
    program = module.TestProgram(config, app)

    with pytest.raises(HealthCheckError, match='"other"'):
        program.check(config)


def test_its_check_passes_under_its_own_name(app: Celery) -> None:
    program = module.TestProgram(module.TestConfigSchema(), app)

    program.check(program.config)
