"""Configurations: read from anywhere, validated once, written whole.

`parse_config_from_args` puts options, variables, a file, earlier answers and answers to
questions together; `load_config` and `write_config` keep them; `get_config_field` and
`set_config_field` work on one value.
"""

from acoupi.system.config.documents import (
    ConfigFile,
    config_files,
    config_schema_json,
    load_answers,
    load_config,
    read_document,
    write_config,
)
from acoupi.system.config.dumping import dump_config
from acoupi.system.config.fields import dump_config_field, get_config_field, set_config_field
from acoupi.system.config.parsing import parse_config_from_args
from acoupi.system.config.questions import Ask, Question, questions
from acoupi.system.config.secrets import read_secrets
from acoupi.system.config.tree import ConfigTree, describe

__all__ = [
    "Ask",
    "ConfigFile",
    "ConfigTree",
    "Question",
    "config_files",
    "config_schema_json",
    "describe",
    "dump_config",
    "dump_config_field",
    "get_config_field",
    "load_answers",
    "load_config",
    "parse_config_from_args",
    "questions",
    "read_document",
    "read_secrets",
    "set_config_field",
    "write_config",
]
