"""Configuration files: JSON, YAML or TOML to read, JSON to write."""

import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from acoupi.commit import is_there, read_whole
from acoupi.config.answers import Answers
from acoupi.config.bounds import (
    require_bounds,
    require_short_keys,
    require_size,
    whole_number,
)
from acoupi.config.dumping import SecretSplitter, differing, dumped, mask
from acoupi.config.env_files import read_env, read_text, updated_env
from acoupi.config.names import PROGRAM, Names
from acoupi.config.problems import OPTION, Origin
from acoupi.config.secrets import (
    SECRETS_FILE,
    WITHHELD,
    WITHHOLD,
    referenced_secrets,
    resolve_secrets,
)
from acoupi.config.tree import describe
from acoupi.config.validation import validated
from acoupi.config.values import from_data
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.writing import PRIVATE, RenderedFile, write_files

__all__ = [
    "Document",
    "config_files",
    "config_schema_json",
    "is_valid_without_secrets",
    "load_answers",
    "load_config",
    "load_document",
    "parsed_settings",
    "read_yaml",
    "write_config",
]

S = TypeVar("S", bound=BaseModel)


# ---- reading


@dataclass(frozen=True)
class Document:
    """The text of a configuration file, from any source.

    Parameters
    ----------
    text
        Its contents.
    suffix
        Its format: .json, .yaml, .yml or .toml.
    origin
        Its name in errors.
    folder
        The folder of its ``secrets.env``; None: it has none.
    """

    text: str
    suffix: str
    origin: str
    folder: Path | None = None
    _section: str | None = None
    _without: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read a file.

        Raises
        ------
        ConfigurationError
            If its name has an unknown extension, or it cannot be read.
        """
        suffix = path.suffix.lower()
        if str(path).startswith(("http:/", "https:/")):
            address = str(path).replace(":/", "://", 1)  # a path has no doubled slash
            raise ConfigurationError(
                f'cannot read the configuration file "{address}".',
                f"curl -fLo {path.name} {address}   (then --config {path.name})",
                why="it is a URL; only containers that set themselves up fetch one "
                "(ACOUPI_CONFIG_URL). This command only reads files.",
            )
        if suffix not in _READERS:
            raise ConfigurationError(
                f'cannot tell what kind of file "{path}" is.',
                f"mv {path} {path.with_suffix('.yaml')}",
                why="the name of a configuration file ends in .json, .yaml, .yml or .toml.",
            )
        try:
            _require_file(path)
            text = read_whole(path, "utf-8-sig")
        except UnicodeDecodeError as error:
            raise _broken(cls("", suffix, str(path)), error) from error
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f'cannot read the configuration file "{path}".',
                f"ls -l {path}",
                why=f"{getattr(error, 'strerror', None) or error}.",
            ) from error
        return cls(text, suffix, str(path), path.parent)

    def parsed(self) -> dict[str, Any]:
        """Return the settings in it, by name; secrets are references.

        YAML is read as version 1.2: ``22:30`` is text and ``no`` is not false.

        Raises
        ------
        ConfigurationError
            If it is not valid, with the line.
        """
        try:
            require_size(len(self.text))
            data = _READERS[self.suffix](self.text)
            require_bounds(data)
        except (ValueError, RecursionError) as error:
            raise _broken(self, error) from error
        if data is None:
            return {}
        if not isinstance(data, dict):
            raise ConfigurationError(
                f'"{self.origin}" is not a configuration.',
                f"edit {self.origin}, line 1",
                why=f"it holds a {type(data).__name__}; it must hold names with values.",
            )
        if self._section is None:
            return {name: value for name, value in data.items() if name != self._without}
        section = data.get(self._section, {})
        if not isinstance(section, dict):
            raise ConfigurationError(
                f'"{self._section}" in {self.origin} is not a section.',
                f"edit {self.origin}: {self._section} = {{}}",
                why="it must hold names with values.",
            )
        return section

    def section(self, name: str) -> "Document":
        """Return the section of that name as a document of its own; empty if there is none."""
        return replace(self, _section=name)

    def without(self, name: str) -> "Document":
        """Return the document without a section."""
        return replace(self, _without=name)

    def with_secrets(self, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the settings in it, with secrets from the environment or the file beside it."""
        data = self.parsed()
        if not referenced_secrets(data):
            return data
        secrets = read_env(self.folder / SECRETS_FILE) if self.folder else {}
        found = resolve_secrets(data, secrets, os.environ if environ is None else environ)
        return found if isinstance(found, dict) else {}


def _require_file(path: Path) -> None:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    require_size(found.st_size)


def _broken(document: Document, error: Exception) -> ConfigurationError:
    if not document.text.strip("\0 \t\r\n") and not isinstance(error, UnicodeDecodeError):
        return _emptied(document)
    kind = {".json": "JSON", ".toml": "TOML"}.get(document.suffix, "YAML")
    line, why = _line_of(error)
    return ConfigurationError(
        f'cannot read the configuration file "{document.origin}": line {line} is not valid {kind}.',
        f"edit {document.origin}, line {line}",
        why=f"{why}.",
    )


def _emptied(document: Document) -> ConfigurationError:
    held = "holds nothing but zeros" if "\0" in document.text else "is empty"
    name = shlex.quote(document.origin)
    return ConfigurationError(
        f'the configuration file "{document.origin}" {held}.',
        f"restore a copy of it, or start afresh: mv {name} {name}.damaged && acoupi setup",
        why="a power cut or a worn-out card can cause this; its contents are lost.",
    )


def _line_of(error: Exception) -> tuple[int, str]:
    """Return the line of an error in a file, and the parser's message."""
    if hasattr(error, "lineno"):
        return error.lineno, getattr(error, "msg", str(error))
    if isinstance(error, RecursionError):
        return 1, "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return error.object[: error.start].count(b"\n") + 1, "it is not text in UTF-8"
    text = " ".join(str(error).split())
    found = re.search(r"line (\d+)", text)
    return (int(found[1]) if found else 1), re.sub(r" \(at .*\)$", "", text)


def _read_json(text: str) -> Any:
    # Not even an empty configuration is written as an empty file: it is damaged, not absent.
    return json.loads(text, object_pairs_hook=_unique, parse_int=whole_number)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'"{key}" occurs twice')
        found[key] = value
    return found


def read_yaml(text: str) -> Any:
    """Return what a text in YAML holds; see `acoupi.config.yaml_documents.read_yaml`."""
    from acoupi.config import yaml_documents  # noqa: PLC0415 - most commands and services do without

    return yaml_documents.read_yaml(text)


def _read_toml(text: str) -> Any:
    import tomllib  # noqa: PLC0415 - services do without

    require_short_keys(text)
    return tomllib.loads(text)


_READERS: dict[str, Callable[[str], Any]] = {
    ".json": _read_json,
    ".yaml": read_yaml,
    ".yml": read_yaml,
    ".toml": _read_toml,
}


def load_answers(path: Path, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the contents of a configuration file, with its secrets, without a schema.

    An earlier setup leaves these for the next one. A secret without a value is a
    `MissingSecret`, which validation refuses: ``secrets.env`` may be damaged. Nothing if
    there is no such file.

    Raises
    ------
    ConfigurationError
        If it is not valid.
    """
    if not is_there(path):
        return {}
    found = Document.read(path).with_secrets(environ)
    return found if isinstance(found, dict) else {}


def load_config(path: Path, schema: type[S]) -> S:
    """Return the configuration in a file.

    Raises
    ------
    ConfigurationError
        If it cannot be read, is not valid, or does not fit this schema, with the setting that is
        wrong; or if it refers to a missing secret.
    """
    return load_document(Document.read(Path(path)), schema)


def load_document(
    document: Document,
    schema: type[S],
    *,
    names: Names = PROGRAM,
    only: Collection[str] | None = None,
) -> S:
    """Return the configuration in a document; see `load_config`.

    Parameters
    ----------
    names
        The names of its settings in errors.
    only
        Leave out all other sections.
    """
    data = document.with_secrets()
    answers = Answers(describe(schema, names))
    known = data if only is None else {name: data[name] for name in data if name in only}
    answers.merge(known, Origin("file", document.origin))
    answers.data = from_data(answers.tree, answers.data, answers.problems)
    return validated(schema, answers)


def is_valid_without_secrets(config: BaseModel) -> bool:
    """Return whether a configuration can be loaded without its secrets."""
    secrets: dict[str, str] = {}
    data = dumped(config, SecretSplitter(secrets))
    if not secrets:
        return True
    answers = Answers(describe(type(config)))
    answers.merge(resolve_secrets(data, {}, {WITHHOLD: WITHHELD}), OPTION)
    try:
        answers.data = from_data(answers.tree, answers.data, answers.problems)
        validated(type(config), answers)
    except AcoupiError:
        return False
    return not answers.problems


# ---- writing


def config_files(
    config: BaseModel | None,
    path: Path,
    others: Mapping[Path, RenderedFile] | None = None,
    *,
    names: Names = PROGRAM,
    usual: BaseModel | None = None,
    leave_out: Collection[str] = (),
    unread: Mapping[str, Any] | None = None,
) -> dict[Path, RenderedFile]:
    """Return the files that hold a configuration: its secrets if it has any, then itself.

    Nothing is written. Existing lines of ``secrets.env`` beside it stay, except secrets
    that only this configuration had.

    Parameters
    ----------
    others
        Files that will be written with it; ``secrets.env`` may be among them.
    names
        Prefix of the names of its secrets.
    usual
        Leave out values that are the same in this one.
    leave_out
        Names of settings without an answer: a later setup asks for them again.
    unread
        Sections to keep in the file as they stand there: the configuration does not have them.

    Raises
    ------
    ConfigurationError
        If the configuration has a value that no file can hold.
    """
    path = Path(path)
    secrets: dict[str, str] = {}
    data = {} if config is None else dumped(config, SecretSplitter(secrets, names))
    for name in leave_out:
        data.pop(name)
    if usual is not None:
        data = differing(describe(type(usual)), data, dumped(usual, mask))
    data = {**data, **(unread or {})}
    beside = path.parent / SECRETS_FILE
    old = others[beside].text if others and beside in others else read_text(beside)
    gone = _old_references(path) - set(secrets) - referenced_secrets(unread or {})
    new = updated_env(old, secrets, remove=gone)
    files = {beside: RenderedFile(new, PRIVATE)} if secrets or new != old else {}
    text = f"{json.dumps(data, indent=2, ensure_ascii=False)}\n"
    return {**files, path: RenderedFile(text)}


def _old_references(path: Path) -> set[str]:
    try:
        return referenced_secrets(json.loads(read_text(path) or "{}"))
    except (ValueError, RecursionError):
        return set()


def parsed_settings(path: Path) -> dict[str, Any]:
    """Return what a file of ``config/`` says; nothing where it is not there."""
    return Document.read(path).parsed() if is_there(path) else {}


def write_config(config: BaseModel | None, path: Path) -> None:
    """Write a configuration as JSON, its secrets into ``secrets.env`` beside it.

    Both are replaced together, and only when all is on the disk: a full disk or a power
    cut leaves the old ones. None writes an empty configuration.

    Raises
    ------
    ConfigurationError
        If the configuration has a value that no file can hold.
    AcoupiError
        After a disk error.
    """
    write_files(config_files(config, Path(path)))


def config_schema_json(schema: type[BaseModel], indent: int = 2) -> str:
    """Return the JSON Schema (2020-12) of a configuration, for editors and for dashboards."""
    return json.dumps(schema.model_json_schema(), indent=indent, ensure_ascii=False)
