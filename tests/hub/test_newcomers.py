"""What somebody who is new to hubs gets wrong, and what is said then."""

import socket

import pytest
from typer.testing import CliRunner

from acoupi.cli.app import app


@pytest.mark.parametrize("service", ["serve", "web"])
def test_a_port_that_is_taken_is_named(service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = ["hub", service, "--database", "postgresql:///none"]
        result = CliRunner().invoke(app, [*words, "--port", str(other.getsockname()[1])])

    assert result.exit_code == 2
    assert "another program listens on that port" in result.output


def test_the_address_of_a_hub_is_not_that_of_its_database() -> None:
    result = CliRunner().invoke(app, ["fleet", "status", "--hub", "https://hub.example.org"])

    assert result.exit_code == 2
    assert "this needs its database" in result.output
