"""What recording costs a guest's boot on a KVM host: pairs of boots, with and without.

    ITSTRACE_KVM=1 python tests/bench/kvm_boot.py bookworm 5

The time is that of the processors which emulate the host, with everything that runs on it, so that it does
not matter what else this machine does. kprobes are emulated too: real hardware has another ratio.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.real_kvm.guest import Guest
from tests.real_kvm.host import Host
from tracer.sources.kvm_script import script


def boot(host: Host, name: str) -> float:
    """Return the processor seconds from a guest's start to the end of its init's work."""
    before = host.cpu_seconds()
    guest = Guest(host, name)
    guest.wait()
    seconds = host.cpu_seconds() - before
    guest.quit()
    return seconds


def recorded(host: Host, name: str, text: Path) -> float:
    """Return the same with the recorder at work."""
    with text.open("w") as out, host.shell(stdout=out) as shell:
        assert shell.stdin
        print(script(), file=shell.stdin, flush=True)
        host.wait_for(lambda: "#its group" in text.read_text())
        seconds = boot(host, name)
        print("stop", file=shell.stdin, flush=True)
        shell.wait()
    return seconds


def main(release: str, pairs: int) -> None:
    with TemporaryDirectory() as folder, Host(release, Path(folder)) as host:
        boot(host, "warm")
        text = Path(folder) / "text"
        ratios = []
        for number in range(pairs):
            plain = boot(host, f"plain{number}")
            with_it = recorded(host, f"recorded{number}", text)
            ratios.append(with_it / plain)
            print(
                f"{plain:.2f} s, recorded {with_it:.2f} s, {len(text.read_bytes()):,} bytes",
                flush=True,
            )
        lost = sum(map(int, re.findall(r"overrun (\d+)", text.read_text())))
        print(f"{release}: {median(ratios):.2f} times as long; {lost} records lost")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
