"""The showcase in traces/bugs: its folders, its tables, and how a kernel is asked for a row of one.

python -m tests.support.bugs F1      # the rows of traces/bugs/F1/verdicts.md, from the kernels here
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from replay import cli, kernels
from replay.builds import rule
from replay.commands.git_bisect import wanted
from replay.ruling import BAD, CANNOT, Signature
from replay.targets.spec import Targets, parse
from tests.support import kselftest
from tests.support.captures import TRACES
from tracer.log.opening import open_trace

BUGS = TRACES / "bugs"
NAMES = ("F1", "F2", "F3", "F4")
# What a C file asks, where the trace alone does not suggest it: QEMU's order of writes is the bug,
# so that there is nothing to compare with but what the kernel answered to it.
ASKS = {"F2": ("--ask", "outputs")}
# More C files of a folder, and of which trace each is made.
MORE = {"F1": {"F1-next-boot.c": TRACES / "scenarios/F1-lpi-outlives-ctrl-reset.its.txt"}}
_ROW = re.compile(r"^\| (linux-[\w.]+|QEMU [^|]+?) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Bug:
    """One folder."""

    name: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return BUGS / self.name

    def file(self, end: str) -> Path:
        """Return a file of the bug's name."""
        return self.folder / f"{self.name}{end}"

    @property
    def life(self) -> Path:
        """The life that it was found in."""
        return self.file("-life.itstrace")

    @property
    def least(self) -> Path:
        """The minimised trace."""
        return self.file("-least.its.txt")

    @property
    def signature(self) -> Signature:
        """What is stored with it."""
        return wanted(argparse.Namespace(signature=None, trace=str(self.least)))

    def text(self, name: str) -> str:
        """Return a page of the folder."""
        return (self.folder / name).read_text()

    def rows(self) -> dict[str, tuple[str, str]]:
        """Return image -> (what itstrace says of it, what the C file does there)."""
        return {
            row[1]: (row[2].strip(), row[3].strip())
            for row in _ROW.finditer(self.text("verdicts.md"))
        }


def asked(bug: Bug, kernel: kernels.Kernel) -> tuple[str, str]:
    """Return the row of a kernel, from the kernel."""
    return _ruled(bug, kernel), _ran(bug, kernel)


def _ruled(bug: Bug, kernel: kernels.Kernel) -> str:
    if bug.name in ASKS:
        return "not the kernel's"
    with open_trace(str(bug.least)) as reader:
        header = reader.header
    with Targets() as made:
        spec = parse(f"kvm:{kernel.path}")
        ruling = rule(made, spec, str(bug.least), header, bug.signature, strict=False)
    if ruling.word == CANNOT:
        return f"{ruling.word}: {ruling.why}"
    return f"**{ruling.word}**" if ruling.word == BAD else ruling.word


def _ran(bug: Bug, kernel: kernels.Kernel) -> str:
    tap = kselftest.run(bug.file(".c"), kernel.path)
    if tap.died_in:
        return f"the host dies in {tap.died_in}"
    if not tap.whole():
        return "it did not end"
    return f"not ok: {'; '.join(map(_unnumbered, tap.bad.values()))}" if tap.bad else "ok"


def _unnumbered(line: str) -> str:
    return re.sub(r"^event \d+: ", "", line)


def image(kernel: kernels.Kernel) -> str:
    """Return the name that a table has for a kernel."""
    return f"linux-{kernel.version.partition('-')[0]}"


def exports(bug: Bug) -> dict[Path, list[str]]:
    """Return C file -> the arguments of `itstrace` that make it."""
    made = {f"{bug.name}.c": bug.least} | MORE.get(bug.name, {})
    asks = ASKS.get(bug.name, ())
    return {
        bug.folder / name: ["export", str(trace), "--to", "kvm-c", *asks]
        for name, trace in made.items()
    }


def main(names: Sequence[str]) -> None:
    """Print the rows of the bugs that are named, or write their C files."""
    if names == ["export"]:
        for name in NAMES:
            for path, words in exports(Bug(name)).items():
                cli.main([*words, "-o", str(path), "--force"])
        return
    for kernel in sorted(kernels.here(), key=lambda each: _numbers(each.version)):
        for name in names or NAMES:
            print(f"| {image(kernel)} | {' | '.join(asked(Bug(name), kernel))} |", flush=True)


def _numbers(version: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", version)]


if __name__ == "__main__":
    main(sys.argv[1:])
