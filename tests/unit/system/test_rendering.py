"""Rendering, the manifest, and what somebody edited."""

from pathlib import Path, PurePath

import jinja2
import pytest

from acoupi.bundles.rendering import (
    Manifest,
    check_not_edited,
    compare_files,
    edited_files,
    render_tree,
)
from acoupi.errors import ConfigurationError
from acoupi.stack.stack import Service
from acoupi.writing import RenderedFile, write_files


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    (folder / "bin").mkdir(parents=True)
    (folder / "_part.sh.jinja2").write_text("echo {{ word | sh }}\n")
    (folder / "bin" / "say.sh.jinja2").write_text('{% include "_part.sh.jinja2" %}\n')
    (folder / "note.txt.jinja2").write_text("{{ word }}\r\n")
    (folder / "README.md").write_text("not a template")
    return folder


def test_the_tree_of_templates_is_the_tree_of_files(templates: Path) -> None:
    files = render_tree(templates, {"word": "it's"})

    assert list(files) == [PurePath("bin/say.sh"), PurePath("note.txt")]
    assert files[PurePath("bin/say.sh")] == RenderedFile("echo 'it'\"'\"'s'\n", 0o755)
    assert files[PurePath("note.txt")] == RenderedFile("it's\n", 0o644)


def test_a_name_that_is_missing_is_an_error(templates: Path) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render_tree(templates, {})


def test_only_a_part_of_the_tree_can_be_asked_for(templates: Path) -> None:
    assert list(render_tree(templates, {"word": "x"}, below=["bin/"])) == [PurePath("bin/say.sh")]


MANIFEST = Manifest(
    "1.0",
    "process",
    "default",
    {"a": "1"},
    (Service("recording", "recorder", (), ("q",), stop_grace=5.0),),
)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / ".generated.json"

    write_files({path: MANIFEST.to_file()})

    assert Manifest.read(path) == MANIFEST
    assert Manifest.read(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"acoupi": 1}', "\x00", '{"files": 3'])
def test_a_broken_manifest_is_said_to_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".generated.json"
    path.write_text(text)

    with pytest.raises(ConfigurationError, match="cannot read") as caught:
        Manifest.read(path)

    assert len(caught.value.lines()) == 3


def manifest_of(files: dict[PurePath, RenderedFile]) -> Manifest:
    return Manifest(
        "1", "process", "p", {path.as_posix(): one.digest for path, one in files.items()}
    )


FILES = {PurePath("app.py"): RenderedFile("one\n"), PurePath("bin/x.sh"): RenderedFile("two\n")}
NEW = {**FILES, PurePath("app.py"): RenderedFile("three\n")}


def write(home: Path, files: dict[PurePath, RenderedFile]) -> None:
    write_files({home / path: one for path, one in files.items()})


def test_files_as_we_wrote_them_are_not_edited(tmp_path: Path) -> None:
    write(tmp_path, FILES)

    assert edited_files(tmp_path, NEW, manifest_of(FILES)) == []


def test_an_edited_file_is_named_and_stops_a_setup(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "bin" / "x.sh").write_text("mine\n")

    with pytest.raises(ConfigurationError, match=r"bin/x\.sh") as caught:
        check_not_edited(tmp_path, NEW, manifest_of(FILES))

    assert "--force" in (caught.value.help or "")


def test_a_file_of_somebody_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine\n")

    assert edited_files(tmp_path, FILES, None) == [PurePath("app.py")]


def test_a_file_that_holds_the_very_same_is_nobodys(tmp_path: Path) -> None:
    write(tmp_path, FILES)

    assert edited_files(tmp_path, FILES, None) == []


def test_an_edited_file_that_would_go_counts_too(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "bin" / "x.sh").write_text("mine\n")

    remaining = {PurePath("app.py"): FILES[PurePath("app.py")]}

    assert edited_files(tmp_path, remaining, manifest_of(FILES)) == [PurePath("bin/x.sh")]


def test_a_comparison_says_what_would_change(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    wanted = {
        PurePath("app.py"): RenderedFile("three\n"),
        PurePath("config/env"): RenderedFile("A=1\n"),
    }

    diffs = compare_files(tmp_path, wanted, manifest_of(FILES))

    assert {one.path.relative_to(tmp_path).as_posix(): one.kind for one in diffs} == {
        "app.py": "changed",
        "bin/x.sh": "removed",
        "config/env": "new",
    }
    assert diffs[0].diff == "--- a/app.py\n+++ b/app.py\n@@ -1 +1 @@\n-one\n+three\n"
