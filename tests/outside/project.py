"""A project that is not ours: a folder with a venv in which there is the built wheel, and no source of ours.

The dependencies are those that are installed here already, since a test reaches no network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support.scenarios import SCENARIOS

REPOSITORY = Path(__file__).parents[2]
SUPPORT = REPOSITORY / "tests/support"
TWO_LINES = '[tool.pytest.ini_options]\ntestpaths = ["tests", "traces"]\n'
K17 = "S06-K17-F3-mapd-unmap-leaves-its-entry"
IMAGE = """\
name = "linux-6.1.999"
nearest = "linux-6.1.192"
image = "our own build"
assumed = []
[flags]
mapd_unmap_clears_dte = true
"""
DEVICE_TEST = """\
from device import Ram, SmallIts
from guest import boot, look


def test_a_reset_leaves_nothing(its_recorder):
    its = its_recorder(SmallIts(Ram()), profile="qemu-10.0.13")
    boot(its)
    its.reset()
    look(its)
"""


def build(folder: Path) -> Path:
    """Build the wheel, and make a venv that has it and what it needs; return the venv's bin."""
    call([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
          "--no-index", "-w", str(folder), str(REPOSITORY)], folder)  # fmt: skip
    (wheel,) = folder.glob("itstrace-*.whl")
    venv = folder / "venv"
    call([sys.executable, "-m", "venv", "--without-pip", str(venv)], folder)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    call([sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "-q",
          "--no-deps", "--no-index", str(wheel)], folder)  # fmt: skip
    return venv / "bin"


def lay(folder: Path) -> None:
    """Lay out the project: two lines of configuration, a trace, a device with a test."""
    for name in ("tests", "traces"):
        (folder / name).mkdir()
    (folder / "pyproject.toml").write_text(TWO_LINES)
    (folder / "traces/image.toml").write_text(IMAGE)
    (folder / "traces/k17.its.txt").write_text((SCENARIOS / f"{K17}.its.txt").read_text())
    (folder / "tests/test_device.py").write_text(DEVICE_TEST)
    (folder / "tests/device.py").write_text((SUPPORT / "small_its.py").read_text())
    guest = (SUPPORT / "small_guest.py").read_text()
    (folder / "tests/guest.py").write_text(guest.replace("tests.support.small_its", "device"))


def call(command: list[str] | str, folder: Path, path: Path | None = None) -> str:
    """Run a command that must succeed."""
    code, out = run(command, folder, path)
    assert code == 0, out
    return out


def run(command: list[str] | str, folder: Path, path: Path | None = None) -> tuple[int, str]:
    """Run a command, or a line of bash, with the venv's bin first; return its exit code and output."""
    environment = {
        name: item for name, item in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "COV", "GITHUB", "VIRTUAL_ENV"))
    }  # fmt: skip
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    words = ["bash", "-euo", "pipefail", "-c", command] if isinstance(command, str) else command
    done = subprocess.run(
        words, cwd=folder, env=environment, text=True, check=False, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout
