"""Long answers on a terminal of 80 columns: names that differ in a number as one, lines that are broken.

Nothing is left out: `GITS_BASER0,2-7` has no GITS_BASER1 in it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

WIDTH: Final = 80
_NUMBERED: Final = re.compile(
    r"(GITS_BASER|GIC[A-Z_]+\[|lpis |the pending table of vCPU )([0-9]+)(.*)"
)


def folded(names: Iterable[str], between: str = ", ") -> str:
    """Return names in one line, each once, in order; those that differ in a number only as one."""
    found: dict[tuple[str, str], set[int]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match:
            found.setdefault((match[1], match[3]), set()).add(int(match[2]))
        elif name:
            found[name, ""] = set()
    return between.join(start + _runs(numbers) + end for (start, end), numbers in found.items())


def _runs(numbers: Iterable[int]) -> str:
    """Return numbers in order, those that follow each other as a run: 0,2-7."""
    spread = sorted(numbers)
    if not spread:
        return ""
    breaks = [at for at, (one, next_) in enumerate(pairwise(spread), 1) if next_ != one + 1]
    runs = [spread[a:b] for a, b in pairwise([0, *breaks, len(spread)])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def wrapped(line: str) -> str:
    """Return a line as several that a terminal shows whole, the later ones further in."""
    within = len(line) - len(line.lstrip(" "))
    return textwrap.fill(
        line, WIDTH, subsequent_indent=" " * (within + 2),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
