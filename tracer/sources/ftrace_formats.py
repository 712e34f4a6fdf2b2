"""What the kernel's trace text looks like: a record's head, and the records that are ours.

Tables only; `ftrace` says what each record means. Three writers of the same records:

    tracefs      qemu-system-aar-183     [001] d....     6.552857: kvm_mmio: mmio write ...
    trace-cmd    CPU 0/KVM-183   [001]     6.552857: kvm_mmio:             mmio write ...
    perf script  CPU 0/KVM   183 [001]     6.552857:    kvm:kvm_mmio: mmio write ...

A task's name may hold spaces, dashes and digits, so a head is found by its CPU and time, and the
thread's number by looking back from there. kvm_mmio is the kernel's own (include/trace/events/kvm.h
of Linux); the others are the kprobes that our recorder sets, with fields written `name=value`.
"""

from __future__ import annotations

import re
from typing import Final

# Every record that is used -> the fields it must have; None for one that is not of that form.
RECORDS: Final[dict[bytes, tuple[bytes, ...] | None]] = {
    b"kvm_mmio": None,
    b"cmd": (b"dw0", b"dw1", b"dw2", b"dw3"),
    b"set_attr": (b"group", b"attr"),
    b"set_attr_ret": (b"ret",),
    b"save": (),
    b"restore": (),
    b"msi": (b"addr", b"data", b"devid"),
    b"msi_ret": (b"ret",),
    b"msic": (b"addr", b"data", b"devid"),
    b"msic_ret": (b"ret",),
}
# Texts that only a record of ours holds: a line with one of them and no head is damaged.
MARKS: Final = (b"kvm_mmio:", b"vgic_its_", b": set_attr")

_NAMES: Final = b"|".join(RECORDS)  # what follows a name is a colon
# [CPU], perhaps flags, SECONDS.FRACTION, perhaps the event's group, the event.
HEAD: Final = re.compile(
    rb"\[([0-9]{3,5})\](?: {1,40}[^ :]{1,12})? {1,40}([0-9]{1,10})\.([0-9]{6}|[0-9]{9}): {1,60}"
    rb"(?:[a-zA-Z0-9_]{1,64}:)?(" + _NAMES + rb"): {1,60}"
)
# What stands before the head: -TID or a space and [PID/]TID, perhaps (TGID).
TASK: Final = re.compile(rb"[- ](?:[0-9]{1,10}/)?([0-9]{1,10})(?: {1,8}\([ 0-9-]{1,10}\))? {0,60}$")
MAX_TASK_BYTES: Final = 120

MMIO: Final = re.compile(
    rb"mmio (unsatisfied-read|read|write) len ([0-9]{1,3}) "
    rb"gpa 0x([0-9a-f]{1,16}) val 0x([0-9a-f]{1,16})"
)
# (SYMBOL+0x0/0x0) at an entry, (CALLER+0x0/0x0 <- SYMBOL) at a return; trace-cmd and perf print
# addresses. Fields follow.
PROBE: Final = re.compile(
    rb"\(([^()<> ]{1,200})(?: <- [^()<> ]{1,200})?\)((?: [^ =]{1,32}=[^ ]{1,40}){0,16})"
)
ADDRESS: Final = re.compile(rb"(?:0x)?[0-9a-f]{8,16}")
NUMBER: Final = re.compile(rb"-?[0-9]{1,20}|0x[0-9a-f]{1,16}")
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

# Attributes of the ITS device: Linux Documentation/virt/kvm/devices/arm-vgic-its.rst.
GROUP_ADDR: Final = 0
GROUP_CTRL: Final = 4
GROUP_REGS: Final = 8
ADDR_ITS: Final = 4
CTRL_INIT: Final = 0
CTRL_SAVE: Final = 1
CTRL_RESTORE: Final = 2
CTRL_RESET: Final = 4
# What vgic_its_inject_cached_translation returns when it has no translation: -EWOULDBLOCK.
MISS: Final = -11

# Where QEMU's virt machine has its GIC; nothing in a capture tells.
ITS_BASE: Final = 0x808_0000
ITS_BYTES: Final = 0x2_0000
ITS_REGISTERS_BYTES: Final = 0x1_0000
GICD_BASE: Final = 0x800_0000
GICD_CTLR: Final = 0x0
GICR_BASE: Final = 0x80A_0000
GICR_BYTES: Final = 0x2_0000
MAX_GICRS: Final = 123
