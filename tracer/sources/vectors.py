"""Lives of a VM as operation vectors: what was asked of a real implementation and what it answered.

The line format is in tests/vectors/README.md. Nobody but the script and the device wrote guest RAM,
so a trace of a life has complete RAM, and its answers are its outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, Final

from tracer import events as ev
from tracer.errors import SourceError
from tracer.events import Event, make
from tracer.log.checks import check_event
from tracer.log.header import MAX_CPUS, Header
from tracer.sources.lines import LineReader

NAME: Final = "vectors"
MAX_WORDS: Final = 8192  # of one memory dump
_LIFE: Final = re.compile(
    rb"# seed (\S+)(?: cpus ([0-9]{1,3}))?(?: gicr ([0-9a-f]+))?(?: stride ([0-9]{1,3}))?\s*"
)
_MASK32: Final = 0xFFFF_FFFF
_NO_CPU: Final = 0xFFFF
_KVM_RAM: Final = [[0x4000_0000, 32 << 20]]
_QEMU_RAM: Final = [[0, 128 << 20], [0x4000_0000, 64 << 20]]  # flash reads as memory, too


def recognise(start: bytes) -> bool:
    """Return whether a file that begins like this holds vectors."""
    return _LIFE.match(start.partition(b"\n")[0]) is not None


def profile_of(path: str) -> str | None:
    """Return the profile that a file's name says: between its first dot and `.txt`."""
    name = PurePath(path).name.partition(".")[2].partition(".txt")[0]
    return name or None


class Life:
    """One life: its header, and its events as they are read."""

    def __init__(self, name: str, wanted: str | None, profile: str) -> None:
        self._name = name
        self._wanted = wanted
        self._kvm = not profile.startswith("qemu")
        self._profile = profile
        self._ids: list[int] = []
        self.seed: str | None = None
        self.header: Header | None = None

    def events(self, reader: LineReader) -> Iterator[Event]:
        """Yield the events of the wanted life (the first one unless named).

        The header is known once the first event is.

        Raises:
            SourceError: a line that is not an operation, or no such life.
        """
        for number, line in enumerate(reader, 1):
            if line is None:
                raise SourceError(f"{self._name}:{number}: the line is too long")
            if line.startswith(b"#"):
                if self.seed is not None:
                    return
                self._begin(number, line)
            elif self.seed is not None and line.strip():
                try:
                    for event in self._operation(line.split()):
                        check_event(event)  # a number may be wider than any that a VM has
                        yield event
                except (ValueError, IndexError, KeyError, OverflowError) as error:
                    raise SourceError(
                        f"{self._name}:{number}: this is no operation: {line[:60]!r}"
                    ) from error
        if self.seed is None:
            raise SourceError(f"{self._name}: there is no life with seed {self._wanted}")

    def _begin(self, number: int, line: bytes) -> None:
        match = _LIFE.fullmatch(line)
        if not match:
            raise SourceError(f"{self._name}:{number}: a life must begin with `# seed N cpus C`")
        seed = match[1].decode("ascii", "replace")
        if self._wanted is not None and seed != self._wanted:
            return
        self.seed = seed
        cpus, stride = int(match[2] or 4), int(match[4] or 1)
        if not 1 <= cpus <= MAX_CPUS or not 1 <= stride <= 256 // cpus + 1:
            raise SourceError(f"{self._name}:{number}: a VM has 1 to {MAX_CPUS} CPUs")
        self._ids = list(range(0, cpus * stride, stride))
        self.header = Header(
            source=NAME,
            order="total",
            implementation="linux-kvm" if self._kvm else "qemu-tcg",
            implementation_version=self._profile.partition("-")[2],
            profile=self._profile,
            its_bases=[0x8080000],
            cpus=cpus,
            mpidrs=[vcpu_id & 15 | vcpu_id >> 4 << 8 for vcpu_id in self._ids],
            ram_ranges=_KVM_RAM if self._kvm else _QEMU_RAM,
            guest_ram="complete",
            annotations={"life": line.decode("ascii", "replace").strip("# ")},
        )

    def _operation(self, fields: list[bytes]) -> Iterator[Event]:
        letter = fields[0].decode()
        return _OPERATIONS[letter](self, fields[1:])

    def _result(self, fields: list[bytes]) -> Iterator[Event]:
        if self._kvm:
            yield make("attr.result", 0, cause=1, errno=int(fields[-1]))

    def _origin(self) -> int:
        return ev.VMM if self._kvm else ev.GUEST

    def _size(self, offset: int) -> int:
        if self._kvm:
            return 8
        return 4 if offset in (0, 4, 0x14) or offset >= 0xFFD0 or offset & 4 else 8

    def _cpu(self, attribute: int) -> int:
        """Return the index of the vCPU that an attribute's affinity names."""
        affinity = attribute >> 32
        if not self._kvm:
            return affinity
        vcpu_id = affinity & 0xF | affinity >> 8 << 4
        known = not affinity & 0xF0 and not affinity >> 16 and vcpu_id in self._ids
        return self._ids.index(vcpu_id) if known else _NO_CPU

    # -- operations

    def reg_write(self, fields: list[bytes]) -> Iterator[Event]:
        """W off value [errno]."""
        offset = int(fields[0], 16)
        size = self._size(offset)
        value = int(fields[1], 16) & (1 << 8 * size) - 1
        yield make("reg.write", 0, offset=offset, value=value, size=size, origin=self._origin())
        yield from self._result(fields)

    def reg_read(self, fields: list[bytes]) -> Iterator[Event]:
        """R off value [errno]."""
        offset = int(fields[0], 16)
        yield make(
            "reg.read", 0, offset=offset, value=int(fields[1], 16), size=self._size(offset),
            origin=self._origin(),
        )  # fmt: skip
        if self._kvm and int(fields[2]):
            yield from self._result(fields)

    def gicr_write(self, fields: list[bytes]) -> Iterator[Event]:
        """G reg value [errno]."""
        at = int(fields[0], 16)
        yield make(
            "gicr.write", 0, cpu=self._cpu(at), offset=at & _MASK32,
            value=int(fields[1], 16) & _MASK32, size=4, origin=self._origin(),
        )  # fmt: skip
        yield from self._result(fields)

    def gicr_read(self, fields: list[bytes]) -> Iterator[Event]:
        """G's sister: g reg value [errno]."""
        at = int(fields[0], 16)
        yield make(
            "gicr.read", 0, cpu=self._cpu(at), offset=at & _MASK32, value=int(fields[1], 16),
            size=4, origin=self._origin(),
        )  # fmt: skip
        if self._kvm and int(fields[2]):
            yield from self._result(fields)

    def gicd_write(self, fields: list[bytes]) -> Iterator[Event]:
        """D off value [errno]."""
        value = int(fields[1], 16)
        yield make("gicd.write", 0, offset=int(fields[0], 16), value=value, origin=self._origin())
        yield from self._result(fields)

    def store(self, fields: list[bytes]) -> Iterator[Event]:
        """Q gpa dw0..dw3 and M gpa value."""
        data = b"".join(int(field, 16).to_bytes(8, "little") for field in fields[1:5])
        yield make("mem.write", 0, gpa=int(fields[0], 16), data=data)

    def dump(self, fields: list[bytes]) -> Iterator[Event]:
        """M gpa count [i:value ...]."""
        count = int(fields[1], 16)
        if count > MAX_WORDS:
            raise ValueError
        words = [0] * count
        for field in fields[2:]:
            index, _, value = field.partition(b":")
            words[int(index)] = int(value, 16)
        data = b"".join(word.to_bytes(8, "little") for word in words)
        yield make("mem.read", 0, cause=0, gpa=int(fields[0], 16), data=data)

    def msi(self, fields: list[bytes]) -> Iterator[Event]:
        """I device event [result]."""
        path = ev.MSI_PATHS.index("ioctl") if self._kvm else 0
        device_id, event_id = int(fields[0], 16), int(fields[1], 16)
        yield make("msi", 0, device_id=device_id, event_id=event_id, path=path)
        if self._kvm:
            yield make("msi.result", 0, cause=1, result=int(fields[2]))

    def ctrl(self, fields: list[bytes]) -> Iterator[Event]:
        """X attr [errno]."""
        attr = int(fields[0], 16)
        if attr in (1, 2):
            yield make("save" if attr == 1 else "restore", 0)
        elif attr == 4:
            how = ev.CTRL_RESET if self._kvm else ev.SYSTEM
            yield make("reset", 0, how=how, origin=self._origin())
        else:
            yield make("attr.set", 0, device=0, group=4, attr=attr)
        yield from self._result(fields)

    def save_pending(self, fields: list[bytes]) -> Iterator[Event]:
        """P [errno]."""
        yield make("save_pending", 0)
        yield from self._result(fields)

    def live(self, fields: list[bytes]) -> Iterator[Event]:
        """V [intid,target,flags,priority,queued ...]."""
        if fields == [b"?"]:  # the host had no debugfs
            return
        yield make("probe", 0, edge=0)
        for field in fields:
            intid, target, flags, priority, queued = field.split(b",")
            yield make(
                "lpi.live", 0, cause=0, intid=int(intid), target=int(target),
                flags=int(flags, 2), priority=int(priority), queued=int(queued),
            )  # fmt: skip
        yield make("probe", 0, edge=1)


_OPERATIONS: Final[dict[str, Callable[[Any, list[bytes]], Iterator[Event]]]] = {
    "W": Life.reg_write,
    "R": Life.reg_read,
    "G": Life.gicr_write,
    "g": Life.gicr_read,
    "D": Life.gicd_write,
    "Q": Life.store,
    "M": Life.store,
    "m": Life.dump,
    "I": Life.msi,
    "X": Life.ctrl,
    "P": Life.save_pending,
    "V": Life.live,
}
