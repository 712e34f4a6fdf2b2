"""Device attributes that a VMM sets and gets, as events: of the ITS, and of the GICv3 device.

A VMM's register accesses have origin `vmm`, and each attribute has a result. What a VMM is given
by get_attr is read at the user's address when the function returns, by way of the attribute on the
caller's stack: that is right only where the entry showed it to stand at the stack pointer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tracer import events as ev
from tracer.events import NUMBER
from tracer.its.registers import gicr_register
from tracer.log.header import MAX_CPUS
from tracer.sources import ftrace_formats as ft
from tracer.sources.ftrace_order import Span
from tracer.sources.ftrace_records import Fields

if TYPE_CHECKING:
    from tracer.sources.ftrace import Ftrace

_U32: Final = 0xFFFF_FFFF
_ITS, _GIC = (ev.DEVICES.index(each) for each in ("its", "gic"))
_REG_READ, _REG_WRITE = NUMBER["reg.read"], NUMBER["reg.write"]
_GICR_READ, _GICR_WRITE = NUMBER["gicr.read"], NUMBER["gicr.write"]
_GICD_READ, _GICD_WRITE = NUMBER["gicd.read"], NUMBER["gicd.write"]
_SAVE, _RESTORE, _RESET = NUMBER["save"], NUMBER["restore"], NUMBER["reset"]
_PENDING, _ATTR, _RESULT = NUMBER["save_pending"], NUMBER["attr.set"], NUMBER["attr.result"]
# Event of an attribute's call -> where its value stands, for those that have one to be read.
_VALUE_AT: Final = {_REG_READ: 3, _GICR_READ: 4, _GICD_READ: 3}
_CALLS: Final = frozenset(
    (NUMBER["init"], _ATTR, _SAVE, _RESTORE, _RESET, _PENDING, _REG_WRITE, _GICR_WRITE, _GICD_WRITE)
)
_CTRL: Final[dict[int, tuple[Any, ...]]] = {
    ft.CTRL_INIT: (NUMBER["init"], None),
    ft.CTRL_SAVE: (_SAVE,),
    ft.CTRL_RESTORE: (_RESTORE,),
    ft.CTRL_RESET: (_RESET, ev.CTRL_RESET, ev.VMM),
}


def set_attr(log: Ftrace, caller: bytes, f: Fields) -> None:
    """The VMM sets an attribute of the ITS (`vgic_its_set_attr`)."""
    log.vmm_seen = True
    group, attr, value = f[b"group"], f[b"attr"], f.get(b"val")
    if group == ft.GROUP_CTRL and attr in _CTRL:
        log.made(born=attr == ft.CTRL_INIT)
        log.begin(*_CTRL[attr])
        if attr == ft.CTRL_RESET:
            log.queue.reset()
    elif group == ft.GROUP_REGS and value is not None:
        log.made(born=False)
        span = log.begin(_REG_WRITE, attr, value, 8, ev.VMM)
        log.queue.written(span, attr, value, ft.WORD_BYTES)
    else:
        if group == ft.GROUP_ADDR and attr == ft.ADDR_ITS and value is not None:
            log.places.set_its(value)
        log.made(born=group == ft.GROUP_ADDR)
        log.begin(_ATTR, _ITS, group, attr, value)


def set_attr_ret(log: Ftrace, caller: bytes, f: Fields) -> None:
    """The attribute's result; its cause is not known when its entry is not shown."""
    if not _result(log, f):
        log.effect(None, _RESULT, f[b"ret"])


def gset_attr_ret(log: Ftrace, caller: bytes, f: Fields) -> None:
    """The same for the GICv3 device, most of whose entries are no concern of an ITS's."""
    if not _result(log, f):
        log.skip()


def _result(log: Ftrace, f: Fields) -> bool:
    top = log.top()
    if top is None or top.event[0] not in _CALLS or not _by_vmm(top):
        return False
    log.effect(top, _RESULT, f[b"ret"])
    log.pop()
    return True


def _by_vmm(span: Span) -> bool:
    """Return whether a span is an attribute's, and no access of the guest's."""
    at = {_REG_WRITE: 5, _GICR_WRITE: 6, _GICD_WRITE: 5}.get(span.event[0])
    return at is None or (len(span.event) > at and span.event[at] == ev.VMM)


def get_attr(log: Ftrace, caller: bytes, f: Fields) -> None:
    """The VMM reads an attribute of the ITS; only registers are events."""
    log.vmm_seen = True
    if f[b"group"] == ft.GROUP_REGS:
        log.made(born=False)
        _ask(log, f, _REG_READ, f[b"attr"], 0, 8, ev.VMM)
    else:
        log.other()


def get_attr_ret(log: Ftrace, caller: bytes, f: Fields) -> None:
    """What the VMM was given, and the errno."""
    top = log.top()
    if top is None or top.event[0] not in _VALUE_AT or not _by_vmm_read(top):
        log.skip()
        return
    errno, value = f[b"ret"], f.get(b"val")
    if errno == 0 and (value is None or not top.readable):
        log.tell("what the VMM reads is not shown: its attribute does not stand where we look")
    else:
        at, size = _VALUE_AT[top.event[0]], top.event[_VALUE_AT[top.event[0]] + 1]
        top.event[at] = 0 if errno else value & (1 << 8 * size) - 1
        top.dropped = False
        log.effect(top, _RESULT, errno)
    log.pop()


def _by_vmm_read(span: Span) -> bool:
    return bool(span.event[_VALUE_AT[span.event[0]] + 2 :][:1] == [ev.VMM])


def _ask(log: Ftrace, f: Fields, *event: Any) -> None:
    """Begin a read, which is nothing until its value comes."""
    span = log.begin(*event)
    span.dropped = True
    span.readable = f.get(b"ptr") is not None and f.get(b"ptr") == f.get(b"sp")


def gset_attr(log: Ftrace, caller: bytes, f: Fields) -> None:
    """The VMM sets an attribute of the GICv3 device (`vgic_v3_set_attr`)."""
    group, attr, value = f[b"group"], f[b"attr"], f.get(b"val")
    offset = attr & _U32
    if group == ft.GIC_GROUP_REDIST:
        cpu = _cpu(log, attr)
        if cpu is None or value is None or not gicr_register(offset):
            log.other()
        else:
            log.begin(_GICR_WRITE, cpu, offset, value & _U32, 4, ev.VMM)
    elif group == ft.GIC_GROUP_DIST:
        if offset not in ft.GICD_OFFSETS or value is None:
            log.other()
        else:
            log.begin(_GICD_WRITE, offset, value & _U32, 4, ev.VMM)
    elif group == ft.GROUP_CTRL and attr == ft.GIC_CTRL_SAVE_PENDING:
        log.begin(_PENDING)
    elif group in (ft.GROUP_ADDR, ft.GROUP_CTRL, ft.GIC_GROUP_IRQS):
        _set_up_gic(log, group, attr, value)
    else:
        log.other()


def _set_up_gic(log: Ftrace, group: int, attr: int, value: int | None) -> None:
    log.made(born=True)
    if group == ft.GROUP_ADDR and value is not None:
        log.places.set_gic(attr, value)
    if group == ft.GIC_GROUP_IRQS and value is not None:
        value &= _U32
    log.begin(_ATTR, _GIC, group, attr, value if group != ft.GROUP_CTRL else None)


def gget_attr(log: Ftrace, caller: bytes, f: Fields) -> None:
    """The VMM reads a register of the GICv3 device (`vgic_v3_get_attr`)."""
    group, offset = f[b"group"], f[b"attr"] & _U32
    cpu = _cpu(log, f[b"attr"]) if group == ft.GIC_GROUP_REDIST else None
    if cpu is not None and gicr_register(offset):
        _ask(log, f, _GICR_READ, cpu, offset, 0, 4, ev.VMM)
    elif group == ft.GIC_GROUP_DIST and offset in ft.GICD_OFFSETS:
        _ask(log, f, _GICD_READ, offset, 0, 4, ev.VMM)
    else:
        log.other()


def _cpu(log: Ftrace, attr: int) -> int | None:
    """Return the index of the vCPU whose affinity stands in an attribute's upper half.

    KVM gives vCPU n the affinity n / 4096, n / 16 % 256, n % 16 (`reset_mpidr`).
    """
    mpidr = attr >> 32
    cpu = mpidr & 0xF | (mpidr >> 8 & 0xFF) << 4 | (mpidr >> 16 & 0xFF) << 12
    if cpu >= MAX_CPUS:
        log.tell("a redistributor's registers are not shown: its affinity is none that KVM gives")
        return None
    log.places.touched = max(log.places.touched, cpu + 1)
    return cpu


def tables(kind: int) -> Callable[[Ftrace, bytes, Fields], None]:
    """Return what the function behind an attribute means: something only without set_attr."""

    def handle(log: Ftrace, caller: bytes, f: Fields) -> None:
        top = log.top()
        if top is None or top.event[0] != kind:
            log.begin(kind, at_once=True)

    return handle


HANDLERS: Final[dict[bytes, Callable[[Ftrace, bytes, Fields], None]]] = {
    b"set_attr": set_attr,
    b"set_attr_ret": set_attr_ret,
    b"get_attr": get_attr,
    b"get_attr_ret": get_attr_ret,
    b"gset_attr": gset_attr,
    b"gset_attr_ret": gset_attr_ret,
    b"gget_attr": gget_attr,
    b"gget_attr_ret": get_attr_ret,
    b"save": tables(_SAVE),
    b"restore": tables(_RESTORE),
    b"savep": tables(_PENDING),
}
