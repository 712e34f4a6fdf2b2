"""`itstrace run`: a trace carried out on a real target, or on several in lockstep.

With one target its answers are compared with the trace's; with several, with each other. `check` is
the same on the model alone.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from replay.commands.check import print_tally, tally_json
from replay.commands.common import EXIT_FINDING, clean, once_only, paint, print_json, say
from replay.commands.git_bisect import add_git_bisect, conclude, wanted
from replay.commands.replaying import caveats, exit_code, json_caveats
from replay.engine import Engine
from replay.lockstep import Difference, Lockstep, run as run_lockstep
from replay.targets.ahead import Ahead, Target
from replay.targets.qemu import Needs
from replay.targets.spec import FORMS, Spec, Targets, parse
from tracer.errors import UsageError
from tracer.log.opening import open_trace
from tracer.log.text import format_event


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("trace", help="a trace, in either form")
    parser.add_argument(
        "--target", action="append", required=True, help=f"{FORMS}; several run in lockstep"
    )
    parser.add_argument("--cpus", type=int, help="the number of CPUs, if the header has none")
    parser.add_argument(
        "--keep-going", action="store_true", help="do not stop at the first divergence"
    )
    add_git_bisect(parser)
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Compare; 1 for a divergence, a difference or a crash, 4 when a target cannot judge."""
    if once_only(options.trace):
        raise UsageError("a target is made for a trace that was read before: give a file")
    specs = [parse(text) for text in options.target]
    if options.git_bisect:
        return _rule(specs, options)
    needs = Needs.of_trace(options.trace)
    with open_trace(options.trace) as reader, ExitStack() as stack:
        if options.cpus is not None:
            reader.header.cpus = options.cpus
        made = stack.enter_context(Targets())
        targets = [stack.enter_context(made.opened(each, reader.header, needs)) for each in specs]
        if len(targets) > 1:
            return _lockstep(run_lockstep(reader, targets), [t.name for t in targets], options)
        ahead = Ahead(reader, targets[0])
        engine = Engine(ahead, ahead, stop=not options.keep_going)
        tally = engine.run()
        complaints = made.findings()
        source = reader.header.source or "trace"
        if options.json:
            answer = tally_json(tally, targets[0].name, source) | {
                "schema": "itstrace.run/1",
                "targets": [targets[0].name],
                "complaints": complaints,
                "crash": engine.crash and {"seq": engine.crash[0], "function": engine.crash[1]},
            }
            print_json(answer | json_caveats(reader, engine))
        else:
            print_tally(tally, targets[0].name, source)
            for line in complaints:
                print(paint(f"its kernel complains: {clean(line)}", "red"))
            if engine.crash:
                _print_crash(engine.crash, targets[0])
            for sentence in caveats(reader, engine):
                say(sentence)
        return exit_code(
            reader, engine, finding=bool(tally.divergent or engine.crash or complaints)
        )


def _rule(specs: list[Spec], options: argparse.Namespace) -> int:
    from replay.builds import of_run

    signature = wanted(options)
    with Targets() as made:
        ruling = of_run(made, specs, options.trace, signature, cpus=options.cpus)
    return conclude(ruling, signature, options)


def _print_crash(crash: tuple[int, str], target: Target) -> None:
    print(paint(f"event {crash[0]}: crashed: the host dies in {crash[1]}", "red"))
    for line in target.oops:
        print(f"    {clean(line)}")


def _lockstep(found: Lockstep, names: list[str], options: argparse.Namespace) -> int:
    difference = found.difference
    if options.json:
        print_json(
            {
                "schema": "itstrace.lockstep/1",
                "targets": names,
                "agreed": found.agreed,
                "not_judged": found.not_judged,
                "difference": difference and _json(difference),
            }
        )
    else:
        if difference:
            _print(difference)
        print(
            f"{found.agreed} events answered alike, {found.not_judged} not judged, "
            f"{'one differs' if difference else 'none differs'}: {', '.join(names)}"
        )
    return EXIT_FINDING if difference else 0


def _json(difference: Difference) -> dict[str, Any]:
    return {
        "seq": difference.seq,
        "event": format_event(difference.seq, difference.event),
        "answers": {name: str(answer) for name, answer in difference.answers},
        "registers": {
            name: {register: hex(value) for register, value in registers.items()}
            for (name, _), registers in zip(difference.answers, difference.registers, strict=True)
        },
    }


def _print(difference: Difference) -> None:
    for seq, event in difference.before:
        print(paint(f"    {clean(format_event(seq, event))}", "dim"))
    print(paint(f"event {difference.seq}: the targets answer differently", "red"))
    print(f"  {clean(format_event(difference.seq, difference.event))}")
    width = max(len(name) for name, _ in difference.answers)
    for name, answer in difference.answers:
        print(f"  {name:{width}}  {_words(answer)}")
    for register in difference.registers[0]:
        values = [each.get(register) for each in difference.registers]
        if any(value != values[0] for value in values):
            shown = ", ".join("-" if value is None else hex(value) for value in values)
            print(f"  {register:{width}}  {shown}")


def _words(answer: Any) -> str:
    """Return an answer of a target as a person reads it."""
    if isinstance(answer, int):
        return hex(answer)
    if isinstance(answer, list):
        return "; ".join(str(each) for each in answer) or "nothing"
    return clean(str(answer))
