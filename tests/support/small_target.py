"""The small ITS behind the protocol of a target: a QEMU whose reset can be broken at will."""

from __future__ import annotations

import zlib
from contextlib import contextmanager

from replay.targets.common import Answer
from tests.support.small_its import Ram, SmallIts
from tracer.events import NUMBER, fields_of

PAGE_BYTES = 4096
ZEROES = bytes(PAGE_BYTES)


class Forgetful(SmallIts):
    """Its reset skips one field."""

    def __init__(self, memory, kept):
        self._kept = kept
        super().__init__(memory)

    def reset(self, how):
        old = getattr(self, self._kept, None)
        super().reset(how)
        if old is not None:
            setattr(self, self._kept, old)


class Swapped(SmallIts):
    """Its reset writes the LPI tables first and switches LPIs off then: F2."""

    def reset(self, how):
        on = getattr(self, "gicr_ctlr", 0) & 1
        old = getattr(self, "propbaser", 0), getattr(self, "pendbaser", 0)
        super().reset(how)
        if on:
            self.propbaser, self.pendbaser = old


class SmallTarget:
    """One small ITS. It has one redistributor; the others' registers read as zero."""

    oops = ()
    name = "small"
    expresses = frozenset()
    asked = frozenset(NUMBER[name] for name in ("reg.read", "gicr.read", "mem.read"))

    def __init__(self, header, make):
        base, end = header.ram_ranges[0][0], max(sum(each) for each in header.ram_ranges)
        self.ram = Ram(base, end - base)
        self.its = make(self.ram)

    def carry_out(self, groups):
        return [(event, self._one(event), {}) for _, event, _ in groups]

    def _one(self, event):
        f, its = fields_of(event), self.its
        kind = event[0]
        if kind == NUMBER["reg.read"]:
            return its.reg_read(f["offset"], f["size"])
        if kind == NUMBER["gicr.read"]:
            value = its.gicr_read(0, f["offset"], 4) if f["offset"] in (0, 0x70, 0x78) else 0
            return Answer("value", 0 if f["cpu"] else value & 0xFFFF_FFFF, 0, certain=True)
        if kind == NUMBER["mem.read"]:
            data = self.load(f["gpa"], len(f["data"]))
            return None if data is None else Answer("data", data, b"", certain=True)
        if kind == NUMBER["reg.write"]:
            its.reg_write(f["offset"], f["value"], f["size"])
        elif kind == NUMBER["gicr.write"] and not f["cpu"] and f["offset"] in (0, 0x70, 0x78):
            its.gicr_write(0, f["offset"], f["value"], 4)
        elif kind == NUMBER["mem.write"]:
            self.ram.write(f["gpa"], f["data"])
        elif kind == NUMBER["msi"]:
            its.msi(f["device_id"], f["event_id"])
        elif kind == NUMBER["reset"]:
            its.reset(f["how"])
        return []

    def about(self):
        return ""

    def complete(self):
        pass

    def pages(self):
        base, size = self.ram.ranges[0]
        found = {}
        for at in range(base, base + size, PAGE_BYTES):
            page = self.ram.read(at, PAGE_BYTES)
            if page != ZEROES:
                found[at] = zlib.crc32(page)
        return found

    def load(self, gpa, size):
        try:
            return self.ram.read(gpa, size)
        except ValueError:
            return None

    def copy_ram(self, source):
        base, size = self.ram.ranges[0]
        self.ram.write(base, source.ram.read(base, size))

    def registers(self):
        return {}

    def close(self):
        pass


def opener(make):
    """Return what starts instances of a device."""

    @contextmanager
    def opened(header):
        yield SmallTarget(header, make)

    return opened
