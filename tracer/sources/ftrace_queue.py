"""The command queue as the accesses show it: where it stands, how far it ran, where a command was.

KVM always runs up to CWRITER, so without an address a command's place is counted back from there.
With one (our probe at kvm_read_guest shows where each was read) it is exact, and checks the count.
"""

from __future__ import annotations

from typing import Any, Final

from tracer.sources import ftrace_formats as ft
from tracer.sources.ftrace_order import Span

CTLR, CBASER, CWRITER = 0x0, 0x80, 0x88
RUNS_QUEUE: Final = (CTLR, CWRITER, CWRITER + 4)
UNPLACED: Final = -1  # the queue offset of a command until its input ends
MAX_BYTES: Final = 1 << 20
MAX_COMMANDS: Final = MAX_BYTES // ft.COMMAND_BYTES  # of one input: a whole queue

_OFFSET: Final = 0xF_FFE0
_ADDRESS: Final = (1 << 52) - (1 << 12)
_U32: Final = 0xFFFF_FFFF


class Queue:
    """What is known of one ITS's queue."""

    def __init__(self) -> None:
        self.bytes = MAX_BYTES
        self._halves: list[int | None] = [None, None]  # of CBASER, as written
        self._base: int | None = None
        self._cwriter = self._creadr = 0
        self._enabled = False
        self.seen = False  # whether any access was

    def reset(self) -> None:
        """CTRL_RESET zeroes its registers."""
        self._cwriter = self._creadr = 0
        self._enabled = False
        self._halves = [0, 0]
        self._base = None

    def written(self, span: Span, offset: int, value: int, size: int) -> None:
        """Follow a write, and note whether it makes KVM run the queue, and to where."""
        self.seen = True
        if offset in (CBASER, CBASER + 4) and not self._enabled:
            self._place(offset, value, size)
        elif offset == CWRITER and value & _OFFSET < self.bytes:
            self._cwriter = value & _OFFSET
        elif offset == CTLR:
            self._enabled = bool(value & 1)
        span.commands = self._cwriter
        if self._enabled and offset in (CTLR, CWRITER):
            span.expects = self._cwriter != self._creadr
            self._creadr = self._cwriter

    def _place(self, offset: int, value: int, size: int) -> None:
        if size == ft.WORD_BYTES:
            self._halves = [value & _U32, value >> 32]
        else:
            self._halves[offset >> 2 & 1] = value & _U32
        low, high = self._halves
        self._base = None if low is None or high is None else (high << 32 | low) & _ADDRESS
        if low is not None:
            self.bytes = ((low & 0xFF) + 1) << 12
        self._cwriter = self._creadr = 0

    def holds(self, gpa: int) -> bool:
        """Return whether a command can stand there, as far as is known where the queue is."""
        return self._base is not None and self._base <= gpa < self._base + self.bytes

    def place_commands(self, span: Span, commands: list[tuple[list[Any], int | None]]) -> None:
        """Give the commands of an input that ended, (event, gpa), their places in the queue."""
        if commands and self._base is None and span.commands and commands[-1][1] is not None:
            # A VM that was joined: the last command stands right before CWRITER.
            self._base = commands[-1][1] - (span.commands - ft.COMMAND_BYTES)
        for back, (event, gpa) in enumerate(reversed(commands), 1):
            exact = None if gpa is None or self._base is None else gpa - self._base
            counted = (span.commands - back * ft.COMMAND_BYTES) % self.bytes
            event[3] = exact if exact is not None and 0 <= exact < self.bytes else counted
