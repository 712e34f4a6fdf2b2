"""Edits that make a script simpler without leaving anything out; and their table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from replay.minimize.script import Script
from replay.minimize.search import Edit

REWRITES: Final[tuple[tuple[str, Callable[[Script], Iterator[Edit]]], ...]] = ()
