"""Which entries of tables in guest RAM a word is part of: so that a stored word says what may be told otherwise.

Made of a walk over all tables, and good as long as `basis` stays: what decides where tables are and what in them
counts. An ITT is followed as its device's entry changes. Tables may overlap: a word can be part of several entries.
Counterparts: `replay.model.qemu.view`, which walks, and `replay.targets.qemu_shown`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING, Any, Final

from replay.model.qemu import entries, pending, view

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from replay.model.qemu.vm import QemuVm

TABLES: Final = ("devices", "collections", "vpes")
_WORD_BYTES: Final = 4
_WORD_LPIS: Final = 32


def places(vm: QemuVm) -> tuple[Any, ...]:
    """Return what decides where tables are."""
    return tuple(vm.its.baser), len(vm.assumed_level1), vm.unknown.snapshot()


def basis(vm: QemuVm) -> tuple[Any, ...]:
    """Return what decides where everything else is, and whether it counts."""
    return (
        *places(vm), tuple(vm.since), vm.gicr_known, vm.pending.since, vm.pending.acks_seen,
        tuple(
            (cpu.ctlr, cpu.propbaser, cpu.pendbaser, cpu.vpropbaser, cpu.vpendbaser)
            for cpu in vm.cpus
        ),
    )  # fmt: skip


class Spans:
    """Half-open stretches of addresses, each of something."""

    def __init__(self, spans: Iterable[tuple[int, int, Any]] = ()) -> None:
        self._spans = sorted(spans)
        self._longest = max((end - start for start, end, _ in self._spans), default=0)

    def add(self, start: int, end: int, what: Any) -> None:
        """Note one more."""
        insort(self._spans, (start, end, what))
        self._longest = max(self._longest, end - start)

    def remove(self, start: int, end: int, what: Any) -> None:
        """Forget one."""
        self._spans.remove((start, end, what))

    def at(self, address: int) -> Iterator[tuple[int, Any]]:
        """Yield (start, what) of each that an address lies in."""
        for index in range(bisect_right(self._spans, (address + 1,)) - 1, -1, -1):
            start, end, what = self._spans[index]
            if start <= address - self._longest:
                return
            if address < end:
                yield start, what


class Reach:
    """What words are part of, as of the last walk and what changed since."""

    def __init__(self, vm: QemuVm) -> None:
        self._vm = vm
        self.basis = basis(vm)
        self.places = places(vm)
        self._level1: list[tuple[int, int]] = []
        self._sizes: list[int] = []
        self._order: list[tuple[int, int]] = []  # first DeviceID and how many, as a walk has them
        pages = []
        for index, component in enumerate(TABLES[: 3 if vm.profile.virtual else 2]):
            desc = view.table_of(vm, index)
            self._sizes.append(desc.entry_size)
            if desc.entries and desc.indirect:
                per_page = desc.page_size // desc.entry_size
                self._level1.append((desc.base, desc.base + desc.entries // per_page * 8))
            for first, start, count in view.pages_of(vm, desc):
                pages.append((start, start + count * desc.entry_size, (index, first)))
                if component == "devices":
                    self._order.append((first, count))
        self._pages = Spans(pages)
        self._itts: dict[int, tuple[int, int, int]] = {}  # DeviceID -> its span of events
        self._events = Spans()
        self.top = 0  # the highest INTID that anybody asks for
        self._pending = [pending.table_of(vm, cpu) for cpu in range(len(vm.cpus))]

    def device(self, device_id: int, found: dict[str, Any] | None) -> None:
        """A device is told so now, or not any more."""
        old = self._itts.pop(device_id, None)
        if old:
            self._events.remove(*old)
        if found:
            start = found["itt_addr"]
            end = start + entries.ITE_SIZE_BYTES * (1 << found["eventid_bits"])
            self._itts[device_id] = span = (start, end, device_id)
            self._events.add(*span)

    def itt(self, device_id: int) -> int:
        """Return where a device's events stand."""
        return self._itts[device_id][0]

    def of_itts(self, itts: Iterable[int]) -> set[int]:
        """Return the devices whose events stand there."""
        wanted = set(itts)
        return {each for each, span in self._itts.items() if span[0] in wanted} if wanted else set()

    def rank(self, device_id: int) -> tuple[int, int]:
        """Return where a walk meets a device."""
        for at, (first, count) in enumerate(self._order):
            if first <= device_id < first + count:
                return at, device_id
        return len(self._order), device_id

    def keys(self, words: Iterable[int]) -> dict[str, dict[Any, int]] | None:
        """Return component -> key -> address of each entry that words are part of; None: of any.

        Of `lpis` these are INTIDs whose pending bit may be there.
        """
        found: dict[str, dict[Any, int]] = {name: {} for name in (*TABLES, "events", "lpis")}
        for word in words:
            at = word * _WORD_BYTES
            if any(start <= at < end for start, end in self._level1):
                return None
            for start, (index, first) in self._pages.at(at):
                number = (at - start) // self._sizes[index]
                found[TABLES[index]][first + number] = start + number * self._sizes[index]
            for start, device_id in self._events.at(at):
                number = (at - start) // entries.ITE_SIZE_BYTES
                found["events"][device_id, number] = start + number * entries.ITE_SIZE_BYTES
            for base in self._pending:
                first = (at - base) * 8
                if 0 <= first <= self.top:
                    found["lpis"].update(dict.fromkeys(range(first, first + _WORD_LPIS), at))
        return found
