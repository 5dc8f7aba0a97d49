"""Configuration files: JSON, YAML or TOML to read, JSON to write."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from acoupi.commit import is_there, read_whole
from acoupi.config.answers import Answers
from acoupi.config.dumping import SecretSplitter, dumped
from acoupi.config.secrets import (
    SECRETS_FILE,
    WITHHELD,
    WITHHOLD,
    MissingSecret,
    merge_secrets,
    read_secrets,
    read_text,
    referenced_secrets,
    resolve_secrets,
)
from acoupi.config.tree import describe
from acoupi.config.validation import validated
from acoupi.config.values import from_data
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.writing import RenderedFile, write_files

__all__ = [
    "BrokenLineError",
    "ConfigFile",
    "config_files",
    "config_schema_json",
    "is_valid_without_secrets",
    "load_answers",
    "load_config",
    "read_document",
    "write_config",
]

S = TypeVar("S", bound=BaseModel)


# ---- reading


class BrokenLineError(ValueError):
    """A text is broken, and it is known where."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


def read_document(path: Path) -> dict[str, Any]:
    """Return what a configuration file holds, by its suffix JSON, YAML or TOML.

    YAML is read as version 1.2 means it: ``22:30`` is text and ``no`` is not false.

    Raises
    ------
    ConfigurationError
        If it cannot be read, or is broken: with the line.
    """
    readers: dict[str, Callable[[str], Any]] = {
        ".json": _read_json,
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
        ".toml": _read_toml,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigurationError(
            f'cannot tell what kind of file "{path}" is.',
            f"mv {path} {path.with_suffix('.yaml')}",
            why="the name of a configuration file ends in .json, .yaml, .yml or .toml.",
        )
    text = _text_of(path)
    try:
        data = reader(text)
    except (ValueError, RecursionError) as error:
        raise _broken(path, error) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigurationError(
            f'"{path}" is not a configuration.',
            f"edit {path}, line 1",
            why=f"it holds a {type(data).__name__}; it must hold names with values.",
        )
    return data


def _text_of(path: Path) -> str:
    try:
        return read_whole(path, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _broken(path, error) from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f'cannot read the configuration file "{path}".',
            f"ls -l {path}",
            why=f"{getattr(error, 'strerror', None) or error}.",
        ) from error


def _broken(path: Path, error: Exception) -> ConfigurationError:
    kind = {".json": "JSON", ".toml": "TOML"}.get(path.suffix.lower(), "YAML")
    line, why = _line_of(error)
    return ConfigurationError(
        f'cannot read the configuration file "{path}": line {line} is not valid {kind}.',
        f"edit {path}, line {line}",
        why=f"{why}.",
    )


def _line_of(error: Exception) -> tuple[int, str]:
    """Return where a file is broken, and the parser's own text."""
    if isinstance(error, json.JSONDecodeError):
        return error.lineno, error.msg
    if isinstance(error, BrokenLineError):
        return error.line, str(error)
    if isinstance(error, RecursionError):
        return 1, "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return error.object[: error.start].count(b"\n") + 1, "it is not text in UTF-8"
    text = " ".join(str(error).split())
    found = re.search(r"line (\d+)", text)
    return (int(found[1]) if found else 1), re.sub(r" \(at .*\)$", "", text)


def _read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique) if text.strip() else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'"{key}" is there twice')
        found[key] = value
    return found


def _read_yaml(text: str) -> Any:
    from acoupi.config.yaml_documents import read_yaml  # noqa: PLC0415 - services do without

    return read_yaml(text)


def _read_toml(text: str) -> Any:
    import tomllib  # noqa: PLC0415 - services do without

    return tomllib.loads(text)


def load_answers(path: Path, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what a configuration file holds, with its secrets, whatever its schema.

    This is what an earlier setup leaves for the next one. A secret without a value is
    left out. Nothing if there is no such file.

    Raises
    ------
    ConfigurationError
        If it is broken.
    """
    if not is_there(path):
        return {}
    data = read_with_secrets(path, environ)
    without = _without_missing(data)
    return without if isinstance(without, dict) else {}


def read_with_secrets(path: Path, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what a file holds, its secrets from the environment or from beside it."""
    data = read_document(path)
    if not referenced_secrets(data):
        return data
    secrets = read_secrets(path.parent / SECRETS_FILE)
    found = resolve_secrets(data, secrets, os.environ if environ is None else environ)
    return found if isinstance(found, dict) else {}


def _without_missing(data: Any) -> Any:
    if isinstance(data, dict):
        return {
            key: _without_missing(item)
            for key, item in data.items()
            if not isinstance(item, MissingSecret)
        }
    if isinstance(data, list):
        return [_without_missing(item) for item in data if not isinstance(item, MissingSecret)]
    return data


def load_config(path: Path, schema: type[S]) -> S:
    """Return the configuration in a file.

    Raises
    ------
    ConfigurationError
        If it cannot be read, is broken, or is none for this schema: with the setting
        that is wrong. Also if it refers to a secret that is not there.
    """
    path = Path(path)
    answers = Answers(describe(schema))
    answers.merge(read_with_secrets(path), str(path))
    answers.data = from_data(answers.tree, answers.data, answers.problems)
    return validated(schema, answers)


def is_valid_without_secrets(config: BaseModel) -> bool:
    """Return whether a configuration can be loaded where its secrets are withheld."""
    secrets: dict[str, str] = {}
    data = dumped(config, SecretSplitter(secrets))
    if not secrets:
        return True
    answers = Answers(describe(type(config)))
    answers.merge(resolve_secrets(data, {}, {WITHHOLD: WITHHELD}), "")
    try:
        answers.data = from_data(answers.tree, answers.data, answers.problems)
        validated(type(config), answers)
    except AcoupiError:
        return False
    return not answers.problems


# ---- writing


@dataclass(frozen=True)
class ConfigFile:
    """A file to be written: where, what, and who may read it."""

    path: Path
    text: str
    mode: int = 0o644


def config_files(config: BaseModel | None, path: Path) -> list[ConfigFile]:
    """Return the files that hold a configuration: its secrets if it has any, then itself.

    Nothing is written. What is already in ``secrets.env`` beside it stays, except secrets
    that only this configuration had.

    Raises
    ------
    ConfigurationError
        If the configuration has a value that no file can hold.
    """
    path = Path(path)
    secrets: dict[str, str] = {}
    data = {} if config is None else dumped(config, SecretSplitter(secrets))
    text = f"{json.dumps(data, indent=2, ensure_ascii=False)}\n"
    beside = path.parent / SECRETS_FILE
    old = read_text(beside)
    stale = _old_references(path) - set(secrets)
    new = merge_secrets(old, secrets, stale)
    files = [ConfigFile(beside, new, 0o600)] if secrets or new != old else []
    return [*files, ConfigFile(path, text)]


def _old_references(path: Path) -> set[str]:
    try:
        return referenced_secrets(json.loads(read_text(path) or "{}"))
    except (ValueError, RecursionError):
        return set()


def write_config(config: BaseModel | None, path: Path) -> None:
    """Write a configuration as JSON, its secrets into ``secrets.env`` beside it.

    Both are replaced as a whole, and only when all is on the disk: a full disk or a
    power cut leaves the old ones. None writes an empty configuration.

    Raises
    ------
    ConfigurationError
        If the configuration has a value that no file can hold.
    AcoupiError
        If the disk refuses.
    """
    files = config_files(config, Path(path))
    write_files({file.path: RenderedFile(file.text, file.mode) for file in files})


def config_schema_json(schema: type[BaseModel], indent: int = 2) -> str:
    """Return the JSON Schema (2020-12) of a configuration, for editors and for dashboards."""
    return json.dumps(schema.model_json_schema(), indent=indent, ensure_ascii=False)
