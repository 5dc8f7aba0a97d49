"""Configurations: read from anywhere, validated once, written whole.

`parse_config_from_args` puts options, variables, a file, earlier answers and answers to
questions together; `load_config` and `write_config` keep them; `get_config_field` and
`set_config_field` work on one value.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acoupi.config.documents import (
        Document,
        config_files,
        config_schema_json,
        is_valid_without_secrets,
        load_answers,
        load_config,
        write_config,
    )
    from acoupi.config.dumping import dump_config
    from acoupi.config.fields import dump_config_field, get_config_field, set_config_field
    from acoupi.config.parsing import parse_config_from_args
    from acoupi.config.questions import Ask, Question
    from acoupi.config.tree import ConfigTree, describe

__all__ = [
    "Ask",
    "ConfigTree",
    "Document",
    "Question",
    "config_files",
    "config_schema_json",
    "describe",
    "dump_config",
    "dump_config_field",
    "get_config_field",
    "is_valid_without_secrets",
    "load_answers",
    "load_config",
    "parse_config_from_args",
    "set_config_field",
    "write_config",
]

_MODULES = {
    "Ask": "questions",
    "config_files": "documents",
    "config_schema_json": "documents",
    "ConfigTree": "tree",
    "describe": "tree",
    "dump_config": "dumping",
    "dump_config_field": "fields",
    "get_config_field": "fields",
    "is_valid_without_secrets": "documents",
    "load_answers": "documents",
    "load_config": "documents",
    "parse_config_from_args": "parsing",
    "Question": "questions",
    "Document": "documents",
    "set_config_field": "fields",
    "write_config": "documents",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for (PEP 562): services need one."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
