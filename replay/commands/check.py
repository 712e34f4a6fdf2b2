"""`itstrace check`: every output of a trace against the model."""

from __future__ import annotations

import argparse
from typing import Any

from replay.commands.common import clean, paint, print_json, say
from replay.commands.git_bisect import add_git_bisect, rule_on_model
from replay.commands.replaying import (
    add_replay_options,
    add_spread_options,
    caveats,
    exit_code,
    json_caveats,
    question_of,
    refuse_spread,
    replayed,
)
from replay.tally import CLASSES, Divergence, Tally
from tracer.log.text import format_event


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_replay_options(parser)
    add_git_bisect(parser)
    add_spread_options(parser, "one")
    parser.add_argument(
        "--digest", action="store_true", help="also print the digest of the state at the end"
    )
    parser.add_argument(
        "--invariants", action="store_true", help="check the model's state after every input"
    )


def run(options: argparse.Namespace) -> int:
    """Print how the outputs were classed; 1 when one diverges."""
    if options.git_bisect:
        refuse_spread(options, "--git-bisect")
        return rule_on_model(options)
    with replayed(options, question_of(options, invariants=options.invariants)) as found:
        reader, engine, model = found.reader, found.engine, found.engine.model
        tally = engine.tally
        source = reader.header.source or "trace"
        if options.json:
            extra: dict[str, Any] = {
                "crash": engine.crash and {"seq": engine.crash[0], "function": engine.crash[1]},
                "violated": [{"seq": seq, "invariant": name} for seq, name in engine.violated],
            }
            if options.digest:
                extra["digest"] = found.digest
            answer = tally_json(tally, f"model {model.name}", source) | extra
            print_json(answer | json_caveats(reader, engine))
        else:
            print_tally(tally, f"model {model.name}", source)
            if engine.crash:
                print(paint(f"event {engine.crash[0]}: the host dies in {engine.crash[1]}", "red"))
            for seq, name in engine.violated:
                print(paint(f"event {seq}: {name.replace('_', ' ')} does not hold", "red"))
            if options.digest:
                print(f"digest {found.digest}")
            for sentence in caveats(reader, engine):
                say(sentence)
        finding = bool(tally.divergent or engine.crash or engine.violated)
        return exit_code(reader, engine, finding=finding)


def tally_json(tally: Tally, by: str, source: str) -> dict[str, Any]:
    """Return how outputs were classed, as JSON; `by` is what answered."""
    counts = {name: getattr(tally, name) for name in CLASSES}
    return {
        "schema": "itstrace.check/1",
        "outputs": tally.outputs,
        **counts,
        "divergent": [_divergence(each, by, source) for each in tally.divergences],
        "divergent_count": tally.divergent,
        "assumptions": [{"seq": seq, "reason": why} for seq, why in tally.assumptions],
        "not_judged_kinds": tally.unjudged,
    }


def _divergence(each: Divergence, by: str, source: str) -> dict[str, Any]:
    return {
        "seq": each.seq,
        "kind": each.kind,
        "field": each.field,
        "expected": _value(each.expected),
        "expected_by": by,
        "got": _value(each.got),
        "got_by": f"trace {source}",
        "before": [format_event(seq, event) for seq, event in each.before],
    }


def _value(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.hex()
    return hex(value) if isinstance(value, int) else str(value)


def print_tally(tally: Tally, by: str, source: str) -> None:
    """Print how outputs were classed; `by` is what answered."""
    for each in tally.divergences:
        print(paint(f"event {each.seq}: {each.kind}: {each.field} differs", "red"))
        print(f"  expected {_value(each.expected) or 'nothing':<20} by {clean(by)}")
        print(f"  got      {_value(each.got) or 'nothing':<20} in the trace ({clean(source)})")
        for seq, event in each.before:
            print(paint(f"    {clean(format_event(seq, event))}", "dim"))
    if tally.divergent > len(tally.divergences):
        print(f"and {tally.divergent - len(tally.divergences)} more")
    for seq, why in tally.assumptions:
        print(f"event {seq}: assumed that {why}")
    for name, count in tally.unjudged.items():
        print(f"{count} x {name}: not judged, {by} cannot express it or its cause is not told")
    counts = ", ".join(f"{getattr(tally, name)} {name.replace('_', ' ')}" for name in CLASSES)
    verdict = paint(f"{tally.divergent} divergent", "red" if tally.divergent else "green")
    print(f"{tally.outputs} outputs: {counts}, {verdict}")
