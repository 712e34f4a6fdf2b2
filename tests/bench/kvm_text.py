"""What a recorder reads of a KVM host, with other devices' accesses and without; pairs of imports.

    python -m tests.bench.kvm_text

Both are halves of the same recordings (tests/support/both_sources.py) and give the same events. The time is that of
this process for parsing, without writing a trace.
"""

from __future__ import annotations

import time

from tests.bench.peers.page import rendered
from tests.support.both_sources import BUSY, NEW, OLD, after, before
from tests.support.ftrace_text import split

PAIRS = 5


def read(text: bytes) -> tuple[float, int]:
    """Return the CPU seconds that a text took, and how many events came of it."""
    began = time.process_time()
    _, found = split(text)
    seconds = time.process_time() - began
    return seconds, sum(len(events) for _, events in found.values())


def main() -> None:
    rows = [["capture", "", "events", "lines", "KB", "us an event", "of before"]]
    for name in (OLD, NEW, BUSY):
        halves = [before(name), after(name)]
        texts = ["".join(lines).encode() for lines in halves]
        took = [[read(text) for text in texts] for _ in range(PAIRS)]
        best = [min(each[at][0] for each in took) for at in (0, 1)]
        for at, word in enumerate(("before", "after")):
            events = took[0][at][1]
            figures = (len(halves[at]), len(texts[at]), best[at])
            first = (len(halves[0]), len(texts[0]), best[0])
            parts = ", ".join(f"{a / b:.0%}" for a, b in zip(figures, first, strict=True))
            rows.append(
                [
                    "" if at else name,
                    word,
                    f"{events:,}",
                    f"{figures[0]:,}",
                    f"{figures[1] / 1e3:,.0f}",
                    f"{best[at] / events * 1e6:.1f}",
                    parts if at else "",
                ]
            )
    print(rendered(rows))


if __name__ == "__main__":
    main()
