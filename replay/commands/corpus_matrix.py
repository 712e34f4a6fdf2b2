"""`itstrace corpus run --matrix`: a table of traces and profiles, or of traces and real targets."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Final

from replay.commands.common import (
    EXIT_CANNOT_JUDGE,
    EXIT_FINDING,
    clean,
    paint,
    print_json,
    progress,
    say,
)
from replay.corpus import Cell, matrix, trace_name
from tracer.log.files import Where

# Words of a cell that need more than themselves in a sentence.
_MEANS: Final = {"-": "of another family", "cannot": "that it cannot judge"}


def run(traces: list[Where], options: argparse.Namespace) -> int:
    """Print it; a table of profiles is only looked at, one of targets has the exit code of its cells."""
    if options.target:
        return _on_targets(traces, options)
    _print_matrix(matrix(traces), as_json=options.json)
    return 0


def _on_targets(traces: list[Where], options: argparse.Namespace) -> int:
    """Print traces x targets; 1 with a finding, 4 when a target could not judge a trace."""
    from replay.corpus_targets import CANNOT, FINDINGS, on_targets
    from replay.targets.spec import parse

    specs = [parse(text) for text in options.target]
    rows = list(progress(on_targets(traces, specs), "traces"))
    if options.json:
        table = {
            str(trace): {
                spec.text: {
                    "word": each.word, "why": each.why, "matched": each.matched,
                    "not_judged": each.not_judged,
                }
                for spec, each in zip(specs, row, strict=True)
            }
            for trace, row in rows
        }  # fmt: skip
        print_json({"schema": "itstrace.target_matrix/1", "traces": table})
    else:
        width = max((len(trace_name(trace)) for trace, _ in rows), default=0)
        for at, spec in enumerate(specs, 1):
            print(f"{at}: {clean(spec.text)}")
        print(" " * width, *(f"{at:>10}" for at in range(1, len(specs) + 1)))
        for trace, row in rows:
            print(f"{clean(trace_name(trace)):{width}}", *(f"{each.word:>10}" for each in row))
            for spec, each in zip(specs, row, strict=True):
                if each.why:
                    say(f"{trace_name(trace)}: {spec.text}: {each.word}: {each.why}")
        for at, spec in enumerate(specs):
            made = Counter(row[at].word for _, row in rows)
            counted = ", ".join(
                f"{number} {_MEANS.get(word, word)}" for word, number in made.items()
            )
            matched = sum(row[at].matched for _, row in rows)
            unseen = sum(row[at].not_judged for _, row in rows)
            outputs = f"{matched:,} outputs matched, {unseen:,} not judged"
            print(f"{clean(spec.text)}: {counted}; {outputs}")
    words = {each.word for _, row in rows for each in row}
    if words & FINDINGS:
        return EXIT_FINDING
    return EXIT_CANNOT_JUDGE if CANNOT in words else 0


def _print_matrix(
    tables: dict[str, tuple[list[str], dict[str, dict[str, Cell]]]], *, as_json: bool
) -> None:
    if as_json:
        print_json(
            {
                "schema": "itstrace.matrix/1",
                "tables": {
                    family: {
                        trace: {
                            name: {"word": cell.word, "basis": cell.basis}
                            for name, cell in row.items()
                        }
                        for trace, row in rows.items()
                    }
                    for family, (_, rows) in tables.items()
                },
            }
        )
        return
    for family, (names, rows) in tables.items():
        print(
            paint(f"{family}: each cell measured on that image, or (read) in its sources", "bold")
        )
        width = max(map(len, rows), default=0)
        shorts = [name.removeprefix("linux-").removeprefix("qemu-") for name in names]
        print(" " * width, *(f"{short:>11}" for short in shorts))
        for trace, row in rows.items():
            cells = [_cell(row[name]) for name in names]
            print(f"{clean(trace):{width}}", *(f"{cell:>11}" for cell in cells))


def _cell(cell: Cell) -> str:
    return cell.word if cell.basis == "measured" else f"({cell.word})"
