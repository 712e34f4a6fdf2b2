"""What goes wrong with a real target: it is missing, hangs, dies, or cannot do what is asked."""

from __future__ import annotations

from tracer.errors import TracerError


class TargetError(TracerError):
    """A target that cannot judge a trace; the sentence names it and says why."""

    exit_code = 4
