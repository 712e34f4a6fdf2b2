"""`export --to parquet`, asked by DuckDB: what `info` counts, a group-by counts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from replay import cli
from tests.support.captures import TRACES
from tests.support.consumers import needs_consumers
from tests.support.exported import LIVES, export, written

pytestmark = needs_consumers
PAGE = Path(__file__).parents[2] / "docs" / "export.md"
CAPTURES = (
    "qemu-7.2.22-linux-6.1-two-boots.log",
    "kvm-6.1.192-boot-stop-reset-boot.stream.txt.gz",
    "kvm-6.1.192-linux-6.1-boot-save-reset.ftrace.txt.gz",
)


def ask(query):
    import duckdb

    return duckdb.sql(query).fetchall()


def counted(trace, capsys):
    capsys.readouterr()
    assert cli.main(["info", str(trace), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["events"]


@pytest.mark.parametrize("source", [*CAPTURES, *LIVES])
def test_a_group_by_counts_what_info_counts(source, tmp_path, capsys):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b.parquet"
    if source in LIVES:
        written(trace, source)
    else:
        assert cli.main(["import", str(TRACES / source), "-o", str(trace)]) == 0
    assert export(trace, "parquet", made) == 0
    rows = ask(f"SELECT kind, count(*) FROM '{made}' GROUP BY kind")
    assert dict(rows) == counted(trace, capsys)


def test_numbers_have_all_their_bits_and_what_is_not_known_is_null(tmp_path):
    written(tmp_path / "a.itstrace", "each")
    made = tmp_path / "b.parquet"
    assert export(tmp_path / "a.itstrace", "parquet", made) == 0
    assert ask(f"SELECT max(value) FROM '{made}'") == [(2**64 - 1,)]
    assert ask(f"SELECT count(*), count(doorbell) FROM '{made}' WHERE kind = 'msi'") == [(2, 1)]


def queries():
    return re.findall(r"```sql\n([^`]*\.parquet[^`]*)```", PAGE.read_text())


def test_the_pages_answers_are_these(tmp_path, monkeypatch):
    trace = tmp_path / "a.itstrace"
    assert cli.main(["import", str(TRACES / CAPTURES[1]), "-o", str(trace)]) == 0
    assert export(trace, "parquet", tmp_path / "a.parquet") == 0
    monkeypatch.chdir(tmp_path)
    commands, msis = (ask(query.rstrip().rstrip(";")) for query in queries())
    page = re.sub(" +", " ", PAGE.read_text())
    for row in [*commands[:2], *msis]:
        assert f"\n {row[0]} {row[1]} {row[2]:.0f}\n" in page
    assert len(msis) == 3
