"""What the kernel's trace text looks like: a record's head, and the records that are ours.

Tables only; `ftrace` says what each record means. Three writers of the same records:

    tracefs      qemu-system-aar-183     [001] d....     6.552857: kvm_mmio: mmio write ...
    trace-cmd    CPU 0/KVM-183   [001]     6.552857: kvm_mmio:             mmio write ...
    perf script  CPU 0/KVM   183 [001]     6.552857:    kvm:kvm_mmio: mmio write ...

A task's name may hold spaces, dashes and digits, so a head is found by its CPU and time, and the
thread's number by looking back from there. kvm_mmio is the kernel's own (include/trace/events/kvm.h
of Linux), tracing_mark_write what was written to trace_marker; the others are the kprobes that our
recorder sets, with fields written `name=value`. Around a stream of our recorder stand lines that
begin with `#its `.
"""

from __future__ import annotations

import re
from typing import Final

MARKER: Final = b"tracing_mark_write"
WHO: Final = b"who"  # a vCPU is scheduled in: whose kvm that is
# Every record that is used -> the fields it must have; None for one that is not of that form.
RECORDS: Final[dict[bytes, tuple[bytes, ...] | None]] = {
    b"kvm_mmio": None,
    MARKER: None,
    WHO: (b"kvm",),
    b"mw": (b"gpa", b"len", b"val"),
    b"mr": (b"gpa", b"len", b"data"),
    b"mr_ret": (b"sp",),
    b"mmio_ret": (),
    b"mmio_rret": (),
    b"rd": (b"gpa", b"data", b"sp"),
    b"cmd": (),
    b"set_attr": (b"group", b"attr"),
    b"set_attr_ret": (b"ret",),
    b"get_attr": (b"group", b"attr"),
    b"get_attr_ret": (b"ret",),
    b"gset_attr": (b"group", b"attr"),
    b"gset_attr_ret": (b"ret",),
    b"gget_attr": (b"group", b"attr"),
    b"gget_attr_ret": (b"ret",),
    b"save": (),
    b"restore": (),
    b"savep": (),
    b"create": (),
    b"destroy": (),
    b"msi": (b"addr", b"data", b"devid"),
    b"msi_ret": (b"ret",),
    b"msic": (b"addr", b"data", b"devid"),
    b"msic_ret": (b"ret",),
}
# Texts that only a record of ours holds: a line with one of them and no head is damaged.
MARKS: Final = (
    *(b"kvm_mmio:", b"(dispatch_mmio_", b"vgic_its_", b": set_attr", b"tracing_mark_write: its:"),
)

_NAMES: Final = b"|".join(RECORDS)  # what follows a name is a colon
# [CPU], perhaps flags, SECONDS.FRACTION, perhaps the event's group, the event.
HEAD: Final = re.compile(
    rb"\[([0-9]{3,5})\](?: {1,40}[^ :]{1,12})? {1,40}([0-9]{1,10})\.([0-9]{6}|[0-9]{9}): {1,60}"
    rb"(?:[a-zA-Z0-9_]{1,64}:(?: {1,40}(?=" + MARKER + rb"))?)?(" + _NAMES + rb"): {1,60}"
)
# What stands before the head: -TID or a space and [PID/]TID, perhaps (TGID).
TASK: Final = re.compile(
    rb"[- ](?:([0-9]{1,10})/)?([0-9]{1,10})(?: {1,8}\( {0,10}(?:([0-9]{1,10})|-{1,10})\))? {0,60}$"
)
MAX_TASK_BYTES: Final = 120
# Threads of the kernel: what they do for a VM, the record's kvm tells whose it is.
KERNEL_THREADS: Final = (b"kworker/", b"vhost-")

MMIO: Final = re.compile(
    rb"mmio (unsatisfied-read|read|write) len ([0-9]{1,3}) "
    rb"gpa 0x([0-9a-f]{1,16}) val 0x([0-9a-f]{1,16})"
)
# (SYMBOL+0x0/0x0) at an entry, (CALLER+0x0/0x0 <- SYMBOL) at a return; trace-cmd and perf print
# addresses. Fields follow; one that is an array stands in braces.
PROBE: Final = re.compile(
    rb"\(([^()<> ]{1,200})(?: <- [^()<> ]{1,200})?\)"
    rb"((?: [^ =]{1,32}=(?:\{[0-9a-fx,]{1,1300}\}|[^ {]{1,40})){0,16})"
)
ADDRESS: Final = re.compile(rb"(?:0x)?[0-9a-f]{8,16}")
NUMBER: Final = re.compile(rb"-?[0-9]{1,20}|0x[0-9a-f]{1,16}")
ARRAY: Final = re.compile(rb"\{0x[0-9a-f]{1,16}(?:,0x[0-9a-f]{1,16}){0,63}\}")
# What a kprobe prints of memory that it could not read.
FAULT: Final = b"(fault)"

# tracefs: CPU:1 [LOST 5 EVENTS]; trace-cmd: CPU:1 [5 EVENTS DROPPED]; perf: PERF_RECORD_LOST lost 5.
LOSS: Final = re.compile(
    rb"\[LOST (?:([0-9]{1,18}) )?EVENTS\]|\[(?:([0-9]{1,18}) )?EVENTS DROPPED\]"
    rb"|PERF_RECORD_LOST(?:_SAMPLES)? lost ([0-9]{1,18})"
)
# The ring buffer's own count, in the header of tracefs' `trace`.
ENTRIES: Final = re.compile(rb"# entries-in-buffer/entries-written: ([0-9]{1,18})/([0-9]{1,18}) ")

# Commands reach KVM through kvm_read_guest, which others call too.
COMMAND_CALLERS: Final = (b"vgic_its_process_commands", b"vgic_its_handle_command")
COMMAND_BYTES: Final = 32
WORD_BYTES: Final = 8

# Attributes of the ITS device: Linux Documentation/virt/kvm/devices/arm-vgic-its.rst.
GROUP_ADDR: Final = 0
GROUP_CTRL: Final = 4
GROUP_REGS: Final = 8
ADDR_ITS: Final = 4
CTRL_INIT: Final = 0
CTRL_SAVE: Final = 1
CTRL_RESTORE: Final = 2
CTRL_RESET: Final = 4
# Attributes of the GICv3 device: Documentation/virt/kvm/devices/arm-vgic-v3.rst. A register's
# attribute is the vCPU's affinity << 32 | offset.
GIC_GROUP_DIST: Final = 1
GIC_GROUP_IRQS: Final = 3
GIC_GROUP_REDIST: Final = 5
GIC_ADDR_DIST: Final = 2
GIC_ADDR_REDIST: Final = 3
GIC_ADDR_REGION: Final = 5  # count << 52 | address | index
GIC_CTRL_SAVE_PENDING: Final = 3
# GICD registers that the LPIs' world depends on: CTLR, TYPER, IIDR, TYPER2.
GICD_OFFSETS: Final = frozenset((0x0, 0x4, 0x8, 0xC))
# What vgic_its_inject_cached_translation returns when it has no translation: -EWOULDBLOCK.
MISS: Final = -11

# Where QEMU's virt machine has its GIC, until an attribute tells.
ITS_BASE: Final = 0x808_0000
ITS_BYTES: Final = 0x2_0000
ITS_REGISTERS_BYTES: Final = 0x1_0000
GICD_BASE: Final = 0x800_0000
GICD_CTLR: Final = 0x0
GICR_BASE: Final = 0x80A_0000
GICR_BYTES: Final = 0x2_0000
MAX_GICRS: Final = 123

# What our recorder says beside the records: `#its KEY: VALUE`, and `its: ...` through trace_marker.
FACT: Final = re.compile(rb"#its ([a-z]{1,16}): ?([^\x00-\x1f]{0,4000})")
STREAM_VERSION: Final = 1
# The last one is the kernel's; the compiler's stands before it.
DEBIAN_VERSION: Final = re.compile(rb".*\bDebian ([0-9]{1,4}\.[0-9]{1,6}\.[0-9]{1,6})")
RELEASE: Final = re.compile(rb"([0-9]{1,4}(?:\.[0-9]{1,6}){1,3})")
PERF_RELEASE: Final = re.compile(rb"# os release : ([0-9]{1,4}(?:\.[0-9]{1,6}){1,3})")
VM: Final = re.compile(rb"([0-9]{1,10})-([0-9]{1,10})((?: [a-z]{1,16}=[0-9a-f,]{1,200}){0,8})")
LOST: Final = re.compile(rb"cpu ([0-9]{1,5}) overrun ([0-9]{1,18}) dropped ([0-9]{1,18})")
MISSED: Final = re.compile(rb"([a-z_]{1,32}) ([0-9]{1,18})")
# A process and its threads; `*` where the process ended before they could be listed.
THREADS: Final = re.compile(rb"([0-9]{1,10})((?: [0-9]{1,10}){0,200})(?: \*)?")
COMMAND_LINE: Final = re.compile(rb"([0-9]{1,10}) ([^\x00-\x1f]{0,1000})")
# What is written to trace_marker: `its: sample ...` is a listing's, the others are facts.
SAID: Final = re.compile(rb"its: (threads|vm|command|note):? ([^\x00-\x1f]{0,4000})")
SAMPLE: Final = re.compile(
    rb"its: sample ([0-9]{1,10}) (begin|lpi|its|dist|end)(?: ([^\n]{0,400}))?"
)
SAMPLE_BEGIN: Final = re.compile(rb"([0-9]{1,10})-([0-9]{1,10}) ([a-z_]{1,32})")
SAMPLE_END: Final = re.compile(rb"rows=([0-9]{1,9}) skipped=([0-9]{1,9}) lists=([0-3])")
SAMPLE_DIST: Final = re.compile(rb"enabled=([01])(?: vcpus=([0-9]{1,4}))?")
# A row of debugfs vgic-state: type, INTID, TGT_ID, the seven flags PLAEHCG, HWINTID, mpidr in hex,
# source in hex, priority, the vCPU whose list it is on (arch/arm64/kvm/vgic/vgic-debug.c). An LPI
# that went while it was listed shows as `LPI 8192 freed`.
LPI_ROW: Final = re.compile(
    rb" {0,16}LPI {1,16}([0-9]{1,10}) {1,16}(-?[0-9]{1,10}) {1,16}([01]{7}) {1,16}[0-9]{1,10} {1,16}"
    rb"[0-9a-f]{1,8} {1,16}[0-9a-f]{1,8} {1,16}([0-9]{1,3}) {1,16}(-?[0-9]{1,10}) {0,16}"
)
LPI_FREED: Final = re.compile(rb" {0,16}LPI {1,16}[0-9]{1,10} freed {0,16}")
# debugfs vgic-its-state: a device's line, the names of the columns, then EventID, INTID, HWINTID,
# the collection's target, ICID, HW.
ITS_DEVICE: Final = re.compile(
    rb"Device ID: (0x[0-9a-f]{1,8}|[0-9]{1,10}), Event ID Range: \[0 - ([0-9]{1,10})\] {0,16}"
)
ITS_ROW: Final = re.compile(
    rb" {0,16}([0-9]{1,10}) {1,16}([0-9]{1,10}) {1,16}[0-9]{1,10} {1,16}([0-9]{1,10}) {1,16}"
    rb"([0-9]{1,10}) {1,16}[01] {0,16}"
)
ITS_TITLE: Final = re.compile(rb"EVENT_ID .{0,80}|-{1,80}|")
NOT_MAPPED: Final = 0xFFFF_FFFF  # the target of a collection that has none
