"""What was observed: the ITS as written, the event schema, the trace file and its sources.

Counterpart: `replay`, which rebuilds state from what this package recorded. `tracer` never
imports `replay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracer.recorder import Recorder

__all__ = ["Recorder"]


def __getattr__(name: str) -> Any:
    """Import `Recorder` when it is used: reading a trace does not need it."""
    if name != "Recorder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tracer.recorder import Recorder

    return Recorder
