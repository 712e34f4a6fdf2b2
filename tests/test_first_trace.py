"""docs/first-trace.md is carried out as it stands: each command, its output, on a real QEMU."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from replay.cli import main
from tests.support.pages import PROMPT, pattern, sessions
from tests.support.recorded_vm import QEMU, needs_qemu

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/first-trace.md").read_text()
WITHOUT = "-p no:cacheprovider -p no:hypothesispytest -p no:pytest_cov -p no:xdist"  # takes time
QEMU_OF_THE_PAGE = "7.2.22"


class Shell:
    """Runs a page's commands as its reader would, with these sources as the package."""

    def __init__(self, folder):
        self.commands = folder / "commands"
        self.commands.mkdir()
        self._command("itstrace", "replay.cli")
        self._command("pytest", f"pytest {WITHOUT}")
        (self.commands / "python").symlink_to(sys.executable)
        (self.commands / "qemu-system-aarch64").symlink_to(shutil.which(QEMU))
        kept = {
            name: value for name, value in os.environ.items()
            if not name.startswith(("PYTEST", "COV", "GITHUB"))
        }  # fmt: skip
        path = f"{self.commands}:{os.environ['PATH']}"
        self.environment = kept | {"ITSTRACE": str(ROOT), "PYTHONPATH": str(ROOT), "PATH": path}
        self.folder = folder / "guard"
        self.folder.mkdir()

    def _command(self, name, module):
        script = self.commands / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        script.chmod(0o755)

    def run(self, command):
        """Return the exit code and what was printed."""
        if command.startswith("itstrace ") and not command.startswith("itstrace record"):
            return self._here(command)
        done = subprocess.run(
            ["bash", "-uc", command], cwd=self.folder, env=self.environment, text=True, check=False,
            timeout=120, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def _here(self, command):
        """Run a verb in this process, which spares starting one."""
        words, _, otherwise = command.partition(" || ")
        assert otherwise in ("", 'echo "exit code $?"')
        out = io.StringIO()
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(out):
            code = main(shlex.split(words)[1:])
        if code and otherwise:
            return 0, f"{out.getvalue()}exit code {code}\n"
        return code, out.getvalue()


@needs_qemu
def test_every_command_of_the_page_prints_what_it_shows(tmp_path):
    shell = Shell(tmp_path)
    version = re.search(r"version ([\d.]+)", shell.run("qemu-system-aarch64 --version")[1])[1]
    ran = 0
    for command, lines in sessions(PAGE):
        if command.startswith(("pip install", "python3 -m venv")):
            continue
        code, out = shell.run(command)
        out = out.replace(version, QEMU_OF_THE_PAGE)
        counted = "traces/vm.itstrace" not in command
        assert pattern(lines, counted=counted).fullmatch(out), f"$ {command}\n{out}"
        assert code == int("failed in" in out), out
        ran += 1
    assert ran == PAGE.count(PROMPT) - 2 >= 15


def test_an_output_that_is_another_is_seen():
    ((command, lines),) = sessions("x\n\n    $ pytest -q\n    ...\n    1 passed in ...\n\ny\n")
    assert command == "pytest -q"
    assert pattern(lines).fullmatch(".   [100%]\n1 passed in 0.1s\n")
    assert pattern(lines).fullmatch("1 passed in 0.1s\n")
    assert pattern(lines, counted=False).fullmatch("2 passed in 0.1s\n")
    assert not pattern(["at 2: 0x80"], counted=False).fullmatch("at 2: 0x81\n")
    for wrong in (
        "2 passed in 0.1s\n",
        "1 passed in 0.1s\nmore\n",
        "",
        "1 passed, 1 failed in 1s\n",
    ):
        assert not pattern(lines).fullmatch(wrong)
