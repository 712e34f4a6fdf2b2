"""`itstrace report FOLDER`: an index page of a corpus, with its matrix, and a page for each trace."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, Final

from replay.commands.common import EXIT_FINDING, progress, say
from replay.commands.report_pages import Maker, blocks_of, made_by, write
from replay.corpus import find_traces, manifest_of, profile_of
from replay.judge import AnyModel, model_of
from replay.manifest import Manifest
from replay.report.index import MAX_TRACES, blocks, row_of
from replay.report.page import page
from tracer.errors import TracerError, UsageError
from tracer.log.header import Header

INDEX: Final = "index.html"
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME_CHARS: Final = 80


def run(options: argparse.Namespace) -> int:
    """Write the pages; 1 when an expectation is not met."""
    folder, out = Path(options.trace), Path(options.output)
    traces = find_traces([options.trace])
    if not traces:
        raise UsageError(f"{folder}: there is no trace in it")
    if len(traces) > MAX_TRACES:
        raise UsageError(f"{folder}: has {len(traces)} traces; a page shows {MAX_TRACES}")
    _prepare(out, options)
    rows: list[dict[str, Any]] = []
    for number, trace in enumerate(progress(traces, "traces")):
        name = f"{number:04}-{_ODD.sub('-', trace.name)[:_MAX_NAME_CHARS]}.html"
        there = _write_page(trace, out / name, options)
        rows.append(row_of(trace, folder, name if there else None))
    made = page(f"{folder.resolve().name}: itstrace report", "corpus", blocks(folder.name, rows))
    write(made, str(out / INDEX), options)
    met = all(result["passed"] for row in rows for result in row["results"])
    return 0 if met else EXIT_FINDING


def _prepare(out: Path, options: argparse.Namespace) -> None:
    """Make the folder; what stands in one that is there stays, unless a page is overwritten."""
    if out.exists() and not options.force and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; --force writes into it")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror}") from error


def _write_page(trace: Path, out: Path, options: argparse.Namespace) -> bool:
    """Write the page of a trace; False where it cannot be replayed, which its row says."""
    try:
        made, _, name = blocks_of(str(trace), _maker(trace, options))
    except TracerError as error:
        say(f"{trace}: has no page: {error}")
        return False
    write(page(f"{name}: itstrace report", "trace", made), str(out), options)
    return True


def _maker(trace: Path, options: argparse.Namespace) -> Maker:
    """Return what makes the model of a trace: as its manifest has it, else as its header."""
    manifest = manifest_of(trace)
    if not isinstance(manifest, Manifest):
        return made_by(options)

    def make(header: Header) -> AnyModel:
        return model_of(header, profile_of(manifest, header, manifest.expectations[0].flags))

    return make
