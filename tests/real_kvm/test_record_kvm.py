"""`itstrace record kvm` on a real kernel: Debian's, as a KVM host under TCG, with QEMU on it.

Not part of `make test`: `make test-kvm` fetches what it needs from Debian and takes minutes.
"""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import sleep

import pytest

from replay import cli
from tests.real_kvm import images
from tests.real_kvm.guest import Guest
from tests.real_kvm.host import Host
from tests.support.both_sources import KERNELS, OURS, without
from tracer import events as ev
from tracer.events import KINDS
from tracer.log.opening import open_trace
from tracer.sources.kvm_script import script

MOVI, SYNC, MAPD, MAPC, MAPTI, INVALL = 0x1, 0x5, 0x8, 0x9, 0xA, 0xD
MISSING = images.missing_tools()
pytestmark = [
    pytest.mark.skipif("ITSTRACE_KVM" not in os.environ, reason="takes minutes: make test-kvm"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {' '.join(MISSING)}"),
]


@pytest.fixture(scope="session", params=list(images.RELEASES))
def host(request, tmp_path_factory):
    with Host(request.param, tmp_path_factory.mktemp(request.param)) as booted:
        booted.release = request.param
        yield booted


@pytest.fixture
def left(host):
    """Return what recorders have left on the host."""
    return lambda: host.run("cd /sys/kernel/tracing; ls instances; cat kprobe_events")


@pytest.fixture
def guest(host):
    """Return a function that starts a VM; none is left behind."""
    started = []

    def start(name, *options, **more):
        started.append(Guest(host, name, *options, **more))
        return started[-1]

    yield start
    for each in started:
        host.run(f"kill -9 {each.pid}")


class Recorder:
    """A running `itstrace record kvm`."""

    def __init__(self, host, folder, *options):
        self.folder = folder
        with (folder / "errors").open("w") as errors:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "replay.cli", "record", "kvm", "--via", host.via),
                    *("-o", folder / "vm-%p.itstrace", "--raw", folder / "raw", *options),
                ],
                stderr=errors,
                cwd=images.ROOT,
            )
        host.wait_for(self.begun)

    def begun(self):
        raw = self.folder / "raw"
        return self.process.poll() is not None or (
            raw.exists() and b"#its group" in raw.read_bytes()
        )

    def said(self):
        return (self.folder / "errors").read_text()

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(60)

    def traces(self):
        return sorted(self.folder.glob("*.itstrace"))


@pytest.fixture
def record(host, tmp_path, left):
    started = []

    def start(*options):
        started.append(Recorder(host, tmp_path, *options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
    host.wait_for(lambda: left() == "")


def read(path):
    """Return (header, [(name, fields)]) of a whole trace."""
    with open_trace(str(path)) as reader:
        events = [(KINDS[event[0]].name, event[2:]) for _, frame in reader for event in frame]
        assert reader.status == "clean"
        return reader.header, events


def keep(host, recorder, name):
    """Keep the host's text for traces/, where ITSTRACE_KEEP names a folder."""
    if folder := os.environ.get("ITSTRACE_KEEP"):
        text = (recorder.folder / "raw").read_bytes()
        version = re.search(rb"Debian ([0-9.]+)-[0-9]+ \(20", text)[1].decode()
        packed = gzip.compress(text, mtime=0)
        (Path(folder) / f"kvm-{version}-{name}.stream.txt.gz").write_bytes(packed)


def test_a_life_with_a_reset_is_recorded(host, guest, record, capsys):
    recorder = record()
    vm = guest("life")
    vm.wait()
    vm.ask("stop", "system_reset", "xen-save-devices-state", "cont")
    vm.wait(times=2)
    recorder.process.send_signal(signal.SIGUSR1)
    sleep(1)
    vm.quit()
    assert recorder.end() == 0, recorder.said()
    (path,) = recorder.traces()
    header, events = read(path)
    keep(host, recorder, "boot-stop-reset-boot")
    assert path.name == f"vm-{vm.pid}.itstrace"
    assert header.cpus == 4
    assert header.starts == "power_on"
    assert header.command_line[0] == "qemu-system-aarch64"
    assert header.annotations["release"] in host.run("uname -r")
    assert "missing" not in header.annotations
    text = (recorder.folder / "raw").read_text()
    assert ": kvm_mmio: mmio write" not in text  # no other device's
    assert text.count("its: note reads are seen at ") == 1
    assert text.count(": kvm_mmio: ") < text.count(": mr: ")
    count = Counter(name for name, _ in events)
    assert count["reset"] == 2
    assert count["save"] == 2
    assert count["save_pending"] == 2
    assert count["xlat.hit"] > count["xlat.miss"] > 0
    assert count["lpi.live"] > 0
    paths = Counter(ev.MSI_PATHS[fields[-1]] for name, fields in events if name == "msi")
    assert paths["irqfd"] > 0  # the disk's thread
    assert paths["ioctl"] > 0  # the random numbers' device
    assert opcodes(events) >= {MAPD, MAPC, MAPTI, MOVI, INVALL, SYNC}
    holds(path, capsys)
    assert cli.main(["verify", str(path)]) == 1
    told = capsys.readouterr().out
    for name in ("GICR_PROPBASER", "GICR_PENDBASER"):
        assert re.search(rf"stale +{name}\[0\] .*observed 0x4\w+ at \d+\n", told), told
    assert re.search(r"unspecified +GITS_BASER0 .*observed 0x\w+ at \d+\n", told), told


BESIDE = (  # the tracepoint stays unfiltered beside our probes, with the probe that went with it
    ("echo 'type==1' >", ": 'type==1' # "),
    ('echo 0 >"$INSTANCE/events/kvm/kvm_mmio/enable"', ":"),
    ("\tprobe r64 mmio_ret ", "\tprobe r64 mmio_rret dispatch_mmio_read '' end 'ret=$retval:s32'\n\tprobe r64 mmio_ret "),
)  # fmt: skip


SHORT = (("LAST_BYTE=120", "LAST_BYTE=0"), ("sp=%sp:x64 stk=+0(%sp):x64[16]", "sp=%sp:x64 stk=+0(%sp):x64[1]"))  # fmt: skip


def bent(*pairs):
    """Return the script with other words in it."""
    text = script()
    for ours, theirs in pairs:
        assert text.count(ours) == 1
        text = text.replace(ours, theirs)
    return text


def lived(host, guest, name, text, before=""):
    """Return what the host says of a guest's life, of a script like ours."""
    heading = []
    with host.shell() as shell:
        begin(shell, before, text, heading)
        vm = guest(name)
        vm.wait()
        vm.ask("stop", "system_reset", "xen-save-devices-state", "cont")
        vm.wait(times=2)
        vm.quit()
        print("stop", file=shell.stdin, flush=True)
        return heading + shell.stdout.read().splitlines(True)


def imported(lines, folder, name):
    """Return the events of a text's only VM without their times, and its trace's path."""
    (folder / f"{name}.txt").write_text("".join(lines))
    assert cli.main(["import", str(folder / f"{name}.txt")]) in (0, 3)  # 3: 5.10 counts faults
    return read(folder / f"{name}.itstrace")[1], folder / f"{name}.itstrace"


def test_our_probes_and_the_kernels_tracepoint_tell_the_same(host, guest, tmp_path, capsys, left):
    both = lived(host, guest, "both", bent(*BESIDE))
    events, sizes = {}, []
    for name, pattern in (("kernels", OURS), ("ours", KERNELS)):
        lines = without(pattern, both)
        events[name], path = imported(lines, tmp_path, name)
        assert cli.main(["verify", str(path)]) in (0, 1, 3)
        told = capsys.readouterr().out
        events[f"{name}, judged"] = re.sub(r"\S+\.itstrace|[0-9.]+ s\b", "", told)
        sizes.append(f"{name}: {len(lines)} lines, {sum(map(len, lines))} bytes")
    print(*sizes, sep="\n")
    if folder := os.environ.get("ITSTRACE_KEEP"):
        packed = gzip.compress("".join(both).encode(), mtime=0)
        version = re.search(r"Debian ([0-9.]+)-[0-9]+ \(20", host.run("uname -v"))[1]
        (Path(folder) / f"both-kvm-{version}.stream.txt.gz").write_bytes(packed)
    assert events["ours"] == events["kernels"]
    assert events["ours, judged"] == events["kernels, judged"]
    assert left() == ""


@pytest.mark.parametrize("lacking", ["symbol", "stack"])
def test_what_a_kernel_does_not_tell_is_had_from_its_tracepoint(
    host, guest, tmp_path, capsys, left, lacking
):
    before = "grep -v ' dispatch_mmio_write' /proc/kallsyms >/tmp/symbols; export ITSTRACE_KALLSYMS=/tmp/symbols"
    how = (script(), before) if lacking == "symbol" else (bent(*SHORT), "")
    lines = lived(host, guest, "lacking", *how)
    _, path = imported(lines, tmp_path, "lacking")
    assert any("kvm_mmio: mmio read" in each for each in lines[len(lines) // 2 :])
    assert cli.main(["check", str(path)]) == (3 if lacking == "symbol" else 0)
    assert " 0 divergent" in capsys.readouterr().out
    assert left() == ""


def test_two_vms_that_run_are_joined(host, guest, record, capsys):
    vms = [guest(name) for name in ("first", "second")]
    for vm in vms:
        vm.wait()
    recorder = record()
    sleep(2)
    vms[0].ask("stop", "system_reset", "xen-save-devices-state", "cont")
    vms[0].wait(times=2)
    assert recorder.end() == 0, recorder.said()
    keep(host, recorder, "two-vms-joined")
    assert recorder.traces() == [recorder.folder / f"vm-{vm.pid}.itstrace" for vm in vms]
    for path, resets in zip(recorder.traces(), (1, 0), strict=True):
        header, events = read(path)
        assert header.starts == "running"
        count = Counter(name for name, _ in events)
        assert count["reset"] == resets
        assert count["lpi.live"] > 0  # what was mapped before
        holds(path, capsys)
    for vm in vms:
        vm.quit()


def test_a_kernel_that_starts_another_is_seen(host, guest, record, capsys):
    recorder = record()
    images_ = [
        f"-drive file=/guest/{name},format=raw,if=none,id={name},readonly=on "
        f"-device virtio-blk-pci,drive={name},romfile="
        for name in ("vmlinuz", "initramfs")
    ]
    vm = guest("kexec", *" ".join(images_).split(), then="kexec")
    vm.wait(times=2)
    vm.quit()
    assert recorder.end() == 0, recorder.said()
    keep(host, recorder, "kexec")
    (path,) = recorder.traces()
    holds(path, capsys)
    cli.main(["verify", str(path)])
    assert ": reinit at event" in capsys.readouterr().out


def test_a_killed_recorder_leaves_nothing_on_the_host(host, record, left):
    recorder = record()
    assert left() != ""
    recorder.process.kill()
    recorder.process.wait()
    host.wait_for(lambda: left() == "")


def test_what_a_killed_script_leaves_is_removed_by_the_next_one(host, left):
    with host.shell() as shell:
        pid = begin(shell)
        host.run(f"kill -9 {pid}")
        sleep(1)
        assert f"itstrace_{pid}" in left()
        with host.shell() as other:
            begin(other)
            assert f"itstrace_{pid}" not in left()
            print("stop", file=other.stdin, flush=True)
            assert "#its end: stop" in other.stdout.read()
        shell.kill()
    assert left() == ""


def test_clean_leaves_what_is_in_use(host, left):
    with host.shell() as shell:
        pid = begin(shell)
        host.run(f"(set -- clean\n{script()})")
        assert f"itstrace_{pid}" in left()
        print("stop", file=shell.stdin, flush=True)
        assert "#its end: stop" in shell.stdout.read()
    assert left() == ""


def test_switched_off_kprobes_are_said(host, tmp_path, capsys, left):
    switch = "/sys/kernel/debug/kprobes/enabled"
    host.run(f"echo 0 > {switch}")
    code = cli.main(["record", "kvm", "--via", host.via, "-o", str(tmp_path / "%p")])
    host.run(f"echo 1 > {switch}")
    assert code == 3
    assert "kprobes are switched off" in capsys.readouterr().err
    assert left() == ""


def test_lost_records_are_counted(host, guest, tmp_path):
    vm = guest("busy", then="busy")
    vm.wait()
    with host.shell() as shell:
        begin(shell, "export ITSTRACE_CPU_KB=8")
        readers = "grep -l '^dd$' /proc/[0-9]*/comm | cut -d/ -f3"
        host.wait_for(lambda: len(host.run(readers).split()) == 2)
        for word in ("STOP", "CONT"):  # nobody reads meanwhile
            host.run(f"for pid in $({readers}); do kill -s {word} $pid; done; sleep 10")
        print("stop", file=shell.stdin, flush=True)
        text = shell.stdout.read()
    vm.quit()
    path = tmp_path / "busy.txt"
    path.write_text(f"#its stream: 1\n{text}")
    assert cli.main(["import", str(path)]) in (0, 3)  # 3: a return whose entry was lost
    _, events = read(path.with_suffix(".itstrace"))
    lost = sum(fields[1] for name, fields in events if name == "loss")
    told = sum(int(each) for each in re.findall(r"#its lost: cpu \d+ overrun (\d+)", text))
    assert lost == told > 0


def begin(shell, before="", text=None, heading=None):
    """Run the script in a shell on the host; return its process once it records."""
    print(before, text or script(), sep="\n", file=shell.stdin, flush=True)
    while not (line := shell.stdout.readline()).startswith("#its group"):
        assert line
        if heading is not None:
            heading.append(line)
    return int(line.split("_")[1])


def opcodes(events):
    return {fields[2] & 0xFF for name, fields in events if name == "command"}


def holds(path, capsys):
    """What the kernel answered is what the model of it answers."""
    assert cli.main(["check", str(path)]) == 0
    assert " 0 divergent" in capsys.readouterr().out
