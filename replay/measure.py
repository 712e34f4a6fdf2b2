"""The short lives of `replay.fingerprint` carried out on a real target: what does it answer?

Lines become events as an import of them does, and answers become the fields that stand behind a
line. A life that may kill or hang a host goes line by line, behind all others, on a host of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from replay.fingerprint import LIVES_OF, header, nearest, tell
from replay.fingerprint_lives import Script
from replay.model import effects
from replay.model.effects import HostCrash
from replay.profiles import Profile
from replay.targets.ahead import FAILED, Group, Item, Target
from replay.targets.common import Answer
from replay.targets.errors import TargetError
from replay.targets.kvm import KvmTarget
from replay.targets.qemu import Needs, QemuTarget
from replay.targets.spec import Spec, Targets
from tracer import events as ev
from tracer.events import NUMBER, Event
from tracer.log.header import Header
from tracer.sources.vectors import Life

# In this order; each is left out when what was told before says that the host would not survive it.
DEADLY: Final = (
    "save_zeroes_ite_without_collection", "save_chains_past_zeroed_ites",
    "invlpir_ignores_other_intids", "debugfs_hides_intids_above_16_bits",
)  # fmt: skip
# letter -> what stands for the answer that is to come
_BLANK: Final = {
    "W": " 0", "R": " 0 0", "G": " 0", "g": " 0 0", "D": " 0", "I": " 0", "X": " 0", "P": " 0",
}  # fmt: skip
_ASKED: Final = frozenset(NUMBER[name] for name in ("reg.read", "gicr.read", "mem.read"))
_PROBE: Final = NUMBER["probe"]


def about(made: Targets, spec: Spec) -> str:
    """Return the version and the build of what a target runs.

    Raises:
        TargetError: it cannot be had.
    """
    head, _ = _events(Script(), spec.kind)
    with made.opened(spec, head, Needs()) as target:
        assert isinstance(target, QemuTarget | KvmTarget)
        return target.about()


def measured(made: Targets, spec: Spec) -> dict[str, list[str]]:
    """Return flag -> the lines that a target answered to its life; a death is its last line.

    Raises:
        TargetError: it cannot be had. Lives that it cannot live are left out.
    """
    lives = LIVES_OF[spec.kind]
    found: dict[str, list[str]] = {}
    for name in [*(name for name in lives if name not in DEADLY), *DEADLY]:
        if name not in lives or (name in DEADLY and _would_hang(name, found, spec)):
            continue
        try:
            found[name] = _lived(made, spec, lives[name], alone=name in DEADLY)
        except TargetError:
            if not found:
                raise
    return found


def _would_hang(name: str, found: dict[str, list[str]], spec: Spec) -> bool:
    """A host whose walk of live LPIs is in INTID order may never end this listing."""
    if name != "debugfs_hides_intids_above_16_bits":
        return False
    told = tell(found, nearest(found, spec.kind))
    return told["lpis_walked_in_intid_order"] is not False


def _lived(made: Targets, spec: Spec, script: Script, *, alone: bool) -> list[str]:
    head, events = _events(script, spec.kind)
    groups = [Group(seq, event, ()) for seq, event in enumerate(events)]
    with made.opened(spec, head, Needs()) as target:
        if not alone:
            return list(_lines(script, target.carry_out(groups), spec.kind))
        return list(_one_by_one(script, groups, target))


def _one_by_one(script: Script, groups: Sequence[Group], target: Target) -> Iterator[str]:
    """Yield answers up to the death of the host; what only stores in RAM goes with what follows."""
    done: list[Item] = []
    waiting: list[Group] = []
    for group in groups:
        waiting.append(group)
        if group.event[0] != NUMBER["mem.write"]:
            done += target.carry_out(waiting)
            waiting = []
        if done and isinstance(done[-1][1], HostCrash):
            yield from _lines(script, done[:-1], "kvm")
            yield str(done[-1][1])
            return
    yield from _lines(script, done + target.carry_out(waiting), "kvm")


def _events(script: Script, kind: str) -> tuple[Header, list[Event]]:
    """Return the inputs and questions of a life, one a line, and the header of its VM."""
    lines = [header(0, script), *(line + _BLANK.get(line[0], "") for line in script.lines)]
    life = Life("a life", None, "qemu-0" if kind == "qemu" else "linux-0")
    events = [
        event
        for event in life.events(iter([line.encode() for line in lines]))  # type: ignore[arg-type]
        if event[0] < ev.FIRST_OUTPUT or event[0] in _ASKED or event[:3] == (_PROBE, 0, 0)
    ]
    assert life.header is not None
    assert len(events) == len(script.lines), "a line is one input or one question"
    return life.header, events


def _lines(script: Script, items: Sequence[Item], kind: str) -> Iterator[str]:
    for line, item in zip(script.lines, items, strict=False):
        answer = _answer(item, kind)
        yield f"{line} {answer}" if answer else line


def _answer(item: Item, kind: str) -> str:
    """Return an answer as a vector line spells it."""
    event, answer, bound = item
    if event[0] == _PROBE:
        if answer is None:
            raise TargetError("the live LPIs could not be listed")
        return " ".join(
            f"{row[0]},{row[1]},{row[2]:07b},{row[3]},{row[4]}" for row in sorted(answer)
        )
    if isinstance(answer, Answer) and event[0] == NUMBER["mem.read"]:
        words = memoryview(answer.expected).cast("Q")
        return " ".join(f"{at}:{word:x}" for at, word in enumerate(words) if word)
    if event[0] in _ASKED:
        value = answer.expected if isinstance(answer, Answer) else answer or 0
        return f"{value:x} {bound.get(FAILED, 0)}" if kind == "kvm" else f"{value:x}"
    results: list[Any] = [
        effect[1]
        for effect in answer or ()
        if effect[0] in (effects.ATTR_RESULT, effects.MSI_RESULT)
    ]
    return str(results[-1]) if results else ""


def told(found: dict[str, list[str]], start: Profile) -> dict[str, Any]:
    """Return flag -> value for every flag of the family; None where no life told it."""
    return dict.fromkeys(LIVES_OF[start.family]) | tell(found, start)
