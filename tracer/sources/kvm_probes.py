"""The kprobes of a recorded KVM host, as a table; `kvm_script` sets them, `ftrace_formats` reads them.

Offsets: struct kvm_device is {ops, kvm, ...}; struct kvm_device_attr is {u32 flags, u32 group,
u64 attr, u64 addr}; struct kvm_msi is {u32 address_lo, address_hi, data, flags, devid}
(include/linux/kvm_host.h and include/uapi/linux/kvm.h of Linux 5.10 to 6.12).

A guest's accesses of the GIC are those that KVM's own bus hands to the vgic (`mw`, `mr`), wherever a
VMM has put it. The tracepoint kvm:kvm_mmio, which tells every device's accesses, is what the script
falls back to where one of ACCESSES cannot be set; and values that were read come from it until a first
one was seen where `mr_ret` shows it.

Three things stand on a caller's stack, where only a return probe finds them filled in. All say of
themselves whether they are what they seem, so that no build has to be measured beforehand:
- a command: kvm_read_guest is given a buffer of vgic_its_process_commands. Its entry shows
  `data` and `sp`, the return a window of the stack from `sp` up. data - sp is 136 on 5.10.223, 40 on
  6.1.192 and 7.2.13, 56 on 6.12.117.
- a value that a guest reads: io_mem_abort keeps it and gives kvm_io_bus_read its place, which `mr`
  shows as `data`; the return shows `sp` and the stack from there up. data - sp is 64 on 5.10.223
  16 on 6.1.176, 6.1.192 and 6.12.117, 48 on 7.2.13. A read that no device in the kernel has is
  filtered out by its result.
- a value that the VMM reads: kvm_device_ioctl keeps the kvm_device_attr. Its entry shows `ptr` and
  `sp`; only if they are equal, as on both kernels, the return's `val` is what the VMM was given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

COMMAND_WORDS: Final = 24  # of the stack: data - sp may be at most 8 * (COMMAND_WORDS - 4)
READ_WORDS: Final = 16  # data - sp may be at most 8 * (READ_WORDS - 1)
RETURNS_AT_ONCE: Final = 64  # how many calls of a function may be under way: kretprobe's maxactive


@dataclass(frozen=True, slots=True)
class Probe:
    """One kprobe: its event's name, p at the entry or r at the return, and what it shows."""

    name: str
    kind: str
    symbol: str
    fields: str
    blind: str  # what nobody can see where the symbol is missing
    filter: str = ""


_ATTR: Final = "dev=%x0:x64 kvm=+8(%x0):x64 group=+4(%x1):u32 attr=+8(%x1):x64 uaddr=+16(%x1):x64"
_WRITTEN: Final = f"{_ATTR} val=+u0(+16(%x1)):x64"
_READ: Final = f"{_ATTR} ptr=%x1:x64 sp=%sp:x64"
_GIVEN: Final = "ret=$retval:s32 val=+u0(+16(%sp)):x64"
_RET: Final = "ret=$retval:s32"
_MSI: Final = "kvm=%x0:x64 addr=+0(%x1):x64 data=+8(%x1):x32 devid=+16(%x1):x32"
# Of the GICv3 device neither CPU_SYSREGS nor LEVEL_INFO, and of its registers those below 0x80:
# GICD_CTLR, GICR_CTLR, GICR_PROPBASER, GICR_PENDBASER. A reset of QEMU writes 1,500 others.
_OF_LPIS: Final = "group!=6 && group!=7 && !(attr & 0x1ff80)"

# Set for a moment at the start, where VMs run already: struct kvm_vcpu begins with its struct kvm.
WHO: Final = "who"

PROBES: Final = (
    Probe(
        WHO, "p", "kvm_arch_vcpu_load", "kvm=+0(%x0):x64", "whose MSIs are, of VMs that run already"
    ),
    Probe("create", "p", "vgic_its_create", "dev=%x0:x64 kvm=+8(%x0):x64", "when an ITS is made"),
    Probe("destroy", "p", "vgic_its_destroy", "dev=%x0:x64 kvm=+8(%x0):x64", "when an ITS ends"),
    Probe("set_attr", "p", "vgic_its_set_attr", _WRITTEN, "resets, saves, restores of the ITS"),
    Probe("set_attr_ret", "r", "vgic_its_set_attr", _RET, "the errnos of ITS attributes"),
    Probe("get_attr", "p", "vgic_its_get_attr", _READ, "ITS registers that the VMM reads"),
    Probe("get_attr_ret", "r", "vgic_its_get_attr", _GIVEN, "ITS registers that the VMM reads"),
    Probe(
        "gset_attr",
        "p",
        "vgic_v3_set_attr",
        _WRITTEN,
        "redistributor registers that the VMM writes",
        _OF_LPIS,
    ),
    Probe("gset_attr_ret", "r", "vgic_v3_set_attr", _RET, "the errnos of GICv3 attributes"),
    Probe(
        "gget_attr",
        "p",
        "vgic_v3_get_attr",
        _READ,
        "redistributor registers that the VMM reads",
        _OF_LPIS,
    ),
    Probe(
        "gget_attr_ret",
        "r",
        "vgic_v3_get_attr",
        _GIVEN,
        "redistributor registers that the VMM reads",
    ),
    Probe("save", "p", "vgic_its_save_tables_v0", "its=%x0:x64", "when tables are written"),
    Probe("restore", "p", "vgic_its_restore_tables_v0", "its=%x0:x64", "when tables are read"),
    Probe(
        "savep", "p", "vgic_v3_save_pending_tables", "kvm=%x0:x64", "when pending bits are written"
    ),
    Probe(
        "rd",
        "p",
        "kvm_read_guest",
        "kvm=%x0:x64 gpa=%x1:x64 data=%x2:x64 len=%x3:u64 sp=%sp:x64",
        "commands",
        "len==32",
    ),
    Probe("cmd", "r", "kvm_read_guest", f"stk=+0(%sp):x64[{COMMAND_WORDS}]", "commands"),
    Probe("msi", "p", "vgic_its_inject_msi", _MSI, "MSIs that miss the cache"),
    Probe("msi_ret", "r", "vgic_its_inject_msi", _RET, "results of MSIs that miss the cache"),
    Probe("msic", "p", "vgic_its_inject_cached_translation", _MSI, "MSIs that hit the cache"),
    Probe("msic_ret", "r", "vgic_its_inject_cached_translation", _RET, "cache hits and misses"),
    Probe(
        "mw",
        "p",
        "dispatch_mmio_write",
        "gpa=%x2:x64 len=%x3:u32 val=+0(%x4):x64",
        "which accesses are of the GIC: all devices' are recorded",
    ),
    Probe("mmio_ret", "r", "dispatch_mmio_write", _RET, "how long a guest's write takes"),
    Probe(
        "mr",
        "p",
        "dispatch_mmio_read",
        "gpa=%x2:x64 len=%x3:u32 data=%x4:x64",
        "which accesses are of the GIC: all devices' are recorded",
    ),
    Probe(
        "mr_ret",
        "r",
        "kvm_io_bus_read",
        f"{_RET} sp=%sp:x64 stk=+0(%sp):x64[{READ_WORDS}]",
        "which accesses are of the GIC: all devices' are recorded",
        "ret==0",
    ),
)
# Without one of them the script records kvm:kvm_mmio instead of all of them.
ACCESSES: Final = ("mw", "mr", "mr_ret")
