"""The exit code of `--git-bisect`: what a judge said of a build, apart from all other zeroes and ones.

A module of its own, as `python -m replay.cli` would make a second class of one that stood there.
"""

from __future__ import annotations

from typing import Final

GIT_BISECT: Final = "--git-bisect"
EXIT_SKIP: Final = 125  # git bisect run: this build cannot be judged


class Ruled(int):
    """An exit code that a judge gave, and not what went wrong on the way."""
