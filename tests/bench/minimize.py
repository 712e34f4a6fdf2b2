"""Minimising in this process beside one start of QEMU for each candidate: `make bench-minimize`.

Every scenario that is a finding is planted in a life of about 5,000 events and minimised. What is
timed is all of it: the first replay, which finds out how the trace shows its signature, and the
search, which is also told alone: QEMU's minimiser takes a crash on trust. In the same run, between scenarios, QEMU is started up to its first answer and killed, as its own
minimiser (scripts/oss-fuzz) does for each candidate before it feeds it anything. Wall time, and
CPU time of either side, which tells more on a machine that does other things as well.
"""

from __future__ import annotations

import argparse
import gc
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from replay.minimize.case import open_case
from replay.minimize.run import minimize
from replay.minimize.script import count_inputs
from tests.support.planted import cases, name_of, plant

QEMU = (
    "qemu-system-aarch64", "-M", "virt,gic-version=3,its=on", "-accel", "tcg", "-S",
    "-display", "none", "-nodefaults", "-qtest", "stdio", "-qtest-log", "/dev/null",
)  # fmt: skip
EVERY = 5  # scenarios between two starts of QEMU


def start_qemu() -> tuple[float, float]:
    """Return the seconds from a start of QEMU up to its first answer, and its end: wall, CPU."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        QEMU, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"readl 0x8080000\n")
        process.stdin.flush()
        process.stdout.readline()
        process.kill()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=6000)
    parser.add_argument("--only", default="", help="scenarios whose names have this in them")
    options = parser.parse_args()
    print(f"{'scenario':44} {'events':>6} {'by hand':>7} {'inputs':>6} {'asked':>6} {'ms':>7}")
    asked, spent, first, cpu, too_large = 0, 0.0, 0.0, 0.0, []
    starts: list[tuple[float, float]] = []
    chosen = [each for each in cases() if options.only in name_of(*each)]
    for at, (path, variant) in enumerate(chosen):
        name = name_of(path, variant)
        planted = plant(path, variant, events=options.events)
        gc.freeze()  # as the verb does once it has read a trace
        began, cpu_began = time.perf_counter(), time.process_time()
        opened = open_case(planted.large, planted.profile, planted.told)
        first += time.perf_counter() - began
        result = minimize(opened.candidate, opened.oracle)
        took = time.perf_counter() - began
        cpu += time.process_time() - cpu_began
        by_hand, inputs = count_inputs(planted.small), count_inputs(result.candidate)
        if inputs > by_hand + 2:
            too_large.append(name)
        asked, spent = asked + result.count.asked, spent + took
        print(
            f"{name:44.44} {len(planted.large.events):6} {by_hand:7} {inputs:6} "
            f"{result.count.asked:6} {1000 * took:7.1f}"
        )
        if at % EVERY == 0:
            starts.append(start_qemu())
    wall, of_cpu = (sum(each) / len(starts) for each in zip(*starts, strict=True))
    for what, ours, start in (
        ("wall", spent, wall),
        ("wall, the search alone", spent - first, wall),
        ("CPU", cpu, of_cpu),
    ):
        print(
            f"{what}: {asked} candidates in {ours:.2f} s, {asked / ours:.0f} a second; a start of "
            f"QEMU takes {1000 * start:.0f} ms, {1 / start:.1f} a second: {asked * start / ours:.0f} "
            "times as long"
        )
    print("larger than by hand and two:", ", ".join(too_large) or "none")


if __name__ == "__main__":
    main()
