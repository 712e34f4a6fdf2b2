"""What an event costs when there are ten thousand of them, a million, and a hundred million.

The events are those of `make bench-peers`, made as they are appended, into a file that is deleted afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.peers.asking import ask
from tests.bench.peers.measure import Row, Sample, best

SIZES: Final = (10_000, 1_000_000, 100_000_000)
TASKS: Final = ("append", "read", "replay")
ROUNDS: Final = 5
LONG: Final = 10_000_000  # events, which are measured once
Found = Mapping[tuple[str, int], Sequence[Sample]]
WORN: Final = {"streamed": True, "worn": True, "variant": "worn"}


def measured(
    sizes: Sequence[int], rounds: int, folder: Path
) -> Iterator[tuple[str, int, list[Sample]]]:
    """Yield (task, events, samples) as they are had."""
    for size in sizes:
        for task in TASKS:
            row = Row(f"itstrace, {task}", "ours", task, size, WORN)
            times = rounds if size < LONG else 1
            yield task, size, [ask(row, task, folder)[0] for _ in range(times)]
        for made in folder.iterdir():
            made.unlink()


def table(found: Found) -> list[list[str]]:
    """Return a row a size: cost an event, bytes, memory, and all beside a million."""
    sizes = sorted({size for _, size in found})
    rows = [
        [
            "events", "append, µs an event", "read", "replay", "bytes an event",
            "append, MiB", "read", "replay", "append, s", "read", "replay",
        ]
    ]  # fmt: skip
    for size in sizes:
        got = [found[task, size] for task in TASKS]
        rows.append(
            [
                f"{size:,}",
                *(f"{best(each, 'cpu') / size * 1e6:.3f}" for each in got),
                f"{got[0][0]['bytes'] / size:.2f}",
                *(f"{max(one['peak_kib'] for one in each) / 1024:.1f}" for each in got),
                *(f"{best(each):,.1f}" for each in got),
            ]
        )
    return rows
