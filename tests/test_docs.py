"""Pages that hold tables from the code hold them as the code is."""

from __future__ import annotations

import pytest

from tests.support.gendocs import DOCS, TABLES, regenerated
from tracer.events import KINDS


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_a_page_is_as_it_would_be_generated_now(path):
    text = path.read_text()
    assert regenerated(text) == text


def test_every_table_is_on_a_page():
    text = "".join(path.read_text() for path in DOCS.glob("*.md"))
    assert all(text.count(f"<!-- {name} -->") == 1 for name in TABLES)


def test_the_format_page_lists_every_kind_with_its_fields():
    text = (DOCS / "trace-format.md").read_text()
    for number, cls in KINDS.items():
        row = next(
            line
            for line in text.splitlines()
            if line.startswith("| ")
            and str(number) in line.split("|")[1].replace(",", " ").split()
            and cls.name in line.split("|")[2]
        )
        for field in cls.fields:
            name = field.name.rstrip("0123456789")
            assert name in row, (cls.name, field.name)
