"""Every setting of the programs that are shipped says what it means."""

import pytest

from acoupi.config.tree import describe
from acoupi.stack.loading import load_program_class


@pytest.mark.parametrize("name", ["default", "connected", "demo", "sounds", "test"])
def test_every_setting_has_a_meaning(name: str) -> None:
    schema = load_program_class(f"acoupi.programs.{name}").get_config_schema()

    settings = [place for place in describe(schema).walk() if not place.is_section]

    assert [place.name for place in settings if not place.description] == []
