"""What an event means in a comparison of two boots: a shape that must be equal, and names in it.

Names (addresses, INTIDs, and what else is asked for) may be others on the other side, as long as the
renaming is one to one. What depends on time, or on where in its queue a command stands, is left out.
The lane says in which order an event must come: within one it is kept, lanes may interleave.

Counterparts: `replay.diff_names`, which keeps the renaming, and `replay.diff`, which aligns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from replay.diff_names import Name
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import ENTRY_FIELDS, NUMBER, Event, fields_of
from tracer.its.commands import BY_OPCODE, COMMAND_SIZE_BYTES, join
from tracer.its.registers import Cbaser, Cwriter, gicr_register, its_register

# What may be ignored. Name spaces are renamed; the others are left out.
NAMES: Final = {
    "addresses": "guest physical addresses of tables, ITTs and queues",
    "lpis": "which INTID an event got",
    "devices": "DeviceIDs",
    "events": "EventIDs",
    "collections": "ICIDs",
    "vpes": "vPEIDs",
    "cpus": "which CPU is the target",
}
LEFT_OUT: Final = {
    "time": "when something happened",
    "positions": "where in its queue a command stands",
    "reads": "reads and what came back",
    "msis": "MSIs and what became of them: how many there are depends on time",
    "internals": "table accesses, cache hits and progress of the device",
    "probes": "what only our own probes asked, and their listings",
    "vcpus": "when vCPUs run, and which thread does what",
    "notes": "markers, digests and losses",
    "ram": "what was written to guest RAM, which many recorders do not see",
}
IGNORABLE: Final = (*NAMES, *LEFT_OUT)
DEFAULT: Final = frozenset(("addresses", "lpis", *LEFT_OUT)) - {"ram"}
# Values below these are no names: address 0 is no table, an INTID below 8192 no LPI.
_FIRST: Final = {"addresses": 1, "lpis": 8192}
# Commands that bind names, and fields of theirs that are held until the device, or event, is gone.
_BINDS: Final = ("MAPD", "MAPTI", "MAPI", "VMAPTI", "VMAPI")
_HELD: Final = ("device_id", "itt_addr", "pintid", "vintid")

_KINDS_LEFT_OUT: Final = {
    "reads": ("reg.read", "gicr.read", "gicd.read", "mem.read"),
    "msis": ("msi", "msi.result", "lpi", "lpi.ack"),
    "internals": (
        "table.read", "table.write", "table.fault", "xlat.hit", "xlat.miss", "command.done",
    ),
    "probes": ("probe", "lpi.live", "its.live"),
    "vcpus": ("vcpu", "context"),
    "notes": ("loss", "marker", "digest", "source.gap"),
    "ram": ("mem.write", "ram"),
}  # fmt: skip
# Field of a command, a table entry or an event -> the name space of its value.
_SPACES: Final = {
    "itt_addr": "addresses", "vpt_addr": "addresses", "vconf_addr": "addresses",
    "address": "addresses", "base": "addresses", "gpa": "addresses",
    "pintid": "lpis", "dbell_pintid": "lpis", "doorbell": "lpis", "default_doorbell": "lpis",
    "intid": "lpis", "vintid": "lpis",
    "device_id": "devices", "event_id": "events", "icid": "collections", "vpe_id": "vpes",
    "rdbase": "cpus", "rdbase1": "cpus", "rdbase2": "cpus", "cpu": "cpus", "target": "cpus",
}  # fmt: skip
_INDEX_OF: Final = {
    ev.DTE: "devices", ev.CTE: "collections", ev.ITE: "events", ev.VTE: "vpes", ev.L1: "",
}  # fmt: skip
_RESET: Final = NUMBER["reset"]
_COMMAND: Final = NUMBER["command"]
_CONTEXT: Final = NUMBER["context"]
_ATTR_RESULT: Final = NUMBER["attr.result"]
_REG_WRITE: Final = NUMBER["reg.write"]
_MEM_WRITE: Final = NUMBER["mem.write"]
_ENTRIES: Final = tuple(NUMBER[name] for name in ("table.read", "table.write", "table.fault"))
_REGISTERS: Final = {NUMBER[f"reg.{what}"]: its_register for what in ("read", "write")} | {
    NUMBER[f"gicr.{what}"]: gicr_register for what in ("read", "write")
}
_QUEUE_PAGE_BYTES: Final = 4096
_RECENT: Final = 256  # events back that a result may name as its cause

_LANES: Final = {"device": "devices", "collection": "collections", "vpe": "vpes", "cpu": "cpus"}

Shape = tuple[Any, ...]
ORDERS: Final = ("device", "cpu", "total")


class Item(NamedTuple):
    """One event as it is compared: `drops` are the holders of names that it sets free."""

    seq: int
    event: Event
    lane: Any
    shape: Shape
    names: tuple[Name, ...] = ()
    drops: tuple[Any, ...] = ()


def ignored(also: str = "", compared: str = "") -> frozenset[str]:
    """Return what is ignored: the default and `also` (from nothing on behind `none`), less `compared`.

    Raises:
        UsageError: there is nothing called so.
    """
    found: set[str] = set(DEFAULT)
    for word in _words("--ignore", also, ("none", *IGNORABLE)):
        if word == "none":
            found.clear()
        else:
            found.add(word)
    return frozenset(found.difference(_words("--compare", compared, IGNORABLE)))


def _words(option: str, text: str, known: tuple[str, ...]) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise UsageError(f"{option}: {word!r:.30} must be one of {', '.join(known)}")
    return words


class Items:
    """Makes items of the events of one side, in their order."""

    def __init__(self, ignore: frozenset[str], order: str) -> None:
        self._ignore = ignore
        self._order = order
        self._kinds_left_out = {
            NUMBER[name] for what in ignore for name in _KINDS_LEFT_OUT.get(what, ())
        }
        self._queue: range = range(0)
        self._cwriter = 0
        self._queued: dict[int, tuple[Any, Shape]] = {}  # place in the queue -> (lane, command)
        self._thread: Any = None  # who does what follows, by its first appearance
        self._threads: dict[Any, int] = {}
        self._lane: Any = "its"  # of the last command
        self._held: Item | None = None  # a write of CWRITER: it goes with what it has fetched
        self._recent: deque[tuple[int, bool]] = deque(maxlen=_RECENT)  # (seq, left out)
        self._time_ns = 0

    def of(self, seq: int, event: Event) -> Iterator[Item]:
        """Yield the items of one event: none for what is left out, after one that was held."""
        kind = event[0]
        self._time_ns += event[1]
        if kind == _CONTEXT:
            self._context(event)
        left_out = self._left_out(seq, event)
        if kind == _ATTR_RESULT or "reads" in self._ignore:
            self._recent.append((seq, left_out))
        if left_out:
            return
        item = self._item(seq, event)
        held, self._held = self._held, None
        if held is not None:
            if kind == _COMMAND:
                held = held._replace(lane=item.lane, shape=(*held.shape, item.shape))
            yield held
        if kind == _REG_WRITE and item.shape[1] == "GITS_CWRITER" and self._order == "device":
            self._held = item
        else:
            yield item

    def end(self) -> Iterator[Item]:
        """Yield what is held at the end."""
        if self._held is not None:
            yield self._held
            self._held = None

    def _left_out(self, seq: int, event: Event) -> bool:
        kind = event[0]
        if kind in self._kinds_left_out:
            return True
        if kind == _ATTR_RESULT:
            return (seq - event[2], True) in self._recent
        if "probes" not in self._ignore or kind not in _REGISTERS:
            return False
        at = 5 if _REGISTERS[kind] is its_register else 6
        return len(event) > at and event[at] == ev.PROBE

    def _context(self, event: Event) -> None:
        fields = fields_of(event)
        who = fields["cpu"] if fields["thread"] is None else ("thread", fields["thread"])
        if who is None:
            self._thread = None
            return
        if len(self._threads) < ev.LAST_KIND * 256:
            self._thread = self._threads.setdefault(who, len(self._threads))

    # -- lanes

    def _in_lane(self, lane: Any) -> Any:
        if self._order == "total":
            return None
        if self._order == "cpu":
            return self._thread
        if isinstance(lane, tuple) and _LANES[lane[0]] in self._ignore:
            return lane[0]  # nobody can tell which of them it is
        return lane

    # -- shapes

    def _item(self, seq: int, event: Event) -> Item:
        kind = event[0]
        if kind in _REGISTERS:
            lane, shape, names, drops = self._register(event)
        elif kind == _COMMAND:
            lane, shape, names, drops = self._command(event[4:8], event[8:])
            if "positions" not in self._ignore:
                shape = (*shape, event[3])
        elif kind == _MEM_WRITE:
            lane, shape, names, drops = self._stored(event)
        elif kind in _ENTRIES:
            lane, shape, names, drops = self._entry(event)
        else:
            lane, shape, names, drops = self._plain(event)
        if "time" not in self._ignore:
            shape = (*shape, self._time_ns)
        return Item(seq, event, self._in_lane(lane), (kind, *shape), tuple(names), drops)

    def _value(
        self,
        names: list[Name],
        space: str,
        value: int | None,
        holder: tuple[Any, ...] | None = None,
        of: int | None = None,
    ) -> int | str | None:
        """Return a value as its shape has it: itself, or a place that a name fills.

        `of`: the device whose EventID it is.
        """
        if space not in self._ignore or value is None or value < _FIRST.get(space, 0):
            return value
        names.append(Name((space, of) if space == "events" else space, value, holder))
        return space

    def _register(self, event: Event) -> tuple[Any, Shape, list[Name], tuple[Any, ...]]:
        find = _REGISTERS[event[0]]
        fields = fields_of(event)
        cpu = fields.get("cpu")
        offset, size, value = fields["offset"], fields["size"], fields["value"]
        found = find(offset)
        lane: Any = "its" if cpu is None else ("cpu", cpu)
        rest = (size, fields["origin"], fields["bad"], cpu)
        if found is None:
            return lane, (offset, value, *rest), [], ()
        name, row, start = found
        names: list[Name] = []
        writes = event[0] == _REG_WRITE
        if name == "GITS_CWRITER" and "positions" in self._ignore:
            lane, value = self._handed(value) if writes else (lane, None)
        elif name == "GITS_CREADR" and "positions" in self._ignore:
            value = None
        else:
            if writes and name == "GITS_CBASER":
                self._cbaser(value, offset - start, size)
            value = self._register_value(names, row, name, cpu, (value, offset - start, size))
        return lane, (name, value, offset - start, *rest), names, ()

    def _register_value(
        self, names: list[Name], row: Any, name: str, cpu: int | None, access: tuple[int, int, int]
    ) -> Any:
        """Return a register's value with the address, or the INTID, in it as a name."""
        value, at, size = access
        layout = row.layout
        for attr, space in (
            ("physical_address", "addresses"),
            ("pintid", "lpis"),
            ("intid", "lpis"),
        ):
            field = getattr(layout, attr, None)
            if field is None:
                continue
            mask = field.mask >> 8 * at & (1 << 8 * min(size, row.size_bytes)) - 1
            named = value & mask
            part = space if mask << 8 * at == field.mask else f"{space}+{at}"
            if space not in self._ignore or named < _FIRST[space]:
                return value
            holder = ("register", name, cpu, at) if space == "addresses" else None
            names.append(Name(part, named, holder))
            return part, value & ~mask
        return value

    def _handed(self, value: int) -> tuple[Any, tuple[Any, ...]]:
        """Return the lane of a write of CWRITER, and what it hands over.

        Where the trace shows only what the guest stored in its queue, that is: the commands; else
        how many they are.
        """
        offset, size = value & Cwriter.offset.mask, max(len(self._queue), COMMAND_SIZE_BYTES)
        steps = (offset - self._cwriter) % size // COMMAND_SIZE_BYTES
        places = [(self._cwriter + COMMAND_SIZE_BYTES * at) % size for at in range(steps)]
        queued = [found for at in places if (found := self._queued.pop(at, None))]
        self._cwriter = offset
        lane = queued[0][0] if queued else "its"
        return lane, (steps, value & ~Cwriter.offset.mask, *(shape for _, shape in queued))

    def _cbaser(self, value: int, at: int, size: int) -> None:
        self._cwriter = 0
        self._queued.clear()
        if not at and size == 8:
            start = Cbaser.physical_address.get(value)
            pages = Cbaser.size.get(value) + 1
            self._queue = range(start, start + pages * _QUEUE_PAGE_BYTES)

    def _command(
        self, words: tuple[int, ...], known: tuple[int, ...] = ()
    ) -> tuple[Any, Shape, list[Name], tuple[Any, ...]]:
        spec = BY_OPCODE.get(words[0] & 0xFF)
        if spec is None:
            return "its", ("command", *words), [], ()
        raw, shown = join(*words), -1
        if known:
            shown = join(*(*known, *[(1 << 64) - 1] * (4 - len(known))))
        names: list[Name] = []
        values: dict[str, int | None] = {}
        for field in spec.layout.fields_:
            if field.attr != "opcode":
                seen = field.mask & shown == field.mask
                values[field.attr] = field.get(raw) if seen else None
        if values.get("v") == 0:
            values["itt_addr"] = values["vpt_addr"] = None  # which mean nothing then
        device, event = values.get("device_id"), values.get("event_id")
        binds = spec.name in _BINDS
        shape: list[Any] = [spec.name]
        for attr, value in values.items():
            space = _SPACES.get(attr, "")
            holder = ("device", device, event, attr) if binds and attr in _HELD else None
            shape.append(self._value(names, space, value, holder, of=device))
        if spec.name != "SYNC":  # which goes with the command before it
            self._lane = _lane_of(spec.name, values)
        return self._lane, tuple(shape), names, _drops(spec.name, device, event)

    def _stored(self, event: Event) -> tuple[Any, Shape, list[Name], tuple[Any, ...]]:
        gpa, data = event[2], event[3]
        whole = len(data) == COMMAND_SIZE_BYTES
        if gpa in self._queue and whole and "positions" in self._ignore:
            words = tuple(int.from_bytes(data[at : at + 8], "little") for at in range(0, 32, 8))
            found = self._command(words)
            self._queued[gpa - self._queue.start] = found[:2]
            return found
        names: list[Name] = []
        page, offset = gpa & ~(_QUEUE_PAGE_BYTES - 1), gpa & _QUEUE_PAGE_BYTES - 1
        if gpa in self._queue and "positions" in self._ignore:
            return "its", ("queue", data), [], ()
        if page and "addresses" in self._ignore:
            names.append(Name("pages", page))
            page = -1
        return "ram", (page, offset, data), names, ()

    def _entry(self, event: Event) -> tuple[Any, Shape, list[Name], tuple[Any, ...]]:
        fields = fields_of(event)
        table = fields["table"]
        names: list[Name] = []
        shape: list[Any] = [table, fields.get("valid")]
        shape.append(self._value(names, _INDEX_OF.get(table, ""), fields["index"]))
        shape.append(self._value(names, "addresses", fields["base"]))
        for at, name in enumerate(ENTRY_FIELDS.get(table, ()), 1):
            shape.append(self._value(names, _SPACES.get(name, ""), fields.get(f"e{at}")))
        if "addresses" not in self._ignore:
            shape.append(fields.get("gpa"))
        return self._lane, tuple(shape), names, ()

    def _plain(self, event: Event) -> tuple[Any, Shape, list[Name], tuple[Any, ...]]:
        kind = event[0]
        names: list[Name] = []
        shape: list[Any] = []
        fields = fields_of(event)
        for name, value in fields.items():
            if name == "cause" or (kind == _CONTEXT and name == "thread"):
                continue
            space = _SPACES.get(name, "") if isinstance(value, int) else ""
            space = "" if space == "addresses" else space  # of RAM and frames, which the VMM places
            shape.append(self._value(names, space, value, of=fields.get("device_id")))
        if kind == _RESET:
            self._cwriter, self._queue = 0, range(0)
            self._queued.clear()
        lane = _lane_of("", fields) if "device_id" in fields else "vmm"
        return lane, tuple(shape), names, ()


def _drops(name: str, device: int | None, event: int | None) -> tuple[Any, ...]:
    """Return the holders whose names a command sets free."""
    if name == "MAPD":
        return (("device", device),)
    if name == "DISCARD":
        return tuple(("device", device, event, attr) for attr in ("pintid", "vintid"))
    return ()


def _lane_of(name: str, values: dict[str, Any]) -> Any:
    if "device_id" in values:
        return "device", values["device_id"]
    if name in ("MAPC", "INVALL"):
        return "collection", values["icid"]
    return ("vpe", values["vpe_id"]) if "vpe_id" in values else "its"
