"""The queries that docs/export.md shows run on what `export --to sqlite` makes."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from replay import cli

ROOT = Path(__file__).parents[2]


def queries():
    """Return the queries that docs/export.md shows, but those of Parquet files (tests/consumers)."""
    text = (ROOT / "docs" / "export.md").read_text()
    return [
        each for each in re.findall(r"```sql\n(.*?)```", text, re.DOTALL) if ".parquet" not in each
    ]


@pytest.fixture(scope="module")
def boots(tmp_path_factory):
    """A database of the capture that the page speaks of."""
    folder = tmp_path_factory.mktemp("boots")
    capture = ROOT / "traces" / "qemu-7.2.22-linux-6.1-two-boots.log"
    trace, made = folder / "a.itstrace", folder / "a.db"
    assert cli.main(["import", str(capture), "-o", str(trace)]) == 0
    assert cli.main(["export", str(trace), "--to", "sqlite", "-o", str(made)]) == 0
    base = sqlite3.connect(made)
    yield base
    base.close()


@pytest.mark.parametrize("at", range(len(queries())))
def test_a_query_of_the_page_runs(at, boots):
    boots.execute(queries()[at]).fetchall()


def test_the_pages_answers_are_these(boots):
    rows = boots.execute(queries()[0]).fetchall()
    assert rows[:2] == [("0x8", "INV", 8), ("0x8", "MAPTI", 7)]
    page = (ROOT / "docs" / "export.md").read_text()
    assert "    0x8     INV      8\n    0x8     MAPTI    7\n" in page
    written = boots.execute(queries()[1]).fetchall()
    assert {boot for boot, _, _ in written} == {1, 2}
    assert all(value.startswith("0x") for _, _, value in written)
    assert len(queries()) == 6
