"""Plants each fault of the catalogue in a copy of the tree and sees whether its killer notices.

Usage: run.py [--list] [--only PATTERN] [--jobs N]

First every killer runs on the copy as it is, and must pass. Then, for each fault, one line of one
file is changed in the copy, its killer runs until it first disagrees, and the file is put back.
The last line is `mutants: N killed of M`; exit status 1 if one survives, or if one is not a fault
but an error: an exception is no wrong answer.
"""

from __future__ import annotations

import argparse
import compileall
import fnmatch
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.mutants.catalogue import FAULTS, VECTORS, Fault

ROOT: Final = Path(__file__).resolve().parent.parent.parent
COPIED: Final = ("tracer", "replay", "tests", "traces", "pyproject.toml")
FAMILIES: Final = ("kvm", "qemu")
TIMEOUT_S: Final = 120
# The vectors that see most for the least time come first; what is not named comes last.
QUICK: Final = ("flags.*", "sharp.*", "edge.*", "deepsafe2.*", "wide2.*", "edu.*", "deep2.*")

KILLED: Final = "killed"
SURVIVED: Final = "SURVIVED"
BROKEN: Final = "BROKEN"


class Outcome(NamedTuple):
    """What became of a fault: a word, and what noticed it or went wrong."""

    word: str
    detail: str


# -- the killers, each a process of its own in a copy of the tree


def vector_files(root: Path, family: str) -> list[Path]:
    """Return the vector files of a family, the quick ones first."""

    def place(path: Path) -> tuple[int, int]:
        for index, pattern in enumerate(QUICK):
            if fnmatch.fnmatch(path.name, pattern):
                return index, path.stat().st_size
        return len(QUICK), path.stat().st_size

    return sorted((root / "tests/vectors" / family).glob("*.gz"), key=place)


def replay_vectors(family: str) -> int:
    """Replay a family's vectors until an answer differs: the process behind `vectors`."""
    import replay
    from replay.profiles import find
    from tests import conformance

    if ROOT not in Path(replay.__file__ or "").parents:
        sys.exit(f"{replay.__file__} is not the copy in {ROOT}")

    class Differs(Exception):
        """The first difference; nothing after it matters."""

    class Run(conformance.Run):
        def differ(self, place: str, expected: str, got: str) -> None:
            raise Differs(f"{place}: expected {expected!r:.120}, got {got!r:.120}")

    for path in vector_files(ROOT, family):
        profile, note = find(conformance.profile_of(path))
        if note:
            sys.exit(note)
        try:
            conformance.replay_file(path, profile, Run())
        except Differs as difference:
            print(difference)
            return 1
    return 0


def killer_command(root: Path, fault: Fault) -> list[str]:
    """Return the command that runs a fault's killer; it exits with 1 when it notices."""
    if fault.killer != VECTORS:
        return _pytest([fault.killer])
    return [sys.executable, str(root / "tests/mutants/run.py"), "--replay", family_of(fault)]


def _pytest(nodes: Iterable[str]) -> list[str]:
    options = ["-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", *options, *nodes]


def family_of(fault: Fault) -> str:
    """Return whose vectors see a fault."""
    return fault.name.partition(".")[0]


def run_in(
    root: Path, command: Sequence[str], timeout_s: int = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run a command in a copy of the tree, with the modules of that copy."""
    environment = os.environ | {
        "PYTHONPATH": str(root),
        # A file patched twice in a second has the same size and time: never trust a cache by these.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=timeout_s,
        check=False,
    )  # fmt: skip


# -- planting


def copy_tree(target: Path) -> Path:
    """Copy what the killers need, compiled so that a change of a source always counts."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target / name, ignore=ignored)
        else:
            shutil.copy2(source, target / name)
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(target, quiet=1, invalidation_mode=checked)
    return target


@contextmanager
def planted(root: Path, fault: Fault) -> Iterator[None]:
    """Put the wrong line into the copy, and the right one back."""
    path = root / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1 or "\n" in fault.old + fault.new:
        raise ValueError(f"{fault.name}: the old text must be part of one line of {fault.file}")
    wrong = text.replace(fault.old, fault.new)
    if fault.file.endswith(".py"):
        compile(wrong, fault.file, "exec")
    path.write_text(wrong)
    try:
        yield
    finally:
        path.write_text(text)


def judge(root: Path, fault: Fault) -> Outcome:
    """Plant a fault, run its killer, and say what became of it."""
    try:
        with planted(root, fault):
            done = run_in(root, killer_command(root, fault))
    except (ValueError, SyntaxError) as error:
        return Outcome(BROKEN, str(error))
    except subprocess.TimeoutExpired:
        return Outcome(BROKEN, f"its killer did not end in {TIMEOUT_S} s")
    if not done.returncode:
        return Outcome(SURVIVED, fault.killer)
    lines = (done.stdout + done.stderr).strip().splitlines() or ["no word"]
    if fault.killer == VECTORS:
        noticed = done.returncode == 1 and "Traceback" not in done.stderr
        return Outcome(KILLED if noticed else BROKEN, lines[-1])
    failed = [line for line in lines if line.startswith("FAILED")]
    # --tb=line says where: an assertion is a line of a test, an exception one of the product.
    noticed = any(line.startswith(f"{root}/tests/") for line in lines)
    return Outcome(KILLED, failed[0]) if failed and noticed else Outcome(BROKEN, lines[-1])


def check_unmutated(root: Path, faults: Sequence[Fault]) -> None:
    """Run every killer on the copy as it is.

    Raises:
        RuntimeError: one of them fails.
    """
    commands = {tuple(killer_command(root, each)) for each in faults if each.killer == VECTORS}
    nodes = sorted({each.killer for each in faults if each.killer != VECTORS})
    if nodes:
        commands.add(tuple(_pytest(nodes)))
    for command in sorted(commands):
        done = run_in(root, command, TIMEOUT_S * len(command))  # one command has many killers
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} fails without a fault: {done.stdout[-500:]}")


def run_all(faults: Sequence[Fault], jobs: int) -> Iterator[tuple[Fault, Outcome]]:
    """Judge faults, `jobs` at a time, each worker in a copy of its own; yields in their order."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        roots: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            root = Path(folder) / str(number)
            root.mkdir()
            roots.put(copy_tree(root))

        def work(fault: Fault) -> Outcome:
            root = roots.get()
            try:
                return judge(root, fault)
            finally:
                roots.put(root)

        root = roots.get()
        check_unmutated(root, faults)
        roots.put(root)
        with ThreadPoolExecutor(jobs) as pool:
            yield from zip(faults, pool.map(work, faults), strict=True)


def main(argv: list[str] | None = None) -> int:
    """Plant the faults that the command line selects."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="say what there is and stop")
    parser.add_argument("--only", metavar="PATTERN", help="names, as in `kvm.SAVE.*`")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--replay", choices=FAMILIES, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.replay:
        return replay_vectors(options.replay)
    faults = [each for each in FAULTS if fnmatch.fnmatch(each.name, options.only or "*")]
    if not faults:
        parser.error(f"no fault is called {options.only}")
    if options.list:
        for fault in faults:
            print(f"{fault.name}: {fault.stands_for} [{fault.killer}]")
        return 0
    return _report(faults, options.jobs)


def _report(faults: Sequence[Fault], jobs: int) -> int:
    killed = 0
    started = time.monotonic()
    for fault, outcome in run_all(faults, jobs):
        killed += outcome.word == KILLED
        told = f"by {outcome.detail}"
        if outcome.word != KILLED:
            told = f"({fault.stands_for}): {outcome.detail}"
        print(f"{fault.name}: {outcome.word} {told}", flush=True)
    print(f"{time.monotonic() - started:.0f} s with {jobs} at a time")
    print(f"mutants: {killed} killed of {len(faults)}")
    return 0 if killed == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
