"""A target that is added as the house tells it: by a package, or one more of acoupi's."""

import ast
from pathlib import Path

import pytest

import acoupi
from acoupi.system import Settings, available_targets, get_status, setup_program, target_for
from acoupi.targets import HIDDEN
from tests.packages import install

RUNIT = '''
"""Services of runit on another machine."""

from pathlib import Path, PurePath

from acoupi.targets.elsewhere import ElsewhereTarget, write_folder
from acoupi.writing import RenderedFile


class RunitTarget(ElsewhereTarget):
    name = "runit"

    def files(self, stack):
        lines = [" ".join(("python", *one.command)) for one in stack.services]
        return {PurePath("runit/run"): RenderedFile("\\n".join([*lines, ""]))}

    def render_folder(self, folder, stack, *, packages=(), force=False):
        write_folder(
            folder, self.files(stack), stack, self.settings, target=self.name, force=force
        )
        return f"scp -r {folder} SENSOR:/etc/sv"

    def refusal(self, act):
        return "this home was set up for another machine.", f"ssh SENSOR sv {act}"

    @property
    def whereabouts(self):
        return "it runs under runit: ssh SENSOR sv status"
'''


@pytest.fixture
def _runit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with that target, installed."""
    places = {"acoupi.targets": {"runit": "target_of_runit:RunitTarget"}}
    install(monkeypatch, tmp_path / "package", places, {"target_of_runit.py": RUNIT})


@pytest.mark.usefixtures("_runit")
def test_one_that_is_only_rendered_for_needs_no_more_than_it_is_told(home: Path) -> None:
    settings = Settings(home=home)
    setup_program(settings, "demo", target="runit", environ={})

    state = get_status(settings)

    assert "acoupi.system.celery.worker recording\n" in (home / "runit" / "run").read_text()
    assert target_for(settings).next_step == "ssh SENSOR sv start", "what acoupi cannot do itself"
    assert (state.services.acoupi, state.services.beat) == ("unknown", "unknown")


def _names_compared(tree: ast.AST, names: set[str]) -> set[str]:
    """Return the targets that a module compares with, keeps a fact of each about, or renames."""
    found: set[str] = set()
    for node in ast.walk(tree):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            parts = [*ast.walk(node)]  # type: ignore[list-item]
        elif isinstance(node, ast.Assign):
            parts = [node.value]
        elif isinstance(node, ast.Dict):
            keys = [one for one in node.keys if isinstance(one, ast.Constant)]
            parts = [*keys] if sum(one.value in names for one in keys) > 1 else []
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        found |= {
            str(one.value) for one in parts if isinstance(one, ast.Constant) and one.value in names
        }
    return found


def test_nobody_else_tells_targets_apart_by_their_names() -> None:
    """A new one would be missing there: a `Target` answers what is asked of it."""
    package = Path(acoupi.__file__).parent
    names = {*available_targets(), *HIDDEN} - {"provisioned"}  # whose room is no other's
    found = {
        str(file.relative_to(package)): told
        for file in package.rglob("*.py")
        if not file.is_relative_to(package / "targets")
        and (told := _names_compared(ast.parse(file.read_bytes()), names))
    }

    # What a hub runs on is chosen by itself, not one of these targets.
    assert found == {"hub/bundle/choices.py": {"kubernetes"}}


@pytest.mark.parametrize(
    "text",
    ["a == 'compose'", "a in ('x', 'balena')", "A = 'systemd'", "A = {'process': 1, 'systemd': 2}"],
)
def test_such_names_are_found(text: str) -> None:
    assert _names_compared(ast.parse(text), {"process", "systemd", "compose", "balena"})
