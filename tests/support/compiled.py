"""For tests that put something in the place of a part that a compiled build has built in."""

from __future__ import annotations

import os

import pytest

EXPECTED = "ITSTRACE_EXPECT_COMPILED" in os.environ

# The constants of compiled modules stand in their code, and their classes cannot be changed.
pure_only = pytest.mark.skipif(EXPECTED, reason="changes a part that is compiled here")
