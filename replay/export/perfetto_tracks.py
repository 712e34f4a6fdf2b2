"""Where on a Perfetto timeline an event is drawn: by who did it, and to what.

One track each for resets, notes, the VMM, probes, guest RAM, every CPU and the LPIs made pending on
it, every device's MSIs; of each ITS its commands, tables, translation cache and registers.
Counterpart: `perfetto`, which says what is drawn there.
"""

from __future__ import annotations

from typing import Any, Final

from replay.decode import REGISTERS
from replay.export.perfetto_packets import Packets
from replay.export.streaming import NO_CLOCK, inner
from tracer.events import ORIGINS, Event, kind_name
from tracer.its.registers import RW
from tracer.log.header import Header

MAX_TRACKS: Final = 1000  # a guest chooses how many devices it has
MAX_ITS: Final = 64  # this one and those above it are drawn as one
_MAX_TITLE: Final = 200
_OTHERS: Final = "(more than can be shown)"
# Kind -> its track; of an access it is that of who made it.
_PLACES: Final = {
    "reset": "resets",
    "loss": "notes", "marker": "notes", "digest": "notes", "source.gap": "notes",
    "attr.set": "VMM", "attr.result": "VMM", "save": "VMM", "save_pending": "VMM",
    "restore": "VMM", "create": "VMM", "init": "VMM",
    "probe": "probe", "lpi.live": "probe", "its.live": "probe",
    "mem.write": "guest RAM", "mem.read": "guest RAM", "ram": "guest RAM",
    "msi": "MSIs of device {device_id:#x}", "msi.result": "MSIs of no known device",
    "vcpu": "vCPU {cpu}", "lpi": "LPIs of CPU {cpu}", "lpi.ack": "LPIs of CPU {cpu}",
}  # fmt: skip
# Kind -> its track below that of its ITS.
_ITS_PLACES: Final = {
    "table.read": "tables", "table.write": "tables", "table.fault": "tables",
    "xlat.hit": "translation cache", "xlat.miss": "translation cache",
    "command.done": "commands",
}  # fmt: skip
# Read-only, and what one looks for.
_MOVES: Final = "GITS_CREADR"
_RANKS: Final = {"resets": 1, "notes": 2, "VMM": 3, "probe": 4}


class Tracks:
    """Makes tracks as they are needed, and follows who does what comes next."""

    def __init__(self, packets: Packets, header: Header) -> None:
        self._packets = packets
        self._made: dict[tuple[int | None, str], int] = {}
        self._registers: dict[tuple[int, str], tuple[int, int]] = {}  # value, bits known
        self._root = self._made[None, ""] = packets.track(_title(header), None)
        self.resets = self._track("resets")
        self.notes = self._track("notes")
        self.its = 0
        self._cpu: int | None = None

    def context(self, f: dict[str, Any]) -> None:
        """Take in who does what follows."""
        self.its, self._cpu = min(f["its"], MAX_ITS), f["cpu"]

    @property
    def commands(self) -> int:
        """The command queue's track of the ITS that is meant now."""
        return self._of_its("commands")

    def of(self, event: Event, f: dict[str, Any]) -> int:
        """Return the track of an event."""
        name = kind_name(event[0])
        if name in _PLACES:
            return self._track(_PLACES[name].format_map(f))
        if name in _ITS_PLACES:
            return self._of_its(_ITS_PLACES[name])
        return self._who(f["origin"])

    def _who(self, origin: int) -> int:
        if ORIGINS[origin] == "vmm":
            return self._track("VMM")
        if ORIGINS[origin] == "probe":
            return self._track("probe")
        return self._track("guest" if self._cpu is None else f"CPU {self._cpu}")

    def _of_its(self, name: str) -> int:
        return self._track(name, self._track(f"ITS {self.its}"))

    def _track(self, name: str, parent: int | None = None, *, counter: bool = False) -> int:
        parent = self._root if parent is None else parent
        key = parent, name
        if key not in self._made:
            if len(self._made) >= MAX_TRACKS:
                if (None, _OTHERS) not in self._made:
                    self._made[None, _OTHERS] = self._packets.track(_OTHERS, self._root)
                return self._made[None, _OTHERS]
            rank = _RANKS.get(name, len(_RANKS) + 1)
            self._made[key] = self._packets.track(name, parent, rank=rank, counter=counter)
        return self._made[key]

    # -- registers

    def forget(self) -> None:
        """A reset: what the registers hold now is seen when it is seen."""
        self._registers.clear()

    def count(self, at: int, event: Event, f: dict[str, Any]) -> None:
        """Draw what a register was written to be or read as, once all of it is known."""
        find = REGISTERS.get(event[0])
        found = find(f["offset"]) if find and not f["bad"] else None
        if not found or (found[1].guest != RW and found[0] != _MOVES):
            return
        name, row, first = found
        whole = f"ITS {self.its}" if "cpu" not in f else f"redistributor {f['cpu']}"
        group = self._track("registers", self._track(whole))
        if len(self._made) >= MAX_TRACKS:
            return
        value, known = self._registers.get((group, name), (0, 0))
        shift = 8 * (f["offset"] - first)
        bits = (1 << 8 * min(f["size"], 8)) - 1 << shift & (1 << 8 * row.size_bytes) - 1
        now = value & ~bits | f["value"] << shift & bits
        if (now, known | bits) == (value, known):
            return
        self._registers[group, name] = now, known | bits
        if known | bits == (1 << 8 * row.size_bytes) - 1:
            self._packets.count(self._track(name, group, counter=True), at, now)


def _title(header: Header) -> str:
    what = f"{header.implementation or 'unknown'} {header.implementation_version or ''}".strip()
    times = ", no times: an event a microsecond" if header.clock == NO_CLOCK else ""
    return inner(f"itstrace: {what}{times}")[:_MAX_TITLE]
