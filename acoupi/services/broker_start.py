"""Starts the redis of a bundle without files on the host: makes passwords, then becomes redis.

``python -m acoupi.system.broker_start -- redis-server OPTIONS``. Each client has a
volume for its password, mounted here at ``/run/keys/NAME``; passwords are made once.
The users and their rights (see `broker_rules`) come from the variable
``ACOUPI_BROKER_RULES``, as JSON.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.services.logs import tell
from acoupi.stack.broker_users import HOST_USER, known_password, users_text
from acoupi.writing import PRIVATE, write_atomic

__all__ = ["RULES_VARIABLE", "main", "make_users"]

RULES_VARIABLE = "ACOUPI_BROKER_RULES"
KEYS = Path("/run/keys")
OWN = Path("/run/acoupi")
USERS = "users.acl"


def make_users(rules: Mapping[str, str], keys: Path, own: Path) -> Path:
    """Make missing passwords and the file of the users; return the path of that file.

    Parameters
    ----------
    rules
        Rights of each client, by name.
    keys
        Folder with a folder for each client.
    own
        Folder for the file of the users, and for the password of the operator.

    Raises
    ------
    AcoupiError
        If a folder is missing or cannot be written.
    """
    files = {name: (own if name == HOST_USER else keys / name) / "password" for name in rules}
    for name, path in files.items():
        if not path.parent.is_dir():
            raise ConfigurationError(
                f"cannot leave a password for {name}.",
                f"mount a volume at {path.parent}, and in the container of {name} at /run/key",
                why=f"there is no folder {path.parent}.",
            )
    passwords = {name: known_password(path) for name, path in files.items()}
    for name, path in files.items():
        if not path.exists() or path.read_text().strip() != passwords[name]:
            write_atomic(path, f"{passwords[name]}\n", PRIVATE)
    write_atomic(own / USERS, users_text(rules, passwords), PRIVATE)
    return own / USERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the users, then become redis; return the exit code if that fails."""
    parser = argparse.ArgumentParser(prog="python -m acoupi.system.broker_start")
    parser.add_argument("--keys", type=Path, default=KEYS, help="folder of the clients' volumes")
    parser.add_argument("--own", type=Path, default=OWN, help="folder that only redis can read")
    parser.add_argument("command", nargs="+", help="redis-server and its options, after --")
    options = parser.parse_args(arguments)
    try:
        rules = json.loads(os.environ.get(RULES_VARIABLE, ""))
        users = make_users(
            {str(name): str(text) for name, text in rules.items()}, options.keys, options.own
        )
        os.execvp(options.command[0], [*options.command, "--aclfile", str(users)])  # noqa: S606
    except (ValueError, AttributeError) as error:
        tell(
            ConfigurationError(
                f"{RULES_VARIABLE} does not list who may use the broker.",
                "render the bundle again",
                why=f"it is not a JSON object: {error}.",
            )
        )
    except OSError as error:
        tell(ConfigurationError(f'cannot run "{options.command[0]}".', why=f"{error.strerror}."))
    except AcoupiError as error:
        tell(error)
    return 2
