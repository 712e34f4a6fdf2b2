"""A guest that does random things, under `record qemu --probe-resets`: the recorder stands it.

`make fuzz-qemu` runs it for a minute; ITSTRACE_FUZZ_SEED repeats a run.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from time import monotonic, sleep

from tests.support.fuzz_guest import image
from tests.support.recorded_vm import needs_qemu, read, resets, until

pytestmark = needs_qemu

SECONDS = float(os.environ.get("ITSTRACE_FUZZ_SECONDS", "4"))
MAX_RECORDER_KB = 200_000


def children_of(pid):
    """Return the names of a process's children."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    pids = " ".join((task / "children").read_text() for task in tasks).split()
    return {Path(f"/proc/{each}/comm").read_text().strip() for each in pids}


def peak_kb(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def test_nothing_that_a_guest_does_harms_the_recorder(start):
    seed = int(os.environ.get("ITSTRACE_FUZZ_SEED", "0")) or int.from_bytes(os.urandom(7), "little")
    print(f"ITSTRACE_FUZZ_SEED={seed}")
    vm = start(code=image(seed), record=["--probe-resets"]).connect()
    until(lambda: vm.trace.stat().st_size > 10_000)
    # The guard is a fork of ours, under our name.
    allowed = {"python", "python3", "itstrace", *(f"python3.{n}" for n in range(11, 20))}
    peak, end = 0, monotonic() + SECONDS
    while monotonic() < end:
        assert vm.recorder.poll() is None
        strange = {name for name in children_of(vm.recorder.pid) if not name.startswith("qemu")}
        assert strange <= allowed
        peak = peak_kb(vm.recorder.pid)
        sleep(0.05)
    assert peak < MAX_RECORDER_KB
    vm.ask("quit")
    code, said = vm.end()
    assert code == 0, said
    status, _, events = read(vm.trace)
    assert status == "clean"
    kinds = Counter(name for name, _ in events)
    print(dict(kinds), f"{peak} KB")
    assert len(resets(events)) > SECONDS / 4
    assert min(kinds[kind] for kind in ("command", "table.read", "table.write", "probe")) > 20
    assert not kinds["source.gap"]
    assert not kinds["loss"]
