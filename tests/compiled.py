"""Builds the compiled wheel, installs it into a venv of its own and runs the suite on it: `make compiled`.

Usage: python -m tests.compiled [--only-build] [PYTEST ARGUMENT...]

The suite runs in a copy of the tests beside a copy of what was installed, so that nothing of the
checkout is imported; `tests/test_build.py` looks at what is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".cache" / "compiled"
PYTHON = PLACE / "venv" / "bin" / "python"
TREE = PLACE / "tree"


def build() -> None:
    """Build the wheel and install it where all that the tests need is installed, too."""
    shutil.rmtree(PLACE, ignore_errors=True)
    wheels = PLACE / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)],
        env=os.environ | {"ITSTRACE_COMPILE": "1"},
        check=True,
    )
    [wheel] = wheels.glob("*.whl")
    assert "none-any" not in wheel.name, f"{wheel.name} holds nothing that was compiled"
    venv.create(PYTHON.parent.parent, with_pip=False)
    packages = installed()
    # Behind the venv's own packages, so that the itstrace found is the one just built.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([*pip, "--python", str(PYTHON), "install", "--no-deps", str(wheel)], check=True)


def installed() -> Path:
    """Return the folder of the venv's packages."""
    [packages] = PYTHON.parent.parent.glob("lib/python*/site-packages")
    return packages


def lay_out() -> None:
    """Make the tree that the suite runs in."""
    TREE.mkdir(parents=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in tracked.stdout.decode().split("\0"):
        if name and not name.startswith(("tracer/", "replay/")) and (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    for package in ("tracer", "replay"):
        shutil.copytree(installed() / package, TREE / package)


def main() -> int:
    """Build, and run pytest; its exit status."""
    arguments = sys.argv[1:]
    build()
    lay_out()
    if arguments == ["--only-build"]:
        return 0
    usual = ["-n", "auto", "--dist", "loadfile"]
    return subprocess.run(
        [str(PYTHON), "-m", "pytest", *(arguments or usual)],
        cwd=TREE,
        env=os.environ | {"ITSTRACE_EXPECT_COMPILED": "1"},
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
