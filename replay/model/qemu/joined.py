"""A QEMU VM that is joined in the middle of its life: registers that nobody has seen yet.

What they hold is bound from what the device did: commands that ran show that the ITS is enabled and
where CREADR stood; a table that no known BASER names gets a stand-in, of just the entries that
outputs show. Nothing is invented: without an output nothing is taken to have happened. All of
this ends with the last unknown register, at a reset at the latest. Counterpart: `registers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from replay.model import effects
from replay.model.qemu import commands, registers
from replay.model.qemu.state import TableDesc
from replay.model.qemu.tables import Fault
from replay.model.unknown import WHOLE, Unknown
from tracer.its.registers import Baser, Cbaser, Creadr, Ctlr, Cwriter, GicrCtlr

if TYPE_CHECKING:
    from replay.model.qemu.profile import QemuProfile
    from replay.model.qemu.vm import QemuVm

_ENABLED: Final = Ctlr.enabled.mask
_BASER_RO: Final = Baser.entry_size.mask | Baser.table_type.mask
_STAND_IN_SHIFT: Final = 72  # beyond any real address, and apart for each table
_MAX_ENTRIES: Final = 1 << 16
_COMMAND_BYTES: Final = 32
# Descriptor, register, kind of entry.
_TABLES: Final = (
    ("dt", "GITS_BASER0", effects.DTE),
    ("ct", "GITS_BASER1", effects.CTE),
    ("vpet", "GITS_BASER2", effects.VTE),
)
_QUEUE: Final = (
    ("GITS_CTLR", _ENABLED),
    ("GITS_CBASER", Cbaser.valid.mask | Cbaser.physical_address.mask | Cbaser.size.mask),
    ("GITS_CREADR", Creadr.offset.mask),
    ("GITS_CWRITER", Cwriter.offset.mask),
)
_WIDE: Final = {0x80: "GITS_CBASER", 0x88: "GITS_CWRITER", 0x90: "GITS_CREADR"}
_LPI_REGISTERS: Final = {"GICR_PROPBASER": "propbaser", "GICR_PENDBASER": "pendbaser"}
_VLPI_REGISTERS: Final = {"GICR_VPROPBASER": "vpropbaser", "GICR_VPENDBASER": "vpendbaser"}


def unknown_of(profile: QemuProfile, cpus: int) -> Unknown:
    """Return what is unknown of a VM that is joined."""
    bits = {"GITS_CTLR": _ENABLED, **dict.fromkeys(_WIDE.values(), WHOLE)}
    for index, fresh in enumerate(profile.baser_reset):
        bits[f"GITS_BASER{index}"] = WHOLE & ~_BASER_RO if fresh else 0
    for cpu in range(cpus):
        bits[f"GICR_CTLR[{cpu}]"] = GicrCtlr.enable_lpis.mask
        for name in _LPI_REGISTERS | (_VLPI_REGISTERS if profile.virtual else {}):
            bits[f"{name}[{cpu}]"] = WHOLE
    return Unknown(bits)


def stand_in(index: int, entries: int = _MAX_ENTRIES) -> TableDesc:
    """Return a table whose place nobody knows; `index` is that of its BASER."""
    return TableDesc(index + 1 << _STAND_IN_SHIFT, entries, 0x1000, 8, 0)


def prepare(vm: QemuVm) -> None:
    """Bind what the outputs of the input that comes now show of unknown registers."""
    if vm.witness is not None and vm.witness.any() and vm.unknown.of("GITS_CTLR"):
        vm.its.ctlr |= _ENABLED
        vm.unknown.know("GITS_CTLR")  # a command or an MSI had an effect
        _take_tables(vm)
    _limit(vm)


def _take_tables(vm: QemuVm) -> None:
    """Take tables and queue from those registers that are known, as enabling did."""
    its, unknown = vm.its, vm.unknown
    if not its.ctlr & _ENABLED:
        return
    vm.forget_reads()
    for index, (attr, name, _) in enumerate(_TABLES):
        if not unknown.of(name):
            setattr(its, attr, registers.table_desc(its.baser[index]))
    if not unknown.of("GITS_CBASER"):
        registers.extract_queue(vm)


def _limit(vm: QemuVm) -> None:
    """Let a table that no known BASER names have just the entries that outputs show."""
    vm.forget_reads()
    for index, (attr, name, table) in enumerate(_TABLES):
        if vm.unknown.of(name) and vm.its.ctlr & _ENABLED:
            shown = vm.witness.entries(table) if vm.witness is not None else 0
            setattr(vm.its, attr, stand_in(index, min(shown, _MAX_ENTRIES)))


def reg_write(vm: QemuVm, offset: int, value: int, size: int) -> None:
    """Carry out a write to the control frame, of which `registers` would not know what it does."""
    writer = registers.WRITE[size].get(offset) if size in registers.WRITE else None
    if writer is None:
        return
    name = _WIDE.get(offset & ~7) or (
        f"GITS_BASER{offset - 0x100 >> 3}" if 0x100 <= offset < 0x140 else None
    )
    if offset == 0:
        _write_ctlr(vm, value)
    elif name is None:
        writer(vm, value)
    elif name == "GITS_CWRITER":
        _write_cwriter(vm, offset & 7, value, _placed(offset, size))
    elif name == "GITS_CREADR":
        vm.unknown.know(name, _placed(offset, size) if vm.profile.creadr_writable else 0)
        writer(vm, value)
    else:
        _write_base(vm, name, _placed(offset, size))
        writer(vm, value)


def _placed(offset: int, size: int) -> int:
    return ((1 << 8 * size) - 1) << 8 * (offset & 7)


def _write_ctlr(vm: QemuVm, value: int) -> None:
    vm.unknown.know("GITS_CTLR")
    if not value & _ENABLED:
        vm.its.ctlr &= ~_ENABLED
        return
    vm.its.ctlr |= _ENABLED
    vm.table_change()
    _take_tables(vm)
    _limit(vm)
    if not vm.profile.creadr_kept_on_enable:
        vm.its.creadr = 0
        vm.unknown.know("GITS_CREADR")
    process_queue(vm)


def _write_cwriter(vm: QemuVm, shift_bytes: int, value: int, mask: int) -> None:
    its = vm.its
    its.cwriter = its.cwriter & ~mask | value << 8 * shift_bytes & mask
    vm.unknown.know("GITS_CWRITER", mask)
    if not shift_bytes:  # of the upper half nothing comes, and its bits are stored unmasked
        its.cwriter &= ~Cwriter.retry.mask
        process_queue(vm)


def _write_base(vm: QemuVm, name: str, mask: int) -> None:
    """CBASER and BASER are written while the ITS is disabled, which may not be known."""
    zeroed = ["GITS_CREADR"] if name == "GITS_CBASER" else []
    if zeroed and not vm.profile.cwriter_kept_on_cbaser_write:
        zeroed.append("GITS_CWRITER")
    if vm.unknown.of("GITS_CTLR"):
        for each in (name, *zeroed):
            vm.unknown.doubt(each, WHOLE & ~_BASER_RO if "_BASER" in each else WHOLE)
    elif not vm.its.ctlr & _ENABLED:
        vm.unknown.know(name, mask)
        for each in zeroed:
            vm.unknown.know(each)


def process_queue(vm: QemuVm) -> None:
    """Run the commands that were seen to run, and stand behind the last of them.

    From the first of them on CREADR is known, so each of the others has its place; one more that
    should have run according to CWRITER is run as well, and shows that it is missing.
    """
    if not any(vm.unknown.of(name) & bits for name, bits in _QUEUE):
        commands.process_queue(vm)
        return
    seen = [at for at, *_ in vm.witness.commands()] if vm.witness is not None else []
    if not seen:
        return
    for shown in [*seen, None]:
        at = _next(vm, shown)
        if at is None:
            break
        try:
            commands.run_one(vm, vm.its.queue.base + at, at)
        except Fault:
            _stand_at(vm, at)
            vm.its.creadr |= Creadr.stalled.mask
            return
        _stand_at(vm, at + _COMMAND_BYTES)
    _stand_behind(vm)


def _next(vm: QemuVm, shown: int | None) -> int | None:
    """Return where the next command stands, None behind the last; `shown` is what was seen."""
    its, offset = vm.its, Creadr.offset.mask
    if vm.unknown.of("GITS_CREADR") & offset:
        return shown
    at = its.creadr & offset
    if its.queue.entries:
        at %= its.queue.entries * _COMMAND_BYTES
    elif shown == 0 or (shown is None and its.cwriter & offset == 0):
        at = 0  # where the queue begins anew nobody knows, except that it did here
    if shown is None and (vm.unknown.of("GITS_CWRITER") & offset or at == its.cwriter & offset):
        return None
    return at


def _stand_at(vm: QemuVm, at: int) -> None:
    offset = Creadr.offset.mask
    vm.its.creadr = vm.its.creadr & ~offset | at & offset
    vm.unknown.know("GITS_CREADR", offset)


def _stand_behind(vm: QemuVm) -> None:
    """All commands ran: CREADR is at CWRITER, or where the queue may begin anew."""
    its, offset = vm.its, Creadr.offset.mask
    if not vm.unknown.of("GITS_CWRITER") & offset:
        _stand_at(vm, its.cwriter)
    elif its.queue.entries:
        _stand_at(vm, (its.creadr & offset) % (its.queue.entries * _COMMAND_BYTES))
    else:
        vm.unknown.doubt("GITS_CREADR", offset)


# -- what a read shows


def show(vm: QemuVm, name: str, mask: int, bits: int) -> None:
    """Take over what a read showed of a register; both at their place in it."""
    hidden = vm.unknown.of(name) & mask
    stem, _, cpu = name.rstrip("]").partition("[")
    if cpu:
        vm.gicr_known = True
        attr = (_LPI_REGISTERS | _VLPI_REGISTERS).get(stem, "ctlr")
        owner: Any = vm.cpus[int(cpu)]
        setattr(owner, attr, getattr(owner, attr) & ~hidden | bits & hidden)
    elif stem.startswith("GITS_BASER"):
        index = int(stem.removeprefix("GITS_BASER"))
        vm.its.baser[index] = vm.its.baser[index] & ~hidden | bits & hidden
    else:
        attr = stem.removeprefix("GITS_").lower()
        setattr(vm.its, attr, getattr(vm.its, attr) & ~hidden | bits & hidden)
    vm.unknown.know(name, mask)
    _take_tables(vm)
