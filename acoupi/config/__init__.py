"""Configurations: read from several sources, validated once, written as a whole.

`parse_config_from_args` combines options, variables, a file, earlier answers and answers to
questions; `load_config` and `write_config` read and write files; `get_config_field` and
`set_config_field` work on one value.
"""

from typing import TYPE_CHECKING

from acoupi.lazy import attach

if TYPE_CHECKING:
    from acoupi.config.documents import *
    from acoupi.config.dumping import *
    from acoupi.config.fields import *
    from acoupi.config.parsing import *
    from acoupi.config.questions import *
    from acoupi.config.tree import *

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        ".documents": (
            "Document config_files config_schema_json is_valid_without_secrets load_answers "
            "load_config write_config"
        ),
        ".dumping": "dump_config",
        ".fields": "dump_config_field get_config_field set_config_field",
        ".parsing": "parse_config_from_args",
        ".questions": "Ask Question",
        ".tree": "ConfigTree describe",
    },
)
