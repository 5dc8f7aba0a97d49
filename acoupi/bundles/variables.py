"""``.env`` of a bundle: the choices of a person or of acoupi's commands."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from acoupi.config.env_files import quoted, read_env, read_text, updated_env, written_env
from acoupi.writing import READABLE, write_atomic

__all__ = ["ENV_FILE", "choose", "chosen_texts", "chosen_variables"]

ENV_FILE = PurePath(".env")


def chosen_variables(home: Path, names: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables in ``.env``; those of `names` from the environment if it has them.

    Raises
    ------
    DeviceError
        If it cannot be read.
    """
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    return read_env(home / ENV_FILE) | given


def chosen_texts(home: Path, names: Iterable[str] = ()) -> dict[str, str]:
    """Return the same with quotes as written, so that it can be written again."""
    given = {name: quoted(os.environ[name]) for name in names if os.environ.get(name)}
    return written_env(read_text(home / ENV_FILE)) | given


def choose(home: Path, variables: Mapping[str, str]) -> None:
    """Write choices into ``.env``, each on the line where its default or an older choice stands.

    Raises
    ------
    DeviceError
        If it cannot be written.
    """
    path = home / ENV_FILE
    mode = path.stat().st_mode & 0o7777 if path.exists() else READABLE
    write_atomic(path, updated_env(read_text(path), variables, over_defaults=True), mode)
