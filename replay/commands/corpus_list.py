"""`itstrace corpus list`: what each trace is of, and what it must show."""

from __future__ import annotations

import argparse
from typing import Any

from replay.commands.common import clean, print_json
from replay.corpus import find_traces, trace_name, unused_manifests
from replay.manifest import Manifest, manifest_path, read_manifest
from tracer.log.files import Where, exists, where


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("traces", nargs="+", help="traces, or folders of them")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Print a line for each trace; what lacks its other half is listed as such."""
    traces = find_traces(options.traces)
    rows = [_row(trace) for trace in traces]
    unused = [str(path) for path in unused_manifests(options.traces, traces)]
    if options.json:
        print_json({"schema": "itstrace.corpus_list/1", "traces": rows, "unused_manifests": unused})
        return 0
    for row in rows:
        words = ", ".join(f"{each['variant']}: {each['expect']}" for each in row["expectations"])
        name = clean(trace_name(where(row["trace"])))
        print(f"{name:44} {row['profile'] or '-':16} {words or 'no manifest'}")
        if row["reason"]:
            print(f"    {clean(row['reason'])}")
    for path in unused:
        print(f"{clean(path)}: a manifest without a trace")
    return 0


def _row(trace: Where) -> dict[str, Any]:
    path = manifest_path(trace)
    manifest = read_manifest(path) if exists(path) else Manifest(path, {}, ())
    values = manifest.values
    return {
        "trace": str(trace),
        "manifest": str(path) if exists(path) else None,
        "profile": manifest.profile,
        "bug": manifest.bug,
        "reason": values.get("reason") or values.get("shows"),
        "expectations": [
            {"variant": each.name, "expect": each.expect, "signature": each.signature}
            for each in manifest.expectations
        ],
    }
