"""The tools that read exports: their tests are `make test-consumers`, which installs them."""

from __future__ import annotations

import os

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"  # which apt's python3-bt2 is for

needs_consumers = pytest.mark.skipif(
    not os.environ.get("ITSTRACE_CONSUMERS"), reason="make test-consumers runs it"
)
