"""What the next step towards a missed aim would be, and what it would cost; printed only where it is missed."""

from __future__ import annotations

from typing import Final

_DECODER: Final = """Next step: beside msgpack's own unpacking there is left what tells that every event has the types and ranges of its
kind, for a frame of nothing but numbers (`tracer/log/plain.py`): passes in C over its events, for kinds and lengths, and one
of msgpack over their bytes, which makes no objects. One pass is the least, and that is a decoder in C that checks as it
unpacks. It costs a wheel for each platform beside the pure one, a second implementation of every limit, and fuzzing of both."""
_MODEL: Final = """Next step: reads of registers are answered in the engine's loop, and what a command or an MSI reads of tables is
kept while guest RAM stays as it is, so that no walk is made twice. What is left is spread: the loop over events, a tuple made of
each output to hold it against what the model did, and the handlers of commands, of which each does what QEMU's function does. The
same sources compiled by mypyc (`ITSTRACE_COMPILE=1`) are the step that costs least, a compiler at build time and the suite
in both forms: their row stands in the table. In pure Python the comparison could go first: effects with the same places as
events, time and cause included, would be compared without a tuple made of each output; it costs every reader of effects two
places that mean nothing to it."""

# (letter, what of the aim) -> Markdown
NEXT: Final[dict[tuple[str, str], str]] = {
    (
        "A",
        "append, a write an event: times mcap's speed",
    ): """A frame of one event has a head of 36 bytes, two CRCs and a digest over the frame before; mcap's message has none
of these, and its one CRC of the data section comes at the end of the file, where nobody finds it after a kill. The limit,
a bare Packer with a write for each event, stands in the table: what three times mcap's speed leaves beyond it is a fraction
of a microsecond, less than one call of a Python function and a digest. No cheaper frame is in the format: the head, its CRC, the
chain and the payload's CRC are in each. The same sources compiled have a row of their own: without Python's calls, what is
left is the kernel's write, packing, the CRCs and the digest, each with the objects that it takes and returns. Next step: all
of a frame in one function of C, at the cost of a second implementation of the file format. Who can bear to lose a hundred
milliseconds, or with `--bound-ms` fewer, records buffered and has the aim.""",
    ("B", "read: times mcap's speed"): _DECODER,
    ("B", "read: times the speed of mcap's streaming reader"): _DECODER,
    ("B", "the limit: read, times the bare Unpacker's time"): _DECODER,
    ("C", "replay: times QEMU's speed, write, wait, read"): _MODEL,
    ("C", "replay: times eventsourcing's speed"): _MODEL,
    ("C", "the limit: replay, times read's time, pure Python"): _MODEL,
    (
        "C",
        "the limit: replay, times read's time, compiled",
    ): """Next step: a compiled replay still calls by Python's rules wherever a table holds functions (kinds of inputs,
registers, commands): arguments become Python's objects and are taken apart again. Doublewords and addresses of stand-ins
are beyond 62 bits, and so always objects. And each output is compared by a tuple made of it. Calls that a compiler can see, which
means chains of conditions in the place of tables, and effects as native objects would take these away. It costs the tables,
which is how the model is read, and a second form of effects for all who look at them.""",
}
