"""What `record kvm` printed on real kernels, end to end: F2 and F5 are seen, and nothing diverges.

The expected values come out of the text by string search, not through the reader.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from replay import cli
from tracer.log.opening import open_trace

TRACES = Path(__file__).parents[2] / "traces"
LIVES = sorted(TRACES.glob("kvm-*boot-stop-reset-boot.stream.txt.gz"))


def told(text, register, cpu=0):
    """What KVM gave the VMM of a redistributor's register, the last time."""
    attr = f"attr={cpu << 32 | register:#x} "
    lines = text.splitlines()
    at = max(n for n, line in enumerate(lines) if ": gget_attr: " in line and attr in line)
    ret = next(line for line in lines[at:] if ": gget_attr_ret: " in line)
    return int(re.search(r"val=0x([0-9a-f]+)", ret)[1], 16) & 0xFFFF_FFFF


def import_all(path, folder):
    """Return the traces of a stream's VMs."""
    assert cli.main(["import", str(path), "-o", str(folder / "%p.itstrace")]) == 0
    return sorted(folder.glob("*.itstrace"))


def test_both_kernels_are_here():
    assert {path.name.split("-")[1] for path in LIVES} == {"6.1.192", "6.12.117"}


def test_vms_that_ran_before_are_told_apart_and_judged(tmp_path, capsys):
    """One is reset; of the other nothing but its disk's interrupts is seen."""
    path = TRACES / "kvm-6.1.192-two-vms-joined.stream.txt.gz"
    said = []
    for trace in import_all(path, tmp_path):
        assert cli.main(["check", str(trace)]) == 0
        assert " 0 divergent" in capsys.readouterr().out
        with open_trace(str(trace)) as reader:
            assert reader.header.starts == "running"
        cli.main(["verify", str(trace)])
        said.append(capsys.readouterr().out)
    reset, other = said
    assert re.search(r"stale +GICR_PROPBASER\[0\] ", reset)
    assert other == "no reset in this trace\n"


def test_a_kernel_that_starts_another_is_seen(tmp_path, capsys):
    (trace,) = import_all(TRACES / "kvm-6.1.192-kexec.stream.txt.gz", tmp_path)
    cli.main(["verify", str(trace)])
    assert "reset 1: reinit at event" in capsys.readouterr().out


@pytest.mark.parametrize("path", LIVES, ids=lambda path: path.name)
def test_a_system_reset_leaves_the_old_tables(path, tmp_path, capsys):
    text = gzip.decompress(path.read_bytes()).decode()
    (trace,) = import_all(path, tmp_path)
    assert cli.main(["verify", str(trace)]) == 1
    said = capsys.readouterr().out
    for cpu in range(4):
        for name, register in (("PROPBASER", 0x70), ("PENDBASER", 0x78)):
            value = told(text, register, cpu)
            assert value & ~0x780  # more than attributes: an address
            assert re.search(rf"stale +GICR_{name}\[{cpu}\] .*observed {value:#x} at \d+\n", said)
    for number in (0, 1):
        assert re.search(rf"unspecified +GITS_BASER{number} .*observed 0x\w+ at \d+\n", said)


@pytest.mark.parametrize("path", LIVES, ids=lambda path: path.name)
def test_every_command_was_self_calibrated(path):
    """The one offset of a build holds at each of its commands, and fits the window."""
    text = gzip.decompress(path.read_bytes()).decode()
    pairs = re.findall(r": rd: .* data=0x([0-9a-f]+) len=32 sp=0x([0-9a-f]+)", text)
    offsets = {int(data, 16) - int(sp, 16) for data, sp in pairs}
    assert offsets == {40 if "6.1.192" in path.name else 56}
    assert len(pairs) > 80
