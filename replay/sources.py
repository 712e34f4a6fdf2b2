"""The digest of sources of ours: what was made or found by others is not what these would make or find.

Used by `replay.timetravel.identity`, for kept states, and by `replay.tasks`, for whoever carries out a task.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

DIGEST_BYTES: Final = 16
_ROOT: Final = Path(__file__).parents[1]


@cache
def digest_of(*patterns: str) -> bytes:
    """Return the digest of all files that patterns (`replay/model/**/*.py`) name, in their order."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for pattern in patterns:
        for path in sorted(_ROOT.glob(pattern)):
            digest.update(blake2b(path.read_bytes()).digest())
    return digest.digest()
