"""The opt-in compiled build (hatch_build.py): when it compiles, when it does not, and never a stale one."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load() -> ModuleType:
    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load()


class App:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


def hook() -> Any:
    return build.CompileHook(str(ROOT), {}, None, None, "", "wheel", App())


def initialized(version: str, made: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"force_include": {}, "pure_python": True, "infer_tag": False}
    made.initialize(version, data)
    return data


PURE = {"force_include": {}, "pure_python": True, "infer_tag": False}


@pytest.mark.parametrize("value", [None, "", "0"])
def test_nothing_is_compiled_or_needed_unless_asked_for(monkeypatch: Any, value: str | None):
    monkeypatch.delenv("ITSTRACE_COMPILE", raising=False)
    if value is not None:
        monkeypatch.setenv("ITSTRACE_COMPILE", value)
    for version in ("standard", "editable"):
        assert initialized(version, hook()) == PURE
    assert hook().dependencies() == []


def test_without_a_compiler_the_build_is_pure_and_says_so(monkeypatch: Any):
    monkeypatch.setenv("ITSTRACE_COMPILE", "1")
    monkeypatch.setenv("CC", "no-such-compiler -pthread")
    made = hook()
    assert made.dependencies() == []
    assert initialized("standard", made) == PURE
    [warning] = made.app.warnings
    assert warning == (
        "ITSTRACE_COMPILE is set, and no C compiler was found: this is the pure Python build. "
        "Install one (gcc or clang) or name it in CC."
    )


def test_what_compiling_needs_is_needed_only_then(monkeypatch: Any):
    monkeypatch.setenv("ITSTRACE_COMPILE", "1")
    monkeypatch.setenv("CC", sys.executable)  # something that is there
    assert hook().dependencies() == ["mypy>=2.4,<3", "setuptools"]


def test_an_editable_install_is_never_compiled(monkeypatch: Any, tmp_path: Path):
    # As pip calls it: no wheel comes of it, and no binary lands beside the sources.
    import hatchling.build

    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for package in ("tracer", "replay"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITSTRACE_COMPILE", "1")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(RuntimeError, match="an editable install is never compiled"):
        hatchling.build.build_editable(str(out))
    assert list(out.iterdir()) == []
    monkeypatch.delenv("ITSTRACE_COMPILE")
    assert hatchling.build.build_editable(str(out)).endswith("-py3-none-any.whl")


def test_no_binary_stands_beside_the_sources():
    if "ITSTRACE_EXPECT_COMPILED" in os.environ:
        pytest.skip("here the package is the compiled one")
    found = [path for folder in ("tracer", "replay") for path in (ROOT / folder).rglob("*.so")]
    assert found == []


def test_every_module_that_is_compiled_is_there_and_imported_as_such():
    names = build.sources(ROOT)
    assert {"replay/engine.py", "replay/model/qemu/vm.py", "tracer/log/checks.py"} <= set(names)
    assert not any(name.endswith("flags.py") for name in names)
    compiled = "ITSTRACE_EXPECT_COMPILED" in os.environ
    for name in names:
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
        assert module.__file__ is not None
        assert module.__file__.endswith(".so") == compiled, module.__file__
        assert (ROOT / name).is_file()  # the sources are there, too
