"""`itstrace verify`: of each reset, whether the device came back equal to a fresh one."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from replay.cli import EXIT_INTERRUPTED
from replay.commands.common import (
    EXIT_CANNOT_JUDGE,
    EXIT_FINDING,
    clean,
    paint,
    print_json,
    say,
)
from replay.commands.folding import folded, wrapped
from replay.commands.following import CHANGED, FINAL, follow, opened
from replay.commands.git_bisect import add_git_bisect, rule_on_model
from replay.commands.replaying import (
    add_replay_options,
    add_spread_options,
    caveats,
    exit_code,
    json_caveats,
    make_model,
    question_of,
    refuse_spread,
    replayed,
)
from replay.engine import Engine
from replay.verdict import (
    FINDINGS,
    KEPT_WORD,
    STALE,
    SUSPECTED,
    UNPROVEN,
    UNSPECIFIED,
    VERIFIED,
    Component,
    Observation,
    ResetVerdict,
    RoundTrip,
)
from replay.verify import Verifier
from tracer.errors import UsageError
from tracer.log.header import IN_PROCESS
from tracer.log.opening import AnyReader

# What --probe can ask; `replay.equivalence.bench` has the same names.
QUESTIONS = ("system", "ctrl_reset", "register_fallback", "reinit", "round trip", "pending tables")
MANY_RESETS: Final = 20  # of which a last line says how many came out how
_COLOUR = {STALE: "red", SUSPECTED: "red", VERIFIED: "green", "equal": "green"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_replay_options(parser)
    add_git_bisect(parser)
    add_spread_options(parser, "one")
    parser.add_argument(
        "--strict", choices=("bits",), help="call bits stale that no clause speaks of"
    )
    parser.add_argument(
        "--require-proof", action="store_true", help="exit 4 when nothing observed a reset"
    )
    parser.add_argument("--on", metavar="TARGET", help="ask a target: kvm[:KERNEL], qemu[:BINARY]")
    parser.add_argument("--probe", action="store_true", help="with --on: ask generated questions")
    parser.add_argument(
        "--kind", action="append", choices=QUESTIONS, help="with --probe: ask this, not the usual"
    )
    parser.add_argument(
        "--at", action="append", type=int, metavar="SEQ", help="with --probe: ask before this event"
    )
    parser.add_argument("--record", metavar="FILE", help="with --on: write the run as a trace")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="every component of each reset"
    )
    parser.add_argument(
        "-f", "--follow", action="store_true",
        help="follow a trace that is being written and tell each verdict as it happens",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print a verdict for each reset; 1 for a stale or suspected component."""
    if options.git_bisect and options.follow:
        raise UsageError("a build is judged by a whole trace: --git-bisect does not go with -f")
    if options.on:
        if options.follow:
            raise UsageError("--on asks a target of a whole trace: it does not go with -f")
        refuse_spread(options, "--on")
        from replay.commands.verify_on import run as run_on

        return run_on(options)
    if options.probe or options.record or options.kind or options.at:
        raise UsageError("--probe, --kind, --at and --record are questions to a target: give --on")
    if options.git_bisect:
        refuse_spread(options, "--git-bisect")
        return rule_on_model(options)
    if options.follow:
        return _follow(options)
    question = question_of(options, verify=True, strict=options.strict == "bits")
    with replayed(options, question) as found:
        assert found.verifier
        _answer(found.reader, found.verifier, found.engine, options)
        return _code(found.reader, found.verifier, found.engine, options)


def _follow(options: argparse.Namespace) -> int:
    refuse_spread(options, "--follow")
    with opened(options) as reader:
        model = make_model(reader.header, options)
        verifier = Verifier(
            model,
            strict=options.strict == "bits",
            under_test=reader.header.source == IN_PROCESS,
        )
        engine = Engine(reader, model, verifier)
        interrupted = follow(engine, verifier, _tell_json if options.json else _Told(options))
        _answer(reader, verifier, engine, options)
        code = _code(reader, verifier, engine, options)
    return EXIT_INTERRUPTED if interrupted and code != EXIT_FINDING else code


def _answer(
    reader: AnyReader, verifier: Verifier, engine: Engine, options: argparse.Namespace
) -> None:
    """Print what was found; text of resets that were told while following is not repeated."""
    if options.json:
        answer = {
            "schema": "itstrace.verdict/1",
            "profile": engine.model.name,
            "checks": ["state", "evidence"],
            "resets": [_reset(each) for each in verifier.resets],
            "round_trips": [_trip(each) for each in verifier.round_trips],
            "crash": engine.crash and {"seq": engine.crash[0], "function": engine.crash[1]},
        } | json_caveats(reader, engine)
        print_json(answer, lines=options.follow)
        return
    if not verifier.resets:
        where = "this trace" if reader.status == "clean" else "what could be read of this trace"
        print(f"no reset in {where}")
    if not options.follow:
        for index, verdict in enumerate(verifier.resets):
            _print_reset(index, verdict, "", options)
        if len(verifier.resets) > MANY_RESETS:
            print(_summary(verifier.resets))
    for trip in verifier.round_trips:
        _print_trip(trip)
    if engine.crash:
        print(paint(f"event {engine.crash[0]}: the host dies in {engine.crash[1]}", "red"))
    for sentence in caveats(reader, engine):
        say(sentence)


def _code(
    reader: AnyReader, verifier: Verifier, engine: Engine, options: argparse.Namespace
) -> int:
    resets = verifier.resets
    words = {each.word for each in resets} | {each.word for each in verifier.round_trips}
    finding = bool(words & set(FINDINGS)) or engine.crash is not None
    code = exit_code(reader, engine, finding=finding)
    unproven = not resets or any(each.word == UNPROVEN for each in resets)
    if code == 0 and options.require_proof and unproven:
        return EXIT_CANNOT_JUDGE
    return code


def _tell_json(index: int, verdict: ResetVerdict, when: str) -> None:
    """Print a verdict as one line; the last one of a reset is final."""
    answer = {"schema": "itstrace.reset/1", "index": index, "final": when == FINAL}
    print_json(answer | _reset(verdict), lines=True)


class _Told:
    """Prints verdicts in words, the components only when there is news of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._last: tuple[int, dict[str, str]] | None = None

    def __call__(self, index: int, verdict: ResetVerdict, when: str) -> None:
        news = (index, verdict.statuses())
        mark = "" if when == FINAL else " (so far)"
        if when == CHANGED or news == self._last:
            print(_headline(index, verdict, mark))
        else:
            self._last = news
            _print_reset(index, verdict, mark, self._options)


def _reset(verdict: ResetVerdict) -> dict[str, Any]:
    return {
        "seq": verdict.seq,
        "kind": verdict.how,
        "unit": verdict.unit,
        "verdict": verdict.word,
        "observed": verdict.observed,
        "of": len(verdict.spoken_of),
        "perturbed": verdict.perturbed,
        "lossy": verdict.lossy,
        "disabled_at": verdict.since,
        "left_in_ram": verdict.left_in_ram,
        "components": [_component(each, verdict) for each in verdict.components],
    }


def _trip(each: RoundTrip) -> dict[str, Any]:
    return {
        "seq": each.seq,
        "saved_seq": each.saved_seq,
        "verdict": each.word,
        "errno": each.errno,
        "came_back": {name: [_key(key) for key in keys] for name, keys in each.came_back.items()},
        "lost": {name: [_key(key) for key in keys] for name, keys in each.lost.items()},
        "witness": each.witness,
        "blame": None if each.blame is None else {"seq": each.blame},
    }


def _print_trip(each: RoundTrip) -> None:
    print(
        f"round trip: saved at event {each.saved_seq}, restored at {each.seq}: "
        f"{paint(each.word, _COLOUR.get(each.word, 'yellow'))}"
    )
    if each.errno:
        print(f"  the restore failed with {each.errno}")
    for word, found in (("came back", each.came_back), ("lost", each.lost)):
        for name, keys in found.items():
            print(f"  {name} {word}: {', '.join(_key(key) for key in keys)}")
    if each.witness is not None:
        print(f"  shown by event {each.witness}")
    if each.blame is not None:
        print(f"  written by event {each.blame}")


def _component(each: Component, verdict: ResetVerdict) -> dict[str, Any]:
    return {
        "name": each.name,
        "fresh": _value(each.fresh),
        "replayed": _value(each.replayed),
        "observed": [
            {"seq": seen.seq, "value": hex(seen.value), "mask": hex(seen.mask)}
            for seen in each.observed
        ],
        "status": each.status(strict=verdict.strict),
        "clause": f"{each.clause.says} ({each.clause.source})" if each.clause else None,
        "because": each.reason,
        "blame": None if each.blame is None else {"seq": each.blame},
        "planted_before_recording": verdict.planted_before(each),
    }


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _value(item) for key, item in sorted(value.items())}
    return hex(value) if isinstance(value, int) else value


def _key(key: Any) -> str:
    if isinstance(key, tuple):
        return "/".join(map(hex, key))
    return hex(key) if isinstance(key, int) else str(key)


def _summary(resets: Sequence[ResetVerdict]) -> str:
    """Return how many resets have which word, and where the first finding is."""
    counts = Counter(each.word for each in resets)
    told = ", ".join(f"{count:,} {word}" for word, count in counts.most_common())
    first = next((i for i, each in enumerate(resets) if each.word in FINDINGS), None)
    where = "" if first is None else f"; the first is reset {first} at event {resets[first].seq}"
    return f"{len(resets):,} resets: {told}{where}"


def _headline(index: int, verdict: ResetVerdict, mark: str) -> str:
    return (
        f"reset {index}: {verdict.how} at event {verdict.seq}{_since(verdict)}: "
        f"{paint(_whole(verdict), _COLOUR.get(verdict.word, 'yellow'))}{mark}"
    )


def _print_reset(index: int, verdict: ResetVerdict, mark: str, options: argparse.Namespace) -> None:
    print(_headline(index, verdict, mark))
    rows = [
        each
        for each in verdict.components
        if options.verbose or each.status(strict=verdict.strict) != UNPROVEN
    ]
    for each in rows:
        _print_component(each, verdict)
    unproven = [e for e in verdict.components if e.status(strict=verdict.strict) == UNPROVEN]
    unseen = [each.name + (" (in part)" if each.observed else "") for each in unproven]
    if unseen and not options.verbose:
        print(wrapped(f"  not looked at: {folded(unseen)}"))
    _print_beside(verdict)


def _since(verdict: ResetVerdict) -> str:
    return "" if verdict.since is None else f" (disabled at {verdict.since})"


def _print_beside(verdict: ResetVerdict) -> None:
    """Say what is no verdict and worth a line: why, once, and what lies in guest RAM."""
    named: dict[str, list[str]] = {}
    for each in verdict.components:
        if each.reason:
            named.setdefault(each.reason, []).append(each.name)
        if each.clause and each.status(strict=verdict.strict) == KEPT_WORD:
            why = f"kept: {clean(each.clause.says)} [{each.clause.source}]"
            named.setdefault(why, []).append(each.name)
    for why, names in named.items():
        print(wrapped(f"  {folded(names)}: {why}"))
    count = sum(verdict.left_in_ram.values())
    if count:
        parts = ", ".join(f"{name} {n}" for name, n in verdict.left_in_ram.items())
        told = (
            f"  {count} valid {'entry' if count == 1 else 'entries'} of the old tables still in "
            f"guest RAM ({parts}): a guest that enables the ITS on unzeroed memory gets them back"
        )
        print(wrapped(told))


def _whole(verdict: ResetVerdict) -> str:
    total = len(verdict.spoken_of)
    counted = f"equal in {verdict.observed} of {total} observed"
    text = {
        "verified": f"verified, all {total} components observed",
        "equal": counted,
        "unproven": f"unproven: none of {total} components was observed",
    }.get(verdict.word, f"{verdict.word} ({counted})")
    if verdict.perturbed:
        text += "; the probe stopped the VM"
    return text + ("; events are missing around it" if verdict.lossy else "")


def _print_component(each: Component, verdict: ResetVerdict) -> None:
    status = each.status(strict=verdict.strict)
    shown = each.wrong or (each.observed[0] if each.observed else None)
    fresh, seen = _short(each.fresh), _seen(shown) if shown else "nowhere"
    both = f"fresh and observed {fresh}" if seen == fresh else f"fresh {fresh}, observed {seen}"
    if status == UNPROVEN and shown:
        both = f"fresh {fresh}, observed {seen} of its bits {each.shown:#x} alone"
    word = paint(f"{status:11}", _COLOUR.get(status, "dim"))
    print(f"  {word} {each.name:17} {both}{f' at {shown.seq}' if shown else ''}")
    if status not in (STALE, SUSPECTED, UNSPECIFIED):
        return
    if status == SUSPECTED:
        print(f"    the model says {_short(each.replayed)}; nothing observed says otherwise")
    if each.blame is not None:
        print(f"    written by event {each.blame}")
    elif verdict.planted_before(each):
        print("    written by no event of this trace: it was there before the trace begins")
    if status == UNSPECIFIED and not shown:
        print(f"    the model says {_short(each.replayed)}; nothing observed it")
    if status == UNSPECIFIED:
        print("    no clause of the contract speaks of the bits that differ")
    elif each.clause:
        print(wrapped(f"    {clean(each.clause.says)} [{each.clause.source}]"))


def _seen(shown: Observation) -> str:
    """Return what was seen; nothing reads what an observation without bits shows."""
    return hex(shown.value) if shown.mask else "by outputs"


def _short(value: Any) -> str:
    if isinstance(value, int):
        return hex(value)
    return f"{len(value)} entries" if value else "none"
