"""What an index page shows of a corpus: each trace's results, and the word that every profile makes of it.

Counterparts: `replay.corpus`, whose results and matrix these are, and assets/corpus.js.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from replay.corpus import Result, manifest_of, matrix, run_trace, trace_name
from replay.manifest import Manifest
from replay.report.columns import MAX_TEXT_CHARS, document
from tracer.errors import TracerError

MAX_TRACES: Final = 5000  # of a corpus on one page


def row_of(trace: Path, folder: Path, page: str | None) -> dict[str, Any]:
    """Return a row: what a trace must show, what it shows, and on which profiles."""
    manifest = manifest_of(trace)
    row: dict[str, Any] = {
        "name": trace_name(trace),
        "path": str(trace.relative_to(folder)),
        "page": page,
        "results": [_result(each) for each in run_trace(trace)],
        "reason": "",
        "family": "",
        "cells": {},
    }
    if isinstance(manifest, Manifest):
        row["reason"] = str(manifest.values.get("reason", ""))[:MAX_TEXT_CHARS]
        row["family"], row["cells"] = _cells(trace)
    return row


def _cells(trace: Path) -> tuple[str, dict[str, list[str]]]:
    """Return a trace's family, and profile -> [word, basis]; nothing of what cannot be replayed."""
    try:
        tables = matrix([trace])
    except TracerError:
        return "", {}
    (family, (_, rows)) = next(iter(tables.items()))
    cells = next(iter(rows.values()))
    return family, {name: [cell.word, cell.basis] for name, cell in cells.items()}


def _result(each: Result) -> dict[str, Any]:
    return {
        "variant": each.variant,
        "expected": each.expected,
        "got": each.got,
        "signature": each.signature,
        "passed": each.passed,
        "sentence": each.sentence()[:MAX_TEXT_CHARS],
    }


def blocks(name: str, rows: Iterable[dict[str, Any]]) -> dict[str, bytes]:
    """Return name -> bytes of an index page."""
    return {
        "corpus": document({"schema": "itstrace.report_index/1", "name": name, "rows": list(rows)})
    }
