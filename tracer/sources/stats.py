"""What an import met, line by line: the same for every source of text."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    """What the import met."""

    lines: int = 0
    ours: int = 0
    skipped: int = 0
    gaps: list[tuple[int, str]] = field(default_factory=list)
    gap_count: int = 0
    cut_last_line: bool = False

    MAX_LISTED = 1000

    def gap(self, line: int, reason: str) -> None:
        """Count a line of ours that could not be understood; the first thousand are listed."""
        self.gap_count += 1
        if len(self.gaps) < self.MAX_LISTED:
            self.gaps.append((line, reason))
