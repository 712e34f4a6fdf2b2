"""`--to kvm-c`: one C file of KVM ioctls, in the shape of a kernel selftest with TAP output.

It is a story: each step of the trace is a call with a comment that names it. What it asserts is in
the plot. Counterparts: `selftest/`, the functions that the story calls, `kvm_story`, and `plot`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from replay.equivalence.bench import belongs_to_the_vm, reset_events
from replay.equivalence.plan import RESET
from replay.export import library
from replay.export.c_text import paragraphs, string
from replay.export.kvm_calls import MAX_TABLE_BYTES, Calls
from replay.export.kvm_story import Story
from replay.export.plot import CRASH, OUTPUTS, ROUND_TRIP, Plot, foreign
from replay.export.result import Result
from replay.export.words import constants
from replay.targets.kvm import (
    DEFAULT_INTERRUPTS,
    DEFAULT_RAM,
    GICD_BASE,
    GICR_DISTANCE,
    ITS_DISTANCE,
    vcpu_ids,
)
from tracer import events as ev
from tracer.errors import UsageError
from tracer.events import NUMBER, Event, make
from tracer.log.header import Header

DEFAULT_WAY: Final = None  # as the manifest and the events suggest
MAX_EVENTS: Final = 20_000  # that a compiler takes, and nobody reads
MAX_SLOTS: Final = 31  # of selftest/head.c, but for the guest's code
_ATTR_SET: Final = NUMBER["attr.set"]
_SAVES: Final = (NUMBER["save"], NUMBER["save_pending"])
_NR_IRQS: Final = 3
_INTERRUPTS: Final = range(64, 1025, 32)  # that KVM takes; of others it makes the default
_LICENCE: Final = "// SPDX-License-Identifier: GPL-2.0 OR MIT"
_MAY_KILL: Final = {
    NUMBER["save"]: "SAVE_TABLES", NUMBER["restore"]: "RESTORE_TABLES",
    NUMBER["save_pending"]: "SAVE_PENDING_TABLES", NUMBER["reset"]: "a reset",
}  # fmt: skip


def export(header: Header, plot: Plot) -> Result:
    """Return a trace as a C file.

    Raises:
        UsageError: it is too long for one.
    """
    if len(plot.events) > MAX_EVENTS:
        raise UsageError(f"a C file takes {MAX_EVENTS} events, and these are more: minimize it")
    addresses = _addresses(header)
    story = Story(header, plot, Calls(plot.events, addresses[0]))
    main = _MAINS[plot.how](story)
    if story.calls.table_bytes > MAX_TABLE_BYTES:
        raise UsageError(f"a C file takes {MAX_TABLE_BYTES} bytes of RAM contents: minimize it")
    places = _places(header, plot, addresses, story.told.answers)
    program = [*story.calls.tables, *story.functions, main]
    always, used = library.used_by("\n".join([places, *program]))
    registers = "\n".join(constants("\n".join([*used, *program])))
    title = "\n".join([_LICENCE, *_title(plot)])
    text = "\n\n".join([title, *always, places, registers, *used, *program]) + "\n"
    told = story.told
    return Result(text, told.left_out, told.assumed, _why_meaningless(header, plot, told.tests))


def _addresses(header: Header) -> tuple[int, int, int]:
    """Return where the ITS, the distributor and the redistributors are."""
    gicd = _address(header, "gicd_base", GICD_BASE)
    gicr = _address(header, "gicr_base", gicd + GICR_DISTANCE)
    return (header.its_bases or [gicd + ITS_DISTANCE])[0], gicd, gicr


def _address(header: Header, name: str, otherwise: int) -> int:
    try:
        value = int(header.annotations.get(name, hex(otherwise))[:20], 16)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 52:
        raise UsageError(f"the header's {name} must be an address of 52 bits")
    return value


def _why_meaningless(header: Header, plot: Plot, tests: int) -> str | None:
    if why := foreign(header, "kvm", "KVM's"):
        return why
    if any(event[0] == NUMBER["vcpu"] and not event[3] for event in plot.events):
        return "its vCPUs ran a guest, whose doing is not in the trace"
    if any(event[0] == NUMBER["context"] and len(event) > 2 and event[2] for event in plot.events):
        return "its VM has several ITSes"
    return None if tests else "nothing in it can be asked about"


# -- what stands above the story


def _title(plot: Plot) -> list[str]:
    texts = [plot.shows[0].upper() + plot.shows[1:] + "."] if plot.shows else []
    texts.append(_TITLES[plot.how])
    if sources := [each for each in plot.sources if ".md" not in each]:
        texts.append("See: " + "; ".join(sources))
    if plot.how == CRASH:
        texts.append("WARNING: " + _warning(plot))
    texts.append(
        "KVM ioctls only: any arm64 host with KVM and a GICv3 runs it. Build: gcc -static -O2 "
        "-Wall -Wextra -Werror -o NAME NAME.c. Exit code: 0 pass, 1 fail, 4 skip."
    )
    return paragraphs(texts)


def _warning(plot: Plot) -> str:
    where = f", in {plot.function}" if plot.function else ""
    return f"a host with the bug dies of this test{where}"


def _places(header: Header, plot: Plot, addresses: tuple[int, int, int], answers: int) -> str:
    """Return the constants: where things are in the guest's address space, and how many."""
    its, gicd, gicr = addresses
    told = next((each[5] for each in plot.events if _tells_interrupts(each)), None)
    slots = header.ram_ranges or DEFAULT_RAM
    if len(slots) > MAX_SLOTS:
        raise UsageError(f"a C file takes {MAX_SLOTS} ranges of RAM, not {len(slots)}: minimize it")
    lines = [
        "/* Where things are in the guest's address space. */",
        f"#define GICD_BASE\t{gicd:#x}ULL",
        f"#define ITS_BASE\t{its:#x}ULL",
        f"#define GICR_BASE\t{gicr:#x}ULL",
        f"#define NR_IRQS\t\t{told if told in _INTERRUPTS else DEFAULT_INTERRUPTS}",
        *([f"#define ANSWERS\t\t{answers}"] if answers else []),
        f"static const uint32_t vcpu_ids[] = {{ {', '.join(map(hex, vcpu_ids(header)))} }};",
        "static const struct {",
        "\tuint64_t gpa, size;",
        "} ram_ranges[] = {",
        *(f"\t{{ {base:#x}, {size:#x} }}," for base, size in slots),
        "};",
    ]
    return "\n".join(lines)


def _tells_interrupts(event: Event) -> bool:
    wanted = (ev.DEVICES.index("gic"), _NR_IRQS)
    return bool(event[0] == _ATTR_SET and event[2:4] == wanted and len(event) > 5 and event[5])


# -- the four ways to ask


def _numbered(plot: Plot, which: Iterable[int]) -> list[tuple[int, Event]]:
    return [(at, plot.events[at]) for at in which]


def _outputs(story: Story) -> str:
    plot = story.plot
    story.recorded("story", "What was recorded.", _numbered(plot, plot.life))
    return _main(["struct vm vm;"], story.told.tests, ["new_vm(&vm);", "story(&vm);"])


def _crash(story: Story) -> str:
    plot = story.plot
    story.life("story", "What a host with the bug dies of.", _numbered(plot, plot.life))
    story.told.tests = 1
    kinds = [_MAY_KILL[each[0]] for each in plot.events if each[0] in _MAY_KILL]
    what = string(f"the host lives after {kinds[-1] if kinds else 'all of it'}")
    body = [f"puts({string('# WARNING: ' + _warning(plot))});", ""]
    return _main(["struct vm vm;"], 1, [*body, f"tap_result(lives_through(story, &vm), {what});"])


def _reset(story: Story) -> str:
    plot = story.plot
    question = plot.question
    assert question is not None
    life = _numbered(plot, plot.life)
    story.life("life", "The life of the VM that is reset.", life)
    events = reset_events(question, len(vcpu_ids(story.header)), redistributors=True)
    story.must_work("reset", "The reset.", [(question.at, each) for each in events])
    its = [(at, each) for at, each in life if belongs_to_the_vm(each, question.unit)]
    story.life("no_life", "What the fresh VM is given: all but the ITS.", its)
    asked = [*_numbered(plot, plot.questions), (len(plot.events), make("save_pending", 0))]
    story.asked("questions", "Set-up and questions; the last shows pending LPIs in RAM.", asked)
    story.told.tests += 1  # all of guest RAM
    steps = [
        "new_vm(&old);", "life(&old);", "reset(&old);", "",
        "new_vm(&fresh);", "no_life(&fresh);", "copy_ram(&fresh, &old);", "",
        "questions(&fresh);", "questions(&old);", "compare_ram(&old, &fresh);",
    ]  # fmt: skip
    return _main(["struct vm old, fresh;"], story.told.tests, steps)


def _round_trip(story: Story) -> str:
    plot = story.plot
    question = plot.question
    assert question is not None
    assert question.resumed is not None
    story.life("life", "The life of both VMs.", _numbered(plot, plot.life))
    trip = _numbered(plot, range(question.at, question.resumed))
    saves = [(at, each) for at, each in trip if each[0] in _SAVES]
    story.must_work("save", "Saved, too, or tables in RAM would be of another time.", saves)
    story.must_work("round_trip", "Saved, reset and restored.", trip)
    story.asked("questions", "The questions.", _numbered(plot, plot.questions))
    steps = [
        "new_vm(&kept);", "life(&kept);", "save(&kept);", "",
        "new_vm(&restored);", "life(&restored);", "round_trip(&restored);", "",
        "questions(&kept);", "questions(&restored);",
    ]  # fmt: skip
    return _main(["struct vm kept, restored;"], story.told.tests, steps)


def _main(variables: list[str], tests: int, steps: list[str]) -> str:
    lines = [*variables, "", "need_its();", f"tap_begin({tests});", *steps, "return tap_end();"]
    body = [f"\t{line}" if line else "" for line in lines]
    return "\n".join(["int main(void)", "{", *body, "}"])


_MAINS: Final[dict[str, Callable[[Story], str]]] = {
    OUTPUTS: _outputs, CRASH: _crash, RESET: _reset, ROUND_TRIP: _round_trip,
}  # fmt: skip
_TITLES: Final = {
    OUTPUTS: "One VM lives as was recorded; each answer must be the recorded one.",
    CRASH: "One VM lives as was recorded; the host must live, too.",
    RESET: "One VM lives and is reset; another is fresh, its RAM a copy. Both are set up and asked "
    "the same, and must answer alike: behind a reset there is no past.",
    ROUND_TRIP: "Two VMs live the same; one is saved, reset and restored. Both are asked the same, "
    "and must answer alike: what was saved is restored, and nothing else.",
}  # fmt: skip
