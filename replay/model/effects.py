"""What an observer of a device could have seen of one input: plain tuples `(code, field, ...)`.

Codes and field order are those of the output events in `tracer.events` without time and cause; a
test holds the two together.
"""

from __future__ import annotations

from typing import Any, Final

Effect = tuple[Any, ...]

COMMAND: Final = 67  # queue_offset, dw0, dw1, dw2, dw3
MSI_RESULT: Final = 69  # result
LPI: Final = 70  # intid, cpu
TABLE_READ: Final = 71  # table, index, base, valid, entry fields
TABLE_WRITE: Final = 72
TABLE_FAULT: Final = 73  # table, index, base
ATTR_RESULT: Final = 75  # errno
XLAT_HIT: Final = 76  # device_id, event_id
XLAT_MISS: Final = 77

DTE: Final = 0
CTE: Final = 1
ITE: Final = 2
VTE: Final = 3
L1: Final = 4

GUEST: Final = 0
VMM: Final = 1


class HostCrash(Exception):
    """The host (its kernel, or its hypervisor) would have died here.

    Attributes:
        function: the function that a call trace would name.
    """

    def __init__(self, function: str) -> None:
        super().__init__(f"the host dies in {function}")
        self.function = function
