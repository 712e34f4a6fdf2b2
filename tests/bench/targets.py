"""What real targets cost: `make bench-targets`, or this file by itself.

From start to the first answer, and register operations a second in batches; beside them, in the same
run, a loop that writes, waits and reads, which is what batches are to beat. `--kernel` names a
kernel; otherwise the newest that is here, or none. Wall time: the work is done by other processes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from replay.generator.answers import generate, header_of
from replay.kernels import here
from replay.profiles import find
from replay.targets import kvm_wire as wire
from replay.targets.ahead import Group
from replay.targets.kvm import KvmTarget
from replay.targets.kvm_boot import Host, boot
from replay.targets.kvm_wire import Request
from replay.targets.qemu import ITS_BASE, Needs, QemuTarget
from replay.targets.qtest import Qtest

BASER0, MACHINE = 0x100, ("-M", "virt,gic-version=3,its=on", "-cpu", "cortex-a57", "-m", "64")
VALUE = 0x8000_0000_4001_0000


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def rate(count: int, call: Callable[[], object], rounds: int = 3) -> float:
    """Return operations a second, the best of some rounds."""
    return count / min(seconds(call) for _ in range(rounds))


def show(what: str, value: float, unit: str, beside: str = "") -> None:
    print(f"  {what:44} {value:12,.1f} {unit:6} {beside}")


def qemu(binary: str, count: int) -> None:
    started = time.perf_counter()
    found = Qtest(binary, MACHINE, traced=False)
    try:
        found.run([f"readq {ITS_BASE + 8:#x}"])
        print(f"{binary} {'.'.join(map(str, found.version))}")
        show("start to the first answer", time.perf_counter() - started, "s")
        write, read = f"writeq {ITS_BASE + BASER0:#x} {VALUE:#x}", f"readq {ITS_BASE + BASER0:#x}"
        batched = rate(count, lambda: found.run([write, read] * (count // 2)))
        few = count // 20
        waiting = rate(few, lambda: [found.run([line]) for line in [write, read] * (few // 2)])
        show("write, wait, read", waiting, "ops/s")
        show("in batches", batched, "ops/s", f"{batched / waiting:.1f} times as many")
    finally:
        found.close()
    life = list(generate(1, find("qemu-7.2.22")[0], count // 10))
    header, needs = header_of(1, find("qemu-7.2.22")[0], 1), Needs()
    groups = [Group(seq, event, ()) for seq, event in enumerate(life) if event[0] < 64]
    target = QemuTarget(binary, header, needs)
    try:
        carried = rate(len(groups), lambda: target.carry_out(groups), 1)
    finally:
        target.close()
    show("inputs of a generated life, carried out", carried, "ops/s")


def asked(host: Host, requests: list[Request]) -> Callable[[], object]:
    return lambda: host.wire.ask(requests, 60)


def kvm(kernel: str, count: int) -> None:
    started = time.perf_counter()
    host = boot(kernel)
    try:
        host.wire.ask([Request(wire.ABOUT)], 60)
        print(host.name)
        show("start to the first answer", time.perf_counter() - started, "s")
        header = header_of(1, find("linux-6.1.192")[0], 1)
        target = KvmTarget(host, header)
        write = Request(wire.SET, 0, wire.ITS, 8, BASER0, VALUE, 8)
        read = Request(wire.GET, 0, wire.ITS, 8, BASER0, 0, 8)
        batched = rate(count, asked(host, [write, read] * (count // 2)))
        few = count // 20
        waiting = rate(
            few, lambda: [host.wire.ask([each], 60) for each in [write, read] * (few // 2)]
        )
        show("attributes: write, wait, read", waiting, "ops/s")
        show("attributes in batches", batched, "ops/s", f"{batched / waiting:.1f} times as many")
        store = Request(wire.STORE, 0, 3, 0, ITS_BASE + BASER0, VALUE)
        load = Request(wire.LOAD, 0, 3, 0, ITS_BASE + BASER0)
        guest = rate(count // 2, asked(host, [store, load] * (count // 4)))
        alone = rate(
            few, lambda: [host.wire.ask([each], 60) for each in [store, load] * (few // 2)]
        )
        show("accesses of a vCPU, one by one", alone, "ops/s")
        show("accesses of a vCPU in batches", guest, "ops/s", f"{guest / alone:.1f} times as many")
        life = list(generate(1, find("linux-6.1.192")[0], count // 4))
        groups = [Group(seq, event, ()) for seq, event in enumerate(life) if event[0] < 64]
        carried = rate(len(groups), lambda: target.carry_out(groups), 1)
        show("inputs of a generated life, carried out", carried, "ops/s")
    finally:
        host.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--qemu", default="qemu-system-aarch64")
    parser.add_argument("--kernel", help="an arm64 kernel image")
    parser.add_argument("--count", type=int, default=40_000, help="operations of a round")
    options = parser.parse_args()
    qemu(options.qemu, options.count)
    kernels = [options.kernel] if options.kernel else [str(each.path) for each in here()]
    if kernels:
        kvm(kernels[-1], options.count)
    else:
        print("no kernel is here: `itstrace kernels bookworm-security` fetches one")


if __name__ == "__main__":
    main()
