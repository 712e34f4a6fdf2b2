"""The script that runs on a KVM host: what it refuses, sets and removes, in a folder like tracefs.

What it does on a real kernel, tests/real_kvm tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tracer.sources.kvm_probes import ACCESSES, COMMAND_WORDS, PROBES, READ_WORDS
from tracer.sources.kvm_script import script

SHELLS = [["dash"], ["busybox", "sh"], ["bash", "--posix"]]
DEAD = 4_194_304  # beyond the largest number that Linux gives a process


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def shell(request):
    if shutil.which(request.param[0]) is None:
        pytest.skip(f"{request.param[0]} is not installed")
    return request.param


class Fake:
    """Folders like tracefs and debugfs; what would be a control file is a plain one."""

    def __init__(self, folder):
        self.tracefs = folder / "tracing"
        self.debugfs = folder / "debug"
        for each in ("instances", "events/kvm/kvm_mmio"):
            (self.tracefs / each).mkdir(parents=True)
        for each in ("kprobe_events", "kprobe_profile"):
            (self.tracefs / each).touch()
        for each in ("kvm", "kprobes"):
            (self.debugfs / each).mkdir(parents=True)
        (self.debugfs / "kprobes/enabled").write_text("1\n")
        self.kallsyms = folder / "kallsyms"
        self.symbols(*{probe.symbol for probe in PROBES})

    def symbols(self, *names):
        self.kallsyms.write_text("".join(f"0000000000000000 t {name}\n" for name in names))

    def with_events(self, *watched):
        """Let each instance have files of events, and what the watcher reads in it."""
        tools = self.tracefs.parent / "tools"
        tools.mkdir()
        (tools / "watched").write_text("".join(f"{each}\n" for each in watched))
        names = " ".join(probe.name for probe in PROBES)
        (tools / "mkdir").write_text(
            f"""#!/bin/sh
            group=${{1##*/}} group=${{group%_watch}}
            for name in {names}; do {shutil.which("mkdir")} -p "$1/events/$group/$name"; done
            {shutil.which("mkdir")} -p "$1/events/kvm/kvm_mmio"
            : >"$1/trace_pipe"
            case $1 in *_watch) cat {tools}/watched >"$1/trace_pipe" ;; esac
            """
        )
        (tools / "dd").write_text(  # which ends when the recording does
            """#!/bin/sh
            from=${1#if=}
            case $from in
            *_watch/*) exec cat "$from" ;;
            esac
            until grep -q 'the recording ends' "${from%/*}/trace_marker"; do sleep 0.02; done
            """
        )
        for each in ("mkdir", "dd"):
            (tools / each).chmod(0o755)
        return {"PATH": f"{tools}:{os.environ['PATH']}", "ITSTRACE_PATIENCE": "1"}

    def said(self, event, what, watch=""):
        """Return what was written last to a file of an event, of an instance; None for nothing."""
        found = [
            each
            for each in self.tracefs.glob(f"instances/itstrace_*/events/*/{event}/{what}")
            if each.parents[3].name.endswith("_watch") == bool(watch)
        ]
        return found[0].read_text().strip() if found else None

    def notes(self):
        (instance,) = (
            each for each in self.tracefs.glob("instances/*") if "watch" not in each.name
        )
        return re.findall(r"its: note (.*)\n", (instance / "trace_marker").read_text())

    def run(self, shell, *words, **more):
        there = {
            "ITSTRACE_UID": "0",
            "ITSTRACE_PATIENCE": "0",  # a folder that is not tracefs keeps its files
            "ITSTRACE_TRACEFS": str(self.tracefs),
            "ITSTRACE_DEBUGFS": str(self.debugfs),
            "ITSTRACE_KALLSYMS": str(self.kallsyms),
        }
        return subprocess.run(
            [*shell, "-s", *words],
            check=False,
            input=script(),
            env={**os.environ, **there, **more},
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def test_every_shell_can_read_it(shell):
    done = subprocess.run(
        [*shell, "-n"], check=False, input=script(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    done = subprocess.run(
        ["shellcheck", "-s", "sh", "-"],
        check=False,
        input=script(),
        capture_output=True,
        text=True,
    )
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("spoil", "more", "message"),
    [
        (lambda fake: None, {"ITSTRACE_UID": "1000"}, "this must run as root: put sudo before it"),
        (
            lambda fake: (fake.tracefs / "instances").rmdir(),
            {},
            "tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing",
        ),
        (lambda fake: (fake.debugfs / "kvm").rmdir(), {}, "mount -t debugfs debugfs"),
        (
            lambda fake: (fake.tracefs / "events/kvm/kvm_mmio").rmdir(),
            {},
            "this kernel has no tracepoint kvm:kvm_mmio: it is no KVM host",
        ),
        (
            lambda fake: (fake.tracefs / "kprobe_events").unlink(),
            {},
            "this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)",
        ),
        (
            lambda fake: (fake.debugfs / "kprobes/enabled").write_text("0\n"),
            {},
            "kprobes are switched off: echo 1 > ",
        ),
        (lambda fake: fake.symbols("vgic_init"), {}, "this kernel takes no kprobe"),
    ],
    ids=["user", "tracefs", "debugfs", "kvm", "kprobe_events", "switched_off", "no_symbol"],
)
def test_it_refuses_and_says_the_way_out(shell, fake, spoil, more, message):
    spoil(fake)
    done = fake.run(shell, **more)
    assert done.returncode == 2
    assert done.stdout.startswith("#its error: ")
    assert message in done.stdout


def test_it_sets_every_probe_in_a_group_of_its_own(shell, fake):
    done = fake.run(shell, **fake.with_events())
    group = re.search(r"#its group: (itstrace_[0-9]+)\n", done.stdout)[1]
    lines = (fake.tracefs / "kprobe_events").read_text().splitlines()
    wanted = [
        f"{'p' if probe.kind == 'p' else 'r64'}:{group}/{probe.name} {probe.symbol} {probe.fields}"
        for probe in PROBES
    ]
    assert [line for line in lines if not line.startswith("-")] == wanted
    removed = [f"-:{group}/{probe.name}" for probe in PROBES]
    assert [line for line in lines if line.startswith("-")] == removed


def test_what_this_kernel_lacks_is_named(shell, fake):
    there = {probe.symbol for probe in PROBES} - {"kvm_read_guest", "vgic_its_create"}
    fake.symbols(*there, "kvm_read_guest.constprop.0", "kvm_read_guest_page")
    told = [line for line in fake.run(shell).stdout.splitlines() if "missing" in line]
    it_is_a_clone = "it has kvm_read_guest.constprop.0, whose arguments may differ"
    assert told == [
        "#its missing: vgic_its_create when an ITS is made (this kernel does not have it)",
        f"#its missing: kvm_read_guest commands ({it_is_a_clone})",
        f"#its missing: kvm_read_guest commands ({it_is_a_clone})",
    ]


READ = (
    " CPU 0/KVM-7  (    5) [000] d..1.  5.000100: mr: (dispatch_mmio_read+0x0/0x140) "
    "gpa=0x8080090 len=4 data=0xffff800008433{:03x}"
)
READ_RET = (
    " CPU 0/KVM-{}  (    5) [000] d..1.  5.000200: mr_ret: (io_mem_abort+0x1/0x2 <- kvm_io_bus_read) "
    "ret=0 sp=0xffff800008433700 stk={{0x1,0x2}}"
)


def test_other_devices_are_not_recorded(fake):
    """Only the values of all reads are, until a first one has shown where it stands."""
    done = fake.run(["sh"], **fake.with_events())
    assert "missing" not in done.stdout
    assert (fake.said("kvm_mmio", "filter"), fake.said("kvm_mmio", "enable")) == ("type==1", "1")
    assert [fake.said(each, "enable") for each in ACCESSES] == [None, None, None]
    watched = [fake.said(each, "enable", "watch") for each in ACCESSES]
    assert watched == [None, "1", "1"]


@pytest.mark.parametrize(
    "lacking", ["dispatch_mmio_write", "dispatch_mmio_read", "kvm_io_bus_read"]
)
def test_a_kernel_that_does_not_tell_the_gics_has_all_recorded(fake, lacking):
    fake.symbols(*{probe.symbol for probe in PROBES} - {lacking})
    done = fake.run(["sh"], **fake.with_events())
    blind = "which accesses are of the GIC: all devices' are recorded"
    assert f"#its missing: {lacking} {blind} (this kernel does not have it)\n" in done.stdout
    assert (fake.said("kvm_mmio", "filter"), fake.said("kvm_mmio", "enable")) == (None, "1")
    off = [probe.name for probe in PROBES if fake.said(probe.name, "enable") == "0"]
    assert off == [
        "who",  # once VMs were looked for
        *(p.name for p in PROBES if p.name in ACCESSES and p.symbol != lacking),
    ]
    assert all(fake.said(each, "enable", "watch") is None for each in ACCESSES)


@pytest.mark.parametrize(
    ("data", "thread", "enabled", "note"),
    [
        (0x778, 7, "0", "reads are seen at 120: from here on no other device is recorded"),
        (0x780, 7, "1", "reads are not seen at 128: all devices' reads are recorded"),
        (0x744, 7, "1", "reads are not seen at 68: all devices' reads are recorded"),
        (0x6F8, 7, "1", "reads are not seen at -8: all devices' reads are recorded"),
        (0x740, 8, "1", None),
    ],
)
def test_a_first_read_shows_whether_its_value_is_seen(fake, data, thread, enabled, note):
    reads = [READ.format(data), READ_RET.format(thread)] * 2
    fake.run(["sh"], **fake.with_events("mr: cut sp=", *reads))
    assert fake.said("kvm_mmio", "enable") == enabled
    watched = "1" if note is None else "0"
    assert fake.said("mr", "enable", "watch") == fake.said("mr_ret", "enable", "watch") == watched
    assert [each for each in fake.notes() if "reads" in each] == ([note] if note else [])


def test_every_shell_compares(shell, fake):
    fake.run(shell, **fake.with_events(READ.format(0x740), READ_RET.format(7)))
    assert fake.notes()[0] == "reads are seen at 64: from here on no other device is recorded"
    assert fake.said("kvm_mmio", "enable") == "0"


def test_clean_removes_what_the_dead_left_and_nothing_else(shell, fake):
    instances = fake.tracefs / "instances"
    for name in (f"itstrace_{DEAD}", f"itstrace_{DEAD}_watch", "itstrace_mine", "another"):
        (instances / name).mkdir()
    (fake.tracefs / "kprobe_events").write_text(
        f"p:itstrace_{DEAD}/rd kvm_read_guest len=%x3:u64\n"
        f"r64:itstrace_{DEAD}/cmd kvm_read_guest\n"
        f"p:itstrace_{DEAD + 1}/rd kvm_read_guest len=%x3:u64\n"
        "p:kprobes/rd kvm_read_guest\n"
    )
    done = fake.run(shell, "clean")
    assert done.returncode == 0
    assert sorted(each.name for each in instances.iterdir()) == ["another", "itstrace_mine"]
    removed = (fake.tracefs / "kprobe_events").read_text().splitlines()[4:]
    assert set(removed) == {  # a plain file still lists them: some are removed twice
        f"-:itstrace_{DEAD}/rd",
        f"-:itstrace_{DEAD}/cmd",
        f"-:itstrace_{DEAD + 1}/rd",
    }


def test_clean_leaves_what_somebody_uses(shell, fake):
    own = 'mkdir "$1/itstrace_$$"; echo $$; exec sleep 60 >"$1/itstrace_$$/trace_marker"'
    instances = fake.tracefs / "instances"
    command = ["sh", "-c", own, "sh", instances]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as user:
        name = f"itstrace_{user.stdout.readline().strip()}"
        user.stdout.read()  # from here on its output is the marker
        fake.run(shell, "clean")
        assert (instances / name).exists()
        assert user.poll() is None
        user.kill()


def test_a_number_that_another_process_has_now_is_no_owner(shell, fake):
    left = fake.tracefs / "instances" / f"itstrace_{os.getpid()}"
    left.mkdir()
    fake.run(shell, "clean")
    assert not left.exists()


def test_the_windows_are_wide_enough_for_the_kernels_that_were_measured():
    assert (
        8 * COMMAND_WORDS >= 136 + 32
    )  # data - sp is 136 on 5.10.223, 40 on 6.1.192, 56 on 6.12.117
    assert 8 * READ_WORDS >= 64 + 8  # 64 on 5.10.223, 16 on 6.1.192 and 6.12.117, 48 on 7.2.13
