"""`itstrace corpus run`: every trace against its manifest, on the model or on real targets."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from replay.commands.common import clean, paint, print_json, progress
from replay.commands.replaying import add_spread_options, pool_of
from replay.corpus import (
    Result,
    exit_code,
    find_traces,
    manifest_of,
    trace_name,
    unused_manifests,
    without_trace,
)
from replay.corpus_jobs import run_traces
from replay.corpus_reports import details, github, headline, junit, markdown
from replay.pools import MAX_JOBS
from tracer.errors import UsageError, WriteError
from tracer.log.files import Where
from tracer.log.opening import write_output


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("traces", nargs="+", help="traces, or folders of them")
    parser.add_argument(
        "--matrix", action="store_true", help="a table of traces and profiles, one word each"
    )
    parser.add_argument(
        "--target", action="append",
        help="run them on targets, as `run` does: none may show the bug that a trace is of; with "
        "--matrix: a table of what each made of each",
    )  # fmt: skip
    add_spread_options(parser, "one for each core")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")
    parser.add_argument("--junit", metavar="FILE", help="write a JUnit XML report")
    parser.add_argument("--force", action="store_true", help="overwrite the report")
    parser.add_argument(
        "--github", action="store_true", default=bool(os.environ.get("GITHUB_ACTIONS")),
        help="annotate failures, on standard error (default: when GITHUB_ACTIONS is set)",
    )  # fmt: skip
    parser.add_argument(
        "--summary", metavar="FILE", default=os.environ.get("GITHUB_STEP_SUMMARY"),
        help="append a Markdown section (default: the file that GITHUB_STEP_SUMMARY names)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print a line for each expectation; the worst exit code of those that are not met."""
    if (options.target or options.matrix) and (options.jobs is not None or options.cluster):
        raise UsageError(
            "--jobs and --cluster are for traces on the model: not with --target or --matrix"
        )
    traces = find_traces(options.traces)
    if not traces and not unused_manifests(options.traces, traces):
        raise UsageError(
            f"{', '.join(options.traces)}: there is no .itstrace and no .its.txt here, so nothing "
            "would be judged"
        )
    if options.matrix:
        from replay.commands.corpus_matrix import run as run_matrix

        return run_matrix(traces, options)
    if options.junit and Path(options.junit).exists() and not options.force:
        raise UsageError(f"{options.junit}: exists already; --force overwrites it")
    if options.target:
        return _tell(_on_targets(traces, options.target), traces, options)
    with pool_of(options, default=min(os.cpu_count() or 1, MAX_JOBS)) as pool:
        return _tell(run_traces(traces, pool), traces, options)


def _tell(found: Iterable[list[Result]], traces: list[Where], options: argparse.Namespace) -> int:
    results = list(_shown(_all(found, options.traces, traces), options))
    if options.json:
        print_json({"schema": "itstrace.corpus/1", "results": [_json(each) for each in results]})
    else:
        print(headline(results, len(traces)))
    _report(results, len(traces), options)
    return exit_code(results)


def _all(found: Iterable[list[Result]], paths: list[str], traces: list[Where]) -> Iterator[Result]:
    """Yield the results of the traces, and then what manifests without one are."""
    for results in found:
        yield from results
    yield from map(without_trace, unused_manifests(paths, traces))


def _shown(results: Iterator[Result], options: argparse.Namespace) -> Iterator[Result]:
    """Yield results, each printed as it comes unless one document is wanted."""
    if options.json or not sys.stdout.isatty():
        results = progress(results, "traces")
    for each in results:
        if not options.json:
            _print(each)
        yield each


def _on_targets(traces: list[Where], texts: list[str]) -> Iterator[list[Result]]:
    """Yield the results of each trace, one for each target; a host is booted once for all."""
    from replay.corpus_targets import run_on
    from replay.targets.spec import Targets, parse

    specs = [parse(text) for text in texts]
    with Targets() as made:
        for trace in traces:
            manifest = manifest_of(trace)
            if isinstance(manifest, Result):
                yield [manifest]
            else:
                yield [run_on(trace, manifest, spec, made) for spec in specs]


def _report(results: list[Result], traces: int, options: argparse.Namespace) -> None:
    if options.junit:
        write_output(options.junit, junit(results), force=options.force)
    if options.summary:
        try:
            with Path(options.summary).open("a", encoding="utf-8", errors="replace") as out:
                out.write(markdown(results, traces))
        except OSError as error:
            raise WriteError(f"{options.summary}: {error.strerror}") from error
    if options.github:
        for line in github(results):
            print(line, file=sys.stderr)


def _json(each: Result) -> dict[str, object]:
    return {
        "trace": str(each.trace),
        "variant": each.variant,
        "expected": each.expected,
        "got": each.got,
        "signature": each.signature,
        "signatures": list(each.signatures),
        "passed": each.passed,
        "why": list(each.why),
        "commands": list(each.commands),
        "skipped": each.skipped or None,
    }


def _print(each: Result) -> None:
    name = f"{clean(trace_name(each.trace)):44} {clean(each.variant):9}"
    if each.passed:
        print(f"{paint('ok', 'green'):6} {name} {each.got}")
        return
    if each.skipped:
        print(f"{paint('-', 'yellow'):6} {name} {clean(each.sentence())}")
        return
    print(f"{paint('FAIL', 'red'):6} {name} {clean(each.sentence())}")
    for line in details(each):
        print(f"       {line}")
