"""The test program: prints a line every ten seconds, to show that tasks run."""

from pydantic import BaseModel

from acoupi.errors import HealthCheckError
from acoupi.programs.core.base import AcoupiProgram

__all__ = ["TestConfigSchema", "TestProgram"]

NAME = "test_program"


class TestConfigSchema(BaseModel):
    """Configuration of the test program."""

    name: str = NAME
    """What it prints; its check fails for any other than the default."""


class TestProgram(AcoupiProgram[TestConfigSchema]):
    """Prints a line every ten seconds."""

    config_schema = TestConfigSchema

    def setup(self, config: TestConfigSchema) -> None:
        """Register the task that prints."""

        def test_task() -> None:
            """Print a line."""
            print(f"{config.name}: it runs")

        self.add_task(test_task, schedule=10, queue="celery")

    def check(self, config: TestConfigSchema) -> None:
        """Fail unless the name is the default, to show what a failed check looks like."""
        if config.name != NAME:
            raise HealthCheckError(
                f'the test program is called "{config.name}".',
                f"acoupi config set name {NAME}",
                why=f'it passes its check only as "{NAME}".',
            )
