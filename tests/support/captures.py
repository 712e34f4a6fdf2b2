"""The real captures in traces/, imported once per test run."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

from tracer.log.stream import Reader, Writer
from tracer.sources import qemu_log
from tracer.sources.lines import LineReader

TRACES = Path(__file__).parents[2] / "traces"
TWO_BOOTS = "qemu-7.2.22-linux-6.1-two-boots.log"
TWO_BOOTS_TIMED = "qemu-7.2.22-linux-6.1-two-boots.timestamps.log"
ITS_TRIGGER = "qemu-7.2.22-kvm-unit-tests-its-trigger.log"
ITS_INTROSPECTION = "qemu-7.2.22-kvm-unit-tests-its-introspection.log"
KEXEC = "qemu-7.2.22-linux-6.1-kexec.log.gz"
KEXEC_5_10 = "qemu-7.2.22-linux-5.10-kexec.log.gz"
PROBED = "qemu-7.2.22-bare-metal-probed.itstrace"  # recorded as a trace, not as a log
ALL = (TWO_BOOTS, TWO_BOOTS_TIMED, ITS_TRIGGER, ITS_INTROSPECTION)


def import_bytes(log: bytes) -> bytes:
    """Return the trace of a QEMU log."""
    lines = LineReader(io.BytesIO(log), "log")
    out = io.BytesIO()
    writer = Writer(out, qemu_log.header(lines.sniff(qemu_log.enough)), bound_ms=0)
    for event in qemu_log.QemuLog(lines).events():
        writer.add(event)
    writer.close()
    return out.getvalue()


@cache
def trace_bytes(name: str) -> bytes:
    """Return the trace of a capture."""
    return import_bytes((TRACES / name).read_bytes())


def open_capture(name: str) -> Reader:
    """Return a reader of a capture's trace."""
    return Reader(io.BytesIO(trace_bytes(name)), name)
