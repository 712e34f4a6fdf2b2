"""`itstrace corpus stats`: how many traces, of which words, bugs and profiles, and how large."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from replay.commands.common import clean, print_json
from replay.corpus import find_traces, unused_manifests
from replay.manifest import manifest_path, read_manifest
from tracer.log.files import exists, size_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("traces", nargs="+", help="traces, or folders of them")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Print the counts."""
    traces = find_traces(options.traces)
    paths = [manifest_path(trace) for trace in traces]
    manifests = [read_manifest(path) for path in paths if exists(path)]
    wanted = [each for manifest in manifests for each in manifest.expectations]
    counts: dict[str, Any] = {
        "traces": len(traces),
        "bytes": sum(size_of(trace) for trace in traces),
        "without_manifest": sum(not exists(path) for path in paths),
        "unused_manifests": len(unused_manifests(options.traces, traces)),
        "expectations": len(wanted),
        "expected": Counter(each.expect for each in wanted),
        "signatures": Counter(each.signature for each in wanted if each.signature),
        "profiles": Counter(each.profile or "as its header says" for each in manifests),
    }
    if options.json:
        print_json({"schema": "itstrace.corpus_stats/1"} | counts)
        return 0
    for name, count in counts.items():
        if isinstance(count, Counter):
            print(name)
            for what, number in count.most_common():
                print(f"  {clean(what):48} {number:>8,}")
        else:
            print(f"{name.replace('_', ' '):50} {count:>8,}")
    return 0
