"""The opt-in build: `ITSTRACE_COMPILE=1 pip install .` compiles the modules that matter with mypyc.

The same sources, which go into the wheel beside what was made of them. Without the variable, or
where there is no C compiler, the wheel is pure Python. Nothing is ever written into the source tree,
and an editable install is refused: its sources change, and a binary of theirs would go on running.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "ITSTRACE_COMPILE"
# What runs for every event. Left out are layouts of bits, whose fields are descriptors, profiles
# and flags, which are facts, what runs once a command, and classes of which checkpoints and `fresh`
# make objects without calling __init__, which a compiled class with arguments does not allow.
COMPILED = (
    "replay/engine.py", "replay/observing.py", "replay/tally.py",
    "replay/targets/qemu_events.py", "replay/targets/witness.py",
    "replay/model/*.py", "replay/model/kvm/*.py", "replay/model/qemu/*.py",
    "tracer/log/appending.py", "tracer/log/checks.py", "tracer/log/codec.py",
    "tracer/log/frames.py", "tracer/log/plain.py", "tracer/log/source.py", "tracer/log/stream.py",
    # Its engine extends the compiled one, which only a compiled class can.
    "replay/minimize/model_oracle.py",
)  # fmt: skip
LEFT_OUT = (
    "*/__init__.py", "replay/model/effects.py", "replay/model/kvm/flags.py", "replay/model/kvm/profiles.py",
    "replay/model/kvm/invariants.py", "replay/model/kvm/state.py", "replay/model/kvm/view.py",
    "replay/model/qemu/entry_layouts.py",
    "replay/model/qemu/invariants.py", "replay/model/qemu/view.py",
)  # fmt: skip
NEEDS = ("mypy>=2.4,<3", "setuptools")


def asked() -> bool:
    """Return whether a compiled build is wanted."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def sources(root: Path) -> list[str]:
    """Return the modules to compile, as paths below `root`."""
    found = {path.relative_to(root) for pattern in COMPILED for path in root.glob(pattern)}
    return sorted(str(path) for path in found if not any(map(path.match, LEFT_OUT)))


def compiler() -> str | None:
    """Return the C compiler that setuptools would call, or None when there is none."""
    named = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(shlex.split(named)[0])


class CompileHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel where that was asked for."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what a build needs beside hatchling."""
        return list(NEEDS) if asked() and compiler() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a folder of its own, and have the wheel take what comes of it."""
        if not asked():
            return
        if version == "editable":
            raise RuntimeError(
                f"{VARIABLE} is set, and an editable install is never compiled: the binaries would "
                f"go on running when the sources change. Unset it, or install without -e."
            )
        if compiler() is None:
            self.app.display_warning(
                f"{VARIABLE} is set, and no C compiler was found: this is the pure Python build. "
                "Install one (gcc or clang) or name it in CC."
            )
            return
        self._folder = tempfile.TemporaryDirectory()
        built = compile_all(Path(self.root), Path(self._folder.name))
        build_data["force_include"].update({str(path): name for path, name in built})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clear up."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def compile_all(root: Path, folder: Path) -> list[tuple[Path, str]]:
    """Compile a copy of the sources in `folder`; return (binary, its place in the wheel) of each."""
    for package in ("tracer", "replay"):
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(root / "pyproject.toml", folder)
    program = (
        "import sys\n"
        "from mypyc.build import mypycify\n"
        "from setuptools import setup\n"
        "modules = mypycify(sys.argv[1:], opt_level='3', debug_level='0', group_name='itstrace')\n"
        "setup(name='itstrace', packages=[], ext_modules=modules,\n"
        "      script_args=['--quiet', 'build_ext', '--inplace'])\n"
    )
    subprocess.run([sys.executable, "-c", program, *sources(folder)], cwd=folder, check=True)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    binaries = [path for path in folder.rglob(f"*{suffix}") if "build" not in path.parts]
    return [(path, str(path.relative_to(folder))) for path in sorted(binaries)]
