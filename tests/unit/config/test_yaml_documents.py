"""What is written as YAML is read by another parser, of YAML 1.1, as it was."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from acoupi.config.yaml_documents import read_yaml, write_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
WORDS = st.sampled_from(
    ["no", "Yes", "on", "n", "null", "0700", "1e3", "", "~", "a: b", "- a", "$$x"]
)
VALUES = st.recursive(
    TEXTS | WORDS | st.integers(-(10**6), 10**6) | st.booleans(),
    lambda some: st.lists(some, max_size=4) | st.dictionaries(TEXTS | WORDS, some, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(TEXTS | WORDS, VALUES, max_size=4), min_size=1, max_size=3))
def test_documents_are_read_as_they_were(documents: list[dict[str, object]]) -> None:
    text = write_yaml(documents)

    assert list(yaml.safe_load_all(text)) == documents
    if len(documents) == 1:
        assert read_yaml(text) == documents[0]


def test_what_stands_at_several_places_is_written_in_full() -> None:
    same = {"a": ["b"]}

    assert write_yaml([{"one": same, "two": same}]).count("a:") == 2
