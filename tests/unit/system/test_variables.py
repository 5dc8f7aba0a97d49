"""Variables of a sensor: those that there are, and what is meant by others."""

import pytest

from acoupi.errors import ConfigurationError
from acoupi.stack.variables import VARIABLES, check_known, is_source
from acoupi.system import Settings


def test_every_variable_of_the_table_is_known() -> None:
    check_known({one.name + ("X" if one.is_prefix else ""): "1" for one in VARIABLES})


def test_every_setting_of_a_home_is_in_the_table() -> None:
    names = {one.name for one in VARIABLES}

    assert {f"ACOUPI_{name.upper()}" for name in Settings.model_fields} <= names
    assert len(names) == len(VARIABLES)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ACOUPI_PROGRM", "ACOUPI_PROGRAM"),
        ("ACOUPI_DEPLOYMENT__LATITUD", "ACOUPI_DEPLOYMENT__LATITUDE"),
        ("ACOUPI_CONFIG_ULR", "ACOUPI_CONFIG_URL"),
        ("acoupi_device_id", "ACOUPI_DEVICE_ID"),
        ("ACOUPI_QQQQQQ", "remove it"),
    ],
)
def test_the_nearest_is_named(given: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=given) as caught:
        check_known({given: "1"})

    assert caught.value.help == meant


def test_variables_of_others_and_empty_ones_are_let_be() -> None:
    check_known({"BALENA_DEVICE_UUID": "1", "PATH": "/bin", "ACOUPI_NONSENSE": ""})


def test_a_source_is_what_the_configuration_is_made_from() -> None:
    assert is_source("ACOUPI_CONFIG__RECORDING__DURATION")
    assert is_source("ACOUPI_DEPLOYMENT__NAME")
    assert not is_source("ACOUPI_LOG_LEVEL")
    assert not is_source("ACOUPI_SERVICE")
