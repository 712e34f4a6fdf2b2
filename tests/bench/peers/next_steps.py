"""What the next step towards a missed aim would be, and what it would cost; printed only where it is missed."""

from __future__ import annotations

from typing import Final

NEXT: Final[dict[tuple[str, str], str]] = {}
