"""THE event schema: one small class per kind, one literal table from number to class.

An event in memory and on the wire is a tuple `(kind, dt_ns, field, ...)`; the classes here are
what gives those positions a name, a type and a default. Trailing fields at their defaults are left
out. Counterpart: `tracer.log`, which carries these tuples in files.

The kind's range is its class: 0-63 input (drives a model), 64-127 output (is compared), 128 and up
note (does neither). Numbers are never reused and fields are only ever appended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

FIRST_OUTPUT: Final = 64
FIRST_NOTE: Final = 128
LAST_KIND: Final = 255

Event = tuple[Any, ...]  # (kind, dt_ns, field, ...)

REQUIRED: Final = object()


@dataclass(frozen=True, slots=True)
class Field:
    """One position: its name, how it is written in text, and its default when it is left out.

    `form` is one of hex and dec (never negative), int (may be), bytes, text, or a tuple of names
    (an enumeration by index). Only a field whose default is None may be null.
    """

    name: str
    form: str | tuple[str, ...]
    default: object = REQUIRED
    doc: str = ""


# Who did it. `probe` is our own reading, `vmm` came through a device attribute.
ORIGINS: Final = ("guest", "vmm", "probe")
GUEST, VMM, PROBE = range(3)
TABLES: Final = ("dte", "cte", "ite", "vte", "l1")
DTE, CTE, ITE, VTE, L1 = range(5)
RESET_KINDS: Final = ("power_on", "system", "ctrl_reset", "register_fallback", "reinit")
POWER_ON, SYSTEM, CTRL_RESET, REGISTER_FALLBACK, REINIT = range(5)
MSI_PATHS: Final = ("mmio", "ioctl", "irqfd", "worker")
DEVICES: Final = ("its", "gic")
EDGES: Final = ("begin", "end")
VCPU_ACTIONS: Final = ("run", "stop")

# What the fields of an entry mean, by table; they fill e1..e5 in this order.
ENTRY_FIELDS: Final = {
    DTE: ("size", "itt_addr"),
    CTE: ("rdbase",),
    ITE: ("inttype", "intid", "icid", "vpe_id", "doorbell"),
    VTE: ("vpt_size", "vpt_addr", "rdbase"),
    L1: ("address",),
}


def hexa(name: str, default: object = REQUIRED, doc: str = "") -> Field:
    """Return a number that people read in hexadecimal."""
    return Field(name, "hex", default, doc)


def dec(name: str, default: object = REQUIRED, doc: str = "") -> Field:
    """Return a number that people read in decimal."""
    return Field(name, "dec", default, doc)


def signed(name: str, default: object = REQUIRED, doc: str = "") -> Field:
    """Return a decimal number that may be negative."""
    return Field(name, "int", default, doc)


def one_of(name: str, names: tuple[str, ...], default: object = REQUIRED) -> Field:
    """Return an enumeration stored by index."""
    return Field(name, names, default)


CAUSE: Final = dec("cause", doc="how many events back the input stands; 0 when it is not known")
ORIGIN: Final = one_of("origin", ORIGINS, 0)


class Kind:
    """Base of all kinds: `name` in text and JSON, `fields` after kind and dt_ns."""

    name: str = ""
    fields: tuple[Field, ...] = ()


# -- inputs


class RegWrite(Kind):
    """A write to the ITS control frame. `bad` marks one the device answered as RAZ/WI."""

    name = "reg.write"
    fields = (hexa("offset"), hexa("value"), dec("size", 8), ORIGIN, dec("bad", 0))


class Msi(Kind):
    """An MSI: EventID written to the doorbell by DeviceID."""

    name = "msi"
    fields = (
        hexa("device_id"),
        hexa("event_id"),
        hexa("doorbell", None),
        dec("size", 4),
        ORIGIN,
        one_of("path", MSI_PATHS, 0),
    )


class GicrWrite(Kind):
    """A write to a redistributor; offset from RD_base."""

    name = "gicr.write"
    fields = (dec("cpu"), hexa("offset"), hexa("value"), dec("size", 8), ORIGIN, dec("bad", 0))


class GicdWrite(Kind):
    """A write to the distributor; GICD_CTLR gates the queueing of LPIs."""

    name = "gicd.write"
    fields = (hexa("offset"), hexa("value"), dec("size", 4), ORIGIN)


class AttrSet(Kind):
    """A device attribute set by the VMM that no other kind expresses."""

    name = "attr.set"
    fields = (one_of("device", DEVICES), dec("group"), hexa("attr"), hexa("value", None))


class MemWrite(Kind):
    """Guest RAM written by the guest or the VMM."""

    name = "mem.write"
    fields = (hexa("gpa"), Field("data", "bytes"))


class Ram(Kind):
    """A memory slot appears (present=1) or goes."""

    name = "ram"
    fields = (hexa("gpa"), hexa("size"), dec("present", 1))


class Reset(Kind):
    """The device was reset."""

    name = "reset"
    fields = (one_of("how", RESET_KINDS), ORIGIN)


class Save(Kind):
    """SAVE_TABLES: the tables are written to guest RAM."""

    name = "save"


class SavePending(Kind):
    """SAVE_PENDING_TABLES: pending bits are written to guest RAM."""

    name = "save_pending"


class Restore(Kind):
    """RESTORE_TABLES: the tables are read from guest RAM."""

    name = "restore"


class Create(Kind):
    """The ITS device was created."""

    name = "create"


class Init(Kind):
    """The ITS device was initialised and got its base address."""

    name = "init"
    fields = (hexa("base", None),)


class Vcpu(Kind):
    """A vCPU began to run or was stopped."""

    name = "vcpu"
    fields = (dec("cpu"), one_of("action", VCPU_ACTIONS))


class Context(Kind):
    """Which ITS, CPU and thread the following events belong to, until the next one."""

    name = "context"
    fields = (
        dec("its", 0),
        dec("cpu", None),
        dec("thread", None),
        dec("overlap", 0, "1: at the same time as another thread's, so the order may be another"),
    )


# -- outputs


class RegRead(Kind):
    """A read of the ITS control frame and what came back."""

    name = "reg.read"
    fields = (hexa("offset"), hexa("value"), dec("size", 8), ORIGIN, dec("bad", 0))


class GicrRead(Kind):
    """A read of a redistributor and what came back."""

    name = "gicr.read"
    fields = (dec("cpu"), hexa("offset"), hexa("value"), dec("size", 8), ORIGIN, dec("bad", 0))


class GicdRead(Kind):
    """A read of the distributor and what came back."""

    name = "gicd.read"
    fields = (hexa("offset"), hexa("value"), dec("size", 4), ORIGIN)


class Command(Kind):
    """The device fetched a command. known0..3 say which bits of each doubleword are known."""

    name = "command"
    fields = (
        CAUSE,
        hexa("queue_offset", doc="bytes from the start of the queue"),
        hexa("dw0"),
        hexa("dw1"),
        hexa("dw2"),
        hexa("dw3"),
        hexa("known0", 2**64 - 1),
        hexa("known1", 2**64 - 1),
        hexa("known2", 2**64 - 1),
        hexa("known3", 2**64 - 1),
    )


class CommandDone(Kind):
    """The queue came to rest: where CREADR stands and whether it stalled."""

    name = "command.done"
    fields = (CAUSE, hexa("creadr"), dec("stalled", 0))


class MsiResult(Kind):
    """What KVM_SIGNAL_MSI returned: 1 delivered, 0 blocked, or -errno."""

    name = "msi.result"
    fields = (CAUSE, signed("result"))


class Lpi(Kind):
    """An LPI was made pending on a vCPU."""

    name = "lpi"
    fields = (CAUSE, dec("intid"), dec("cpu"))


_ENTRY: Final = (
    CAUSE,
    one_of("table", TABLES),
    hexa("index", doc="DeviceID, ICID, EventID, vPEID or level-1 index"),
    hexa("base", doc="the ITT's address for an ITE; for other tables 0 means: the BASER's"),
    dec("valid"),
    hexa("e1", None, "the entry's fields, in the order of ENTRY_FIELDS; null is not observed"),
    hexa("e2", None),
    hexa("e3", None),
    hexa("e4", None),
    hexa("e5", None),
    hexa("gpa", None),
)


class TableRead(Kind):
    """The device read a table entry."""

    name = "table.read"
    fields = _ENTRY


class TableWrite(Kind):
    """The device wrote a table entry. With valid=0 the other fields are not observed."""

    name = "table.write"
    fields = _ENTRY


class TableFault(Kind):
    """The device could not read a table entry: no memory answers there."""

    name = "table.fault"
    fields = _ENTRY[:4]


class MemRead(Kind):
    """Guest RAM as it was found."""

    name = "mem.read"
    fields = (CAUSE, hexa("gpa"), Field("data", "bytes"))


class AttrResult(Kind):
    """The errno of the attribute, save, restore or reset that caused it; 0 is success."""

    name = "attr.result"
    fields = (CAUSE, signed("errno"))


class XlatHit(Kind):
    """The translation cache had this event."""

    name = "xlat.hit"
    fields = (CAUSE, hexa("device_id"), hexa("event_id"))


class XlatMiss(Kind):
    """The translation cache did not have this event."""

    name = "xlat.miss"
    fields = (CAUSE, hexa("device_id"), hexa("event_id"))


class LpiLive(Kind):
    """One row of a debugfs vgic-state: flags are pending level active enabled hw config group."""

    name = "lpi.live"
    fields = (
        CAUSE,
        dec("intid"),
        signed("target"),
        hexa("flags"),
        dec("priority"),
        signed("queued", doc="the vCPU that it is queued on, or -1"),
    )


class ItsLive(Kind):
    """One row of a debugfs vgic-its-state."""

    name = "its.live"
    fields = (
        CAUSE,
        hexa("device_id"),
        hexa("event_id"),
        dec("intid"),
        signed("target"),
        dec("icid"),
    )


class LpiAck(Kind):
    """A CPU acknowledged an LPI, which is pending no longer (a read of ICC_IAR1)."""

    name = "lpi.ack"
    fields = (CAUSE, dec("intid"), dec("cpu"))


# -- notes


class Loss(Kind):
    """The recorder lost events here."""

    name = "loss"
    fields = (Field("reason", "text"), dec("count", None))


class Marker(Kind):
    """Text put here by whoever recorded."""

    name = "marker"
    fields = (Field("text", "text"),)


class Digest(Kind):
    """The state digest that a model had here when this was written."""

    name = "digest"
    fields = (Field("state", "bytes"),)


class SourceGap(Kind):
    """The source said something of ours that could not be understood."""

    name = "source.gap"
    fields = (Field("reason", "text"), dec("line", None))


class Probe(Kind):
    """Our own probing begins or ends; `perturbing` when it stopped the VM."""

    name = "probe"
    # At its end `lists` says what was listed whole: 1 for lpi.live, 2 for its.live, 3 for both.
    fields = (one_of("edge", EDGES), dec("perturbing", 0), dec("lists", 3))


KINDS: Final[dict[int, type[Kind]]] = {
    1: RegWrite,
    2: Msi,
    3: GicrWrite,
    4: GicdWrite,
    5: AttrSet,
    6: MemWrite,
    7: Ram,
    8: Reset,
    9: Save,
    10: SavePending,
    11: Restore,
    12: Create,
    13: Init,
    14: Vcpu,
    15: Context,
    64: RegRead,
    65: GicrRead,
    66: GicdRead,
    67: Command,
    68: CommandDone,
    69: MsiResult,
    70: Lpi,
    71: TableRead,
    72: TableWrite,
    73: TableFault,
    74: MemRead,
    75: AttrResult,
    76: XlatHit,
    77: XlatMiss,
    78: LpiLive,
    79: ItsLive,
    80: LpiAck,
    128: Loss,
    129: Marker,
    130: Digest,
    131: SourceGap,
    132: Probe,
}

NUMBER: Final[dict[str, int]] = {cls.name: number for number, cls in KINDS.items()}


# Kind -> names and defaults of its fields, as `fields_of` needs them: it runs for every event.
_NAMED: Final[dict[int, tuple[tuple[str, ...], tuple[Any, ...]]]] = {
    number: (
        tuple(field.name for field in cls.fields),
        tuple(field.default for field in cls.fields),
    )
    for number, cls in KINDS.items()
}
_NOTHING_NAMED: Final[tuple[tuple[str, ...], tuple[Any, ...]]] = ((), ())


def kind_name(number: int) -> str:
    """Return a kind's name; one of a newer trace is `kind.N`."""
    cls = KINDS.get(number)
    return cls.name if cls else f"kind.{number}"


def make(name: str, dt_ns: int, **values: object) -> Event:
    """Return the event tuple of kind `name`, trailing defaults left out.

    Raises:
        TypeError: a field is missing or unknown.
    """
    number = NUMBER[name]
    event: list[Any] = [number, dt_ns]
    for field in KINDS[number].fields:
        value = values.pop(field.name, field.default)
        if value is REQUIRED:
            raise TypeError(f"{name} needs {field.name}")
        event.append(value)
    if values:
        raise TypeError(f"{name} has no field {', '.join(values)}")
    return trim(event, KINDS[number])


def trim(event: list[Any], cls: type[Kind]) -> Event:
    """Return `event` as a tuple without trailing fields that stand at their defaults."""
    keep = len(event)
    while keep > 2 and event[keep - 1] == cls.fields[keep - 3].default:
        keep -= 1
    return tuple(event[:keep])


def fields_of(event: Event) -> dict[str, Any]:
    """Return name -> value of all fields of `event`, defaults filled in.

    Fields that a newer recorder appended are called `field.N`; an unknown kind has only those.
    """
    names, defaults = _NAMED.get(event[0], _NOTHING_NAMED)
    given = event[2:]
    values = dict(zip(names, given + defaults[len(given) :], strict=False))
    for at in range(len(names), len(given)):
        values[f"field.{at}"] = given[at]
    return values
