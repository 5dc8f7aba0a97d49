"""Files of variables: one reader, and writing that any reader understands."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi.bundles.variables import chosen_texts, chosen_variables
from acoupi.config.env_files import parse_env, quoted, updated_env
from acoupi.errors import ConfigurationError

texts = st.text(st.one_of(st.sampled_from("'\"\\$`\n\r #=x"), st.characters(codec="utf-8")))


@given(st.dictionaries(st.sampled_from("ABC"), texts), texts)
def test_any_value_comes_back(values: dict[str, str], other: str) -> None:
    text = updated_env("# mine\nZ=1\n", values)

    assert parse_env(text) == {"Z": "1", **values}
    assert parse_env(updated_env(text, {"A": other}, remove={"Z"})) == {**values, "A": other}


@pytest.mark.parametrize("value", ["it's $5", 'say "x"', "$HOME `id` \\ ;&|<>*?[]~#!", "a\\\\b"])
def test_a_shell_reads_what_we_read(value: str) -> None:
    script = f'A={quoted(value)}; printf %s "$A"'

    in_shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)

    assert in_shell.stdout == value
    assert parse_env(f"A={quoted(value)}") == {"A": value}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("export A=b", "b"),
        ("A = b # c", "b"),
        ('A="it\'s \\$5 \\`x\\` \\\\\\$"', "it's $5 `x` \\$"),  # as earlier versions wrote it
        ("A='it'\"'\"'s'", "it's"),
        ("A='it\\'s'", "it's"),
        ("A='${B}'", "${B}"),
    ],
)
def test_what_earlier_versions_and_people_wrote_is_read(line: str, value: str) -> None:
    assert parse_env(f"# first\n{line}\nLAST=1\n") == {"A": value, "LAST": "1"}


def test_lines_that_are_not_changed_stay_as_they_are() -> None:
    text = "# a = b is no line\n\nA=old\n\nB='${HOME}'  # mine\nA=older\nno line\n"

    assert updated_env(text, {"A": "new"}) == (
        "# a = b is no line\n\nA=new\n\nB='${HOME}'  # mine\nno line\n"
    )


def test_what_a_person_wrote_into_a_bundle_is_written_again_as_it_was(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('MINE="${HOME} x"\nPLAIN=1 # note\n')

    assert chosen_texts(tmp_path) == {"MINE": '"${HOME} x"', "PLAIN": "1 # note"}
    assert chosen_variables(tmp_path) == {"MINE": "${HOME} x", "PLAIN": "1"}


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff")

    with pytest.raises(ConfigurationError, match=r"\.env"):
        chosen_variables(tmp_path)
