"""The package costs only what is used of it."""

import subprocess
import sys

import pytest

import acoupi.system


def imported_by(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in result.stdout.split()}


def test_importing_the_package_imports_no_library() -> None:
    names = imported_by("import acoupi.system")

    assert names.isdisjoint({"celery", "pydantic", "jinja2", "numpy", "kombu"})


def test_settings_need_no_celery() -> None:
    assert "celery" not in imported_by("from acoupi.system import Settings")


def test_every_name_is_there() -> None:
    for name in acoupi.system.__all__:
        assert getattr(acoupi.system, name) is not None
    assert set(dir(acoupi.system)) >= set(acoupi.system.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = acoupi.system.nonsense
