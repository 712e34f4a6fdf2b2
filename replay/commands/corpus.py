"""`itstrace corpus run`: every trace of a corpus against its manifest, on profiles, or on targets."""

from __future__ import annotations

import argparse
from pathlib import Path

from replay.commands.common import (
    EXIT_CANNOT_JUDGE,
    EXIT_FINDING,
    clean,
    paint,
    print_json,
    progress,
    say,
)
from replay.corpus import (
    Cell,
    Result,
    find_traces,
    matrix,
    run_trace,
    trace_name,
    unused_manifests,
)
from tracer.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("action", choices=("run",))
    parser.add_argument("traces", nargs="+", help="traces, or folders of them")
    parser.add_argument(
        "--matrix", action="store_true", help="a table of traces and profiles, one word each"
    )
    parser.add_argument(
        "--target", action="append", help="with --matrix: run them on targets, as `run` does"
    )
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Print a line for each expectation; 1 when one does not hold."""
    traces = find_traces(options.traces)
    if options.target:
        return _on_targets(traces, options)
    if options.matrix:
        _print_matrix(matrix(traces), as_json=options.json)
        return 0
    results = [each for trace in progress(traces, "traces") for each in run_trace(trace)]
    results += [
        Result(path, "manifest", "a trace beside it", "none", None)
        for path in unused_manifests(options.traces, traces)
    ]
    if options.json:
        print_json({"schema": "itstrace.corpus/1", "results": [_json(each) for each in results]})
    else:
        for each in results:
            _print(each)
        failed = sum(not each.passed for each in results)
        print(f"{len(results)} expectations of {len(traces)} traces, {failed} not met")
    return int(any(not each.passed for each in results))


def _on_targets(traces: list[Path], options: argparse.Namespace) -> int:
    """Print traces x targets; 1 with a finding, 4 when a target could not judge a trace."""
    from replay.corpus_targets import CANNOT, FINDINGS, on_targets
    from replay.targets.spec import parse

    if not options.matrix:
        raise UsageError("traces on targets are a matrix: give --matrix")
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
            print(f"{trace_name(trace):{width}}", *(f"{each.word:>10}" for each in row))
            for spec, each in zip(specs, row, strict=True):
                if each.why:
                    say(f"{trace_name(trace)}: {spec.text}: {each.word}: {each.why}")
    words = {each.word for _, row in rows for each in row}
    if words & FINDINGS:
        return EXIT_FINDING
    return EXIT_CANNOT_JUDGE if CANNOT in words else 0


def _json(each: Result) -> dict[str, object]:
    return {
        "trace": str(each.trace),
        "variant": each.variant,
        "expected": each.expected,
        "got": each.got,
        "signature": each.signature,
        "signatures": list(each.signatures),
        "passed": each.passed,
    }


def _print(each: Result) -> None:
    name = trace_name(each.trace)
    if each.passed:
        print(f"{paint('ok', 'green'):6} {name:44} {each.variant:9} {each.got}")
        return
    print(f"{paint('FAIL', 'red'):6} {name:44} {each.variant:9} {each.got}, not {each.expected}")
    if each.signature and each.signature not in each.signatures:
        found = ", ".join(each.signatures) or "none"
        print(f"       signature {each.signature} is not among: {found}")


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
            print(f"{trace:{width}}", *(f"{cell:>11}" for cell in cells))


def _cell(cell: Cell) -> str:
    word = "divergent" if cell.word == "divergent" else cell.word
    return word if cell.basis == "measured" else f"({word})"
