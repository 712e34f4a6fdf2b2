"""`diff` finds what was changed in a copy, exactly there, and nothing where only names differ."""

from __future__ import annotations

import contextlib
import io
import itertools
import json

import pytest
from hypothesis import given, settings, strategies as st

from replay import diff_names
from replay.cli import main
from replay.diff import CHANGED, ONLY_A, ONLY_B, RENAMED, Diff
from replay.diff_items import DEFAULT, IGNORABLE, LEFT_OUT, NAMES, ORDERS, Items, ignored
from replay.diff_names import Name, Renaming, TooManyNames
from replay.diff_ranges import parse_part
from tests.support.any_events import EVENTS
from tests.support.captures import TRACES, TWO_BOOTS, import_bytes
from tracer.errors import UsageError
from tracer.events import KINDS, NUMBER, fields_of, make
from tracer.its.commands import encode
from tracer.log.header import Header
from tracer.log.stream import Reader, Writer
from tracer.log.text import write_text


def items(events, *, also="", compared="", order="device"):
    made = Items(ignored(also, compared), order)
    for seq, event in enumerate(events):
        yield from made.of(seq, event)
    yield from made.end()


def compare(a, b, *, most=1, window=256, **how):
    diff = Diff(items(a, **how), items(b, **how), window=window, most=most)
    return diff.run()


def where(found):
    """Return (what, sequence numbers of A, of B) of each difference."""
    return [(e.what, [i.seq for i in e.a], [i.seq for i in e.b]) for e in found]


# -- a small boot: tables, then three devices with two events each, in complete RAM

QUEUE, RAM = 0x4030_0000, 0x4000_0000
VALID = 1 << 63


class Boot:
    """A boot's events; `move` shifts every address, `lpi` is the first INTID."""

    def __init__(self, move=0, lpi=8192, devices=(8, 16, 24), shown=False):
        self.events = []
        self.move = move
        self.cwriter = 0
        self.shown = shown  # whether commands are seen as the device fetches them
        self.add("reset", how=0)
        for offset, at in ((0x100, 0x10_0000), (0x108, 0x20_0000), (0x80, 0x30_0000)):
            self.reg(offset, VALID | RAM + at + move)
        self.reg(0x88, 0)
        self.reg(0, 1)
        for cpu in range(2):
            self.gicr(cpu, 0x70, RAM + 0x40_0000 + move | 15)
            self.gicr(cpu, 0x78, RAM + 0x50_0000 + 0x1_0000 * cpu + move)
            self.gicr(cpu, 0, 1)
            self.command("MAPC", icid=cpu, rdbase=cpu, v=1)
        for number, device in enumerate(devices):
            itt = RAM + 0x60_0000 + 0x1000 * number + move
            self.command("MAPD", device_id=device, size=3, itt_addr=itt, v=1)
            for event in range(2):
                self.command("MAPTI", device_id=device, event_id=event, pintid=lpi, icid=event % 2)
                lpi += 1
        self.command("MOVI", device_id=devices[0], event_id=1, icid=0)

    def add(self, name, **fields):
        self.events.append(make(name, 0, **fields))

    def reg(self, offset, value):
        self.add("reg.write", offset=offset, value=value)

    def gicr(self, cpu, offset, value):
        self.add("gicr.write", cpu=cpu, offset=offset, value=value, size=8 if offset else 4)

    def command(self, name, **fields):
        words = encode(name, **fields)
        if not self.shown:
            data = b"".join(word.to_bytes(8, "little") for word in words)
            self.add("mem.write", gpa=QUEUE + self.move + self.cwriter, data=data)
        at, self.cwriter = self.cwriter, self.cwriter + 32
        self.reg(0x88, self.cwriter)
        if self.shown:
            self.add("command", cause=1, queue_offset=at, dw0=words[0], dw1=words[1],
                     dw2=words[2], dw3=words[3])  # fmt: skip


@pytest.mark.parametrize("shown", [False, True])
def test_other_addresses_and_lpis_are_no_difference(shown):
    a, b = Boot(shown=shown), Boot(move=0x123_0000, lpi=9000, shown=shown)
    assert compare(a.events, b.events) == []
    for words in ("addresses", "lpis"):
        assert compare(a.events, b.events, compared=words) != []


def test_devices_may_come_in_another_order_and_get_other_lpis():
    a, b = Boot(), Boot(devices=(8, 24, 16))
    assert compare(a.events, b.events) == []
    assert compare(a.events, b.events, order="total") != []


def test_a_recorder_that_sees_no_ram_is_no_difference_when_that_is_asked_for():
    seen, extra = Boot(shown=True).events, make("mem.write", 0, gpa=0x4700_0000, data=b"\1")
    assert compare([*seen, extra], seen) != []
    assert compare([*seen, extra], seen, also="ram") == []


def test_device_ids_are_a_difference_unless_they_are_declared_irrelevant():
    a, b = Boot(), Boot(devices=(8, 16, 32))
    (found,) = compare(a.events, b.events)
    assert {
        each.event[3][4] for each in found.a + found.b if each.event[0] == NUMBER["mem.write"]
    } == {24, 32}
    assert compare(a.events, b.events, also="devices") == []
    # Two devices that are one on the other side are not the same under any renaming.
    c = Boot(devices=(8, 16, 16))
    assert compare(a.events, c.events, also="devices") != []


def test_a_name_that_contradicts_the_renaming_is_a_difference():
    """Two events of B share an INTID that A gives two of."""
    a, b = Boot(), Boot(lpi=9000)
    at = next(
        seq for seq, event in enumerate(b.events)
        if event[0] == NUMBER["mem.write"] and event[3][:5] == bytes((0xA, 0, 0, 0, 24))
    )  # fmt: skip
    data = bytearray(b.events[at][3])
    data[12:16] = (9000).to_bytes(4, "little")
    b.events[at] = make("mem.write", 0, gpa=b.events[at][2], data=bytes(data))
    (found,) = compare(a.events, b.events)
    assert where([found]) == [(RENAMED, [at], [at])]
    space, ours, bound, theirs, back = found.names[0]
    assert (space, ours, bound, theirs, back) == ("lpis", 8196, None, 9000, 8192)


def test_numbers_that_were_given_back_may_be_given_to_others():
    """A gives device 16 the ITT and the INTIDs that device 8 had; B takes new ones."""

    def life(itt, lpi):
        boot = Boot(devices=(8,))
        boot.command("DISCARD", device_id=8, event_id=0)
        boot.command("MAPD", device_id=8)
        boot.command("MAPD", device_id=16, size=3, itt_addr=itt, v=1)
        boot.command("MAPTI", device_id=16, event_id=0, pintid=lpi)
        return boot.events

    used, new = life(RAM + 0x60_0000, 8192), life(RAM + 0x70_0000, 8400)
    assert compare(used, new) == []
    assert compare(new, used) == []


def test_every_name_is_free_behind_a_reset():
    a = [*Boot(lpi=8192).events, *Boot(lpi=8300).events]
    b = [*Boot(lpi=8192).events, *Boot(lpi=8192, move=0x10_0000).events]
    assert compare(a, b) == []


def test_two_tables_that_are_one_on_the_other_side_are_a_difference():
    a, b = Boot(), Boot(move=0x100_0000)
    at = next(seq for seq, event in enumerate(b.events) if event[2:3] == (0x108,))
    b.events[at] = (*b.events[at][:3], b.events[1][3])  # BASER1 where BASER0 is
    assert where(compare(a.events, b.events)) == [(RENAMED, [at], [at])]


# -- mutations: each kind of event that is compared, changed, taken out, put in

EXTRA = (
    make("gicd.write", 0, offset=0, value=2),
    make("attr.set", 0, device=0, group=4, attr=1),
    make("attr.result", 0, cause=1, errno=0),
    make("ram", 0, gpa=0x8000_0000, size=0x1000),
    make("create", 0),
    make("init", 0, base=0x808_0000),
    make("save_pending", 0),
    make("save", 0),
    make("restore", 0),
    make("mem.write", 0, gpa=0x4700_0000, data=b"\1\2\3\4"),
    make("reset", 0, how=2, origin=1),
    make("reg.write", 0, offset=0x100, value=VALID | 0x4010_0000),
    make("gicr.write", 0, cpu=1, offset=0, value=1, size=4),
)


def whole_life(shown):
    return [*Boot(shown=shown).events, *EXTRA, *Boot(shown=shown, devices=(40, 48)).events]


COMPARED = sorted(
    {event[0] for shown in (False, True) for event in whole_life(shown)},
)
LEFT = {
    "reg.read", "gicr.read", "gicd.read", "mem.read", "msi", "msi.result", "lpi", "lpi.ack",
    "table.read", "table.write", "table.fault", "xlat.hit", "xlat.miss", "command.done",
    "probe", "lpi.live", "its.live", "vcpu", "context", "loss", "marker", "digest", "source.gap",
}  # fmt: skip


def test_every_kind_is_compared_or_known_to_be_left_out():
    assert {NUMBER[name] for name in LEFT} | set(COMPARED) == set(KINDS)
    assert not {NUMBER[name] for name in LEFT} & set(COMPARED)


def changed(event):
    """Return the event with another meaning: its last field, or data, that no name may hide."""
    fields = fields_of(event)
    name = KINDS[event[0]].name
    if name == "command":
        fields["dw1"] ^= 3  # another EventID, another size; MAPC has neither
        fields["dw2"] ^= 1 if event[4] & 0xFF == 9 else 0
    elif name == "mem.write":
        data = bytearray(fields["data"])
        data[0 if len(data) < 32 else 8 if data[0] != 9 else 16] ^= 1
        fields["data"] = bytes(data)
    elif name in ("reg.write", "gicr.write"):
        fields["value"] ^= 1 if fields["offset"] != 0x88 else 0x20
    elif name == "reset":
        fields["how"] = (fields["how"] + 1) % 3
    elif name == "attr.result":
        fields["errno"] = -22
    elif name in ("gicd.write", "attr.set"):
        fields["value"] = 0x77
    elif name in ("ram", "init"):
        fields["size" if name == "ram" else "base"] = 0x2000
    else:
        return None  # it has no field
    return make(name, event[1], **fields)


def first_of(events, at):
    """A command that the device fetched goes with the write of CWRITER that made it fetch it."""
    return at - (events[at][0] == NUMBER["command"])


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("kind", COMPARED, ids=[KINDS[each].name for each in COMPARED])
def test_a_changed_event_is_found_exactly_there(kind, shown):
    events = whole_life(shown)
    for at, event in enumerate(events):
        other = changed(event) if event[0] == kind else None
        if other is None:
            continue
        copy = [*events[:at], other, *events[at + 1 :]]
        found = compare(events, copy, most=2)  # one that hands over commands changes the next
        assert at in [each.seq for one in found for each in one.a], (at, where(found))
        assert at in [each.seq for one in found for each in one.b], (at, where(found))
        first = min(each.seq for each in found[0].a + found[0].b)
        assert first_of(events, at) <= first <= at


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("kind", COMPARED, ids=[KINDS[each].name for each in COMPARED])
def test_an_event_that_was_taken_out_or_put_in_is_found_exactly_there(kind, shown):
    events = whole_life(shown)
    for at, event in enumerate(events):
        if event[0] != kind or event in events[at + 1 : at + 2]:
            continue  # of two that are the same nobody can say which
        copy = [*events[:at], *events[at + 1 :]]
        for a, b, what in ((events, copy, ONLY_A), (copy, events, ONLY_B)):
            found = compare(a, b)[0]
            side = found.a if what == ONLY_A else found.b
            assert at in [each.seq for each in side], (at, event, where([found]))
            assert side[0].seq >= first_of(events, at), (at, event, where([found]))


USUALLY_LEFT_OUT = {
    "reads": (
        make("reg.read", 0, offset=0, value=1, size=4),
        make("gicr.read", 0, cpu=1, offset=0, value=1, size=4),
        make("gicd.read", 0, offset=0, value=2),
        make("mem.read", 0, cause=0, gpa=0x4700_0000, data=b"\1\2"),
    ),
    "msis": (
        make("msi", 0, device_id=8, event_id=1),
        make("msi.result", 0, cause=1, result=1),
        make("lpi", 0, cause=1, intid=8193, cpu=1),
        make("lpi.ack", 0, cause=0, intid=8193, cpu=1),
    ),
    "internals": (
        make("table.read", 0, cause=1, table=0, index=8, base=0, valid=1, e1=3, e2=0x4060_0000),
        make("table.write", 0, cause=1, table=2, index=1, base=0x4060_0000, valid=1, e2=8193),
        make("table.fault", 0, cause=1, table=1, index=7, base=0),
        make("xlat.hit", 0, cause=1, device_id=8, event_id=1),
        make("xlat.miss", 0, cause=1, device_id=8, event_id=1),
        make("command.done", 0, cause=1, creadr=0x40),
    ),
    "probes": (
        make("probe", 0, edge=0),
        make("lpi.live", 0, cause=0, intid=8193, target=1, flags=9, priority=160, queued=-1),
        make("its.live", 0, cause=0, device_id=8, event_id=1, intid=8193, target=1, icid=1),
        make("gicr.write", 0, cpu=1, offset=0, value=1, size=4, origin=2),
    ),
    "vcpus": (make("vcpu", 0, cpu=1, action=0), make("context", 0, its=0, cpu=1, thread=7)),
    "notes": (
        make("loss", 0, reason="ring"),
        make("marker", 0, text="here"),
        make("digest", 0, state=b"\1"),
        make("source.gap", 0, reason="?"),
    ),
}


def test_all_that_is_left_out_is_there():
    kinds = {KINDS[event[0]].name for events in USUALLY_LEFT_OUT.values() for event in events}
    assert kinds == LEFT | {"gicr.write"}


@pytest.mark.parametrize(
    ("word", "event"),
    [(word, event) for word, events in USUALLY_LEFT_OUT.items() for event in events],
)
def test_what_is_left_out_is_found_exactly_there_when_it_is_asked_for(word, event):
    events = Boot().events
    for at in (7, len(events) - 1):
        copy = [*events[:at], event, *events[at:]]
        assert compare(events, copy) == []
        (found,) = compare(events, copy, compared=word)
        assert where([found]) == [(ONLY_B, [], [at])]


def test_time_and_positions_are_compared_when_they_are_asked_for():
    events = Boot().events
    late = [(event[0], event[1] + (at == 9), *event[2:]) for at, event in enumerate(events)]
    (found,) = compare(events, late, compared="time")
    assert found.a[0].seq == found.b[0].seq == 9
    nop = make("mem.write", 0, gpa=QUEUE + 0xF00, data=bytes(32))
    assert compare([*events, nop], [*events, (*nop[:2], QUEUE + 0xF20, nop[3])]) == []
    assert compare([*events, nop], [*events, (*nop[:2], QUEUE + 0xF20, nop[3])],
                   compared="positions") != []  # fmt: skip


def test_two_differences_far_apart_are_both_found_and_no_more():
    events = whole_life(shown=True)
    first, second = 5, len(events) - 3  # registers both
    second = next(at for at in range(second, 0, -1) if events[at][0] == NUMBER["gicr.write"])
    copy = list(events)
    copy[first], copy[second] = changed(events[first]), changed(events[second])
    found = compare(events, copy, most=10)
    assert where(found) == [(CHANGED, [first], [first]), (CHANGED, [second], [second])]


# -- order and window


def test_what_is_overtaken_by_more_than_the_window_is_a_difference():
    late = make("gicr.write", 0, cpu=1, offset=0, value=7, size=4)
    body = [make("gicr.write", 0, cpu=0, offset=0, value=at, size=4) for at in range(50)]
    a, b = [late, *body], [*body, late]
    assert compare(a, b, window=100) == []
    assert where(compare(a, b, window=20, most=9)) == [(ONLY_A, [0], []), (ONLY_B, [], [50])]


def test_what_waits_is_no_more_than_the_window_whatever_comes():
    """Two boots that have nothing in common, in many lanes."""
    a = [make("gicr.write", 0, cpu=at % 50, offset=0, value=1, size=4) for at in range(5000)]
    b = [make("reg.write", 0, offset=0x80, value=at) for at in range(5000)]
    diff = Diff(items(a), items(b), window=64, most=100)
    most = 0
    read = diff._read

    def counted(side):
        nonlocal most
        read(side)
        most = max(most, diff._a.waiting + diff._b.waiting)

    diff._read = counted
    assert len(diff.run()) == 100
    assert most < 4 * 64 + 64  # on both sides, and until the next look


def test_nothing_crosses_a_reset():
    reset = make("reset", 0, how=1)
    one, other = (make("gicr.write", 0, cpu=cpu, offset=0, value=1, size=4) for cpu in (0, 1))
    assert compare([one, reset, other], [one, reset, other]) == []
    assert compare([one, other, reset], [one, reset, other]) != []


def test_only_of_one_thread_is_the_order_kept_when_that_is_asked_for():
    def did(*pairs):
        events = []
        for thread, value in pairs:
            events.append(make("context", 0, its=0, cpu=0, thread=thread))
            events.append(make("reg.write", 0, offset=0x80 + 8 * thread, value=value))
        return events

    a, b = did((1, 1), (2, 1), (1, 2)), did((1, 1), (1, 2), (2, 1))
    assert compare(a, b, order="cpu") == []
    assert compare(a, b, order="total") != []
    assert compare(a, did((1, 2), (1, 1), (2, 1)), order="cpu") != []


# -- names


def test_more_names_than_are_kept_end_it_and_say_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(diff_names, "MAX_NAMES", 5)
    renaming = Renaming()
    for value in range(5):
        renaming.take([Name("lpis", value)], [Name("lpis", value + 1)])
    with pytest.raises(TooManyNames, match="names are in force at once"):
        renaming.take([Name("lpis", 9)], [Name("lpis", 10)])
    path = save(tmp_path / "a.its.txt", Boot().events)
    assert main(["diff", str(path), str(path)]) == 4
    assert "names are in force at once" in capsys.readouterr().err


names = st.tuples(st.sampled_from("xy"), st.integers(0, 6), st.integers(0, 6), st.booleans())


@settings(max_examples=100)
@given(st.lists(names, max_size=40))
def test_the_renaming_is_one_to_one_whatever_is_asked_of_it(uses):
    """A slow, obvious second implementation: all pairs in force, and who holds them."""
    renaming, pairs = Renaming(), {}
    for number, (space, a, b, release) in enumerate(uses):
        holder = ("device", number % 3, number % 5)
        if release:
            renaming.release(holder)
            pairs = {pair: held - {holder} for pair, held in pairs.items()}
            pairs = {pair: held for pair, held in pairs.items() if held}
        free = {pair: held - {holder} for pair, held in pairs.items() if held - {holder}}
        fits = all((s != space) or ((x == a) == (y == b)) for s, x, y in free)
        ours, theirs = [Name(space, a, holder)], [Name(space, b, holder)]
        assert renaming.agrees(ours, theirs) == fits
        if fits:
            renaming.take(ours, theirs)
            pairs = free
            pairs[space, a, b] = pairs.get((space, a, b), frozenset()) | {holder}
        assert {tuple(each) for each in renaming} == set(pairs)


@settings(max_examples=60, deadline=None)
@given(
    EVENTS, EVENTS, st.sets(st.sampled_from(IGNORABLE)), st.sampled_from(ORDERS), st.integers(1, 9)
)
def test_whatever_is_compared_it_ends_and_is_the_same_as_itself(a, b, ignore, order, window):
    def compared(one, other):
        made = [Items(frozenset(ignore), order) for _ in range(2)]
        sides = [
            itertools.chain(*(each.of(seq, event) for seq, event in enumerate(events)), each.end())
            for each, events in zip(made, (one, other), strict=True)
        ]
        return Diff(*sides, window=window, most=9).run()

    assert compared(a, list(a)) == []
    compared(a, b)


# -- the command line


def save(path, events):
    text = io.StringIO()
    write_text(Header(source="test"), enumerate(events), text)
    path.write_text(text.getvalue())
    return path


def written(events):
    out = io.BytesIO()
    writer = Writer(out, Header(source="test"), bound_ms=0)
    for event in events:
        writer.add(event)
    writer.close()
    return out.getvalue()


def run(capsys, *args):
    code = main(["diff", "--json", *map(str, args)])
    out = capsys.readouterr()
    return code, json.loads(out.out) if out.out else out.err


def test_exit_codes_and_the_answer(tmp_path, capsys):
    events = Boot().events
    a = save(tmp_path / "a.its.txt", events)
    b = save(tmp_path / "b.its.txt", [*events[:9], *events[10:]])
    code, answer = run(capsys, a, a)
    assert (code, answer["same"], answer["differences"]) == (0, True, [])
    code, answer = run(capsys, a, b)
    assert (code, answer["schema"], answer["same"]) == (1, "itstrace.diff/1", False)
    assert answer["differences"][0]["a"][0]["seq"] == 9
    assert main(["diff", str(a), str(b)]) == 1
    text = capsys.readouterr().out
    assert "changed" in text
    assert "the same in" in text
    assert run(capsys, a, tmp_path / "none")[0] == 2
    assert run(capsys, a, b, "--ignore", "weather")[0] == 2
    assert run(capsys, "-", "-")[0] == 2
    assert run(capsys, a, b, "--window", 0)[0] == 2


def test_what_was_lost_and_what_is_newer_end_with_their_own_codes(tmp_path, capsys):
    events = Boot().events
    lossy = save(tmp_path / "lossy.its.txt", [*events, make("loss", 0, reason="ring")])
    code, answer = run(capsys, lossy, lossy)
    assert (code, answer["same"]) == (3, True)
    assert "events are missing in 1 places" in answer["notes"][0]
    path = tmp_path / "newer.itstrace"
    path.write_bytes(written([*events, (63, 0, 1)]))
    code, answer = run(capsys, path, path)
    assert (code, answer["same"]) == (4, True)
    assert "inputs of a newer itstrace (kind.63)" in answer["notes"][0]


def test_a_damaged_trace_is_no_difference_but_damage(tmp_path, capsys):
    trace = import_bytes((TRACES / TWO_BOOTS).read_bytes())
    whole, cut = tmp_path / "a.itstrace", tmp_path / "b.itstrace"
    whole.write_bytes(trace)
    at = len(trace) // 2
    cut.write_bytes(trace[:at] + bytes(20) + trace[at + 20 :])
    code, answer = run(capsys, whole, cut)
    assert code == 3
    assert answer["notes"]


@pytest.mark.parametrize("text", ["x@", "x@reset:", "x@a..b", "x@..", "x@1..2..3", "x@reset:-1"])
def test_a_range_that_cannot_be_read_is_wrong_usage(text):
    with pytest.raises(UsageError, match="behind @ must stand"):
        parse_part(text)


@settings(max_examples=100)
@given(st.text(max_size=30) | st.from_regex(r"t@(reset:|\.\.|[0-9x-]){0,6}"))
def test_no_range_does_anything_but_mean_something_or_not(text):
    with contextlib.suppress(UsageError, ValueError):
        parse_part(text)


def test_a_place_that_is_not_in_the_trace_is_wrong_usage(tmp_path, capsys):
    a = save(tmp_path / "a.its.txt", Boot().events)
    for part, sentence in (("reset:3", "no reset 3; the last is 0"), ("900..", "no event 900")):
        code, err = run(capsys, a, f"{a}@{part}")
        assert code == 2
        assert sentence in err


@settings(max_examples=100)
@given(st.text(alphabet="abdelmnoprst,- ", max_size=30))
def test_words_are_known_or_refused(text):
    with contextlib.suppress(UsageError):
        assert ignored(text) <= set(IGNORABLE)


def test_the_words_are_those_of_the_two_tables():
    assert set(IGNORABLE) == {*NAMES, *LEFT_OUT}
    assert {"addresses", "lpis", *LEFT_OUT} - {"ram"} == DEFAULT
    assert ignored("none,lpis") == {"lpis"}
    assert ignored("devices", "lpis") == DEFAULT - {"lpis"} | {"devices"}


# -- real boots


def trace_of(name, tmp_path):
    path = tmp_path / (name + ".itstrace")
    assert main(["import", str(TRACES / name), "-o", str(path)]) == 0
    return path


@pytest.mark.parametrize("kernel", ["6.1.192", "6.12.117"])
def test_a_guest_that_booted_twice_on_one_kvm_did_the_same(kernel, tmp_path, capsys):
    """Its ITTs lie elsewhere, and other vCPUs mapped its devices."""
    path = trace_of(f"kvm-{kernel}-boot-stop-reset-boot.stream.txt.gz", tmp_path)
    capsys.readouterr()
    parts = f"{path}@reset:0", f"{path}@reset:1"
    code, answer = run(capsys, *parts)
    assert (code, answer["same"]) == (0, True)
    assert answer["agreed"] > 140
    assert run(capsys, *parts, "--compare", "addresses")[0] == 1


def test_a_boot_that_a_reset_cut_short_lacks_what_the_next_one_did(tmp_path, capsys):
    path = trace_of("qemu-7.2.22-linux-6.1-two-boots.log", tmp_path)
    capsys.readouterr()
    code, answer = run(capsys, f"{path}@reset:0", f"{path}@reset:1", "--all")
    assert code == 1
    assert {each["what"] for each in answer["differences"]} == {ONLY_B}
    assert answer["last"] == {"a": 326, "b": 670}  # the last command of the first boot


def test_reading_a_real_trace_changes_nothing_of_it():
    reader = Reader(io.BytesIO(import_bytes((TRACES / TWO_BOOTS).read_bytes())))
    events = [event for _, block in reader for event in block]
    assert compare(events, events) == []
    assert compare(events, events, also="none") == []


def test_a_second_disk_is_the_one_difference_of_two_real_boots(tmp_path, capsys):
    one = trace_of("qemu-7.2.22-linux-6.1-one-disk.log.gz", tmp_path)
    two = trace_of("qemu-7.2.22-linux-6.1-two-disks.log.gz", tmp_path)
    capsys.readouterr()
    code, answer = run(capsys, one, two, "--all")
    (found,) = answer["differences"]
    assert (code, found["what"], found["a"]) == (1, ONLY_B, [])
    commands = [each["event"].split()[2:] for each in found["b"] if "command" in each["event"]]
    assert commands[0][:2] == ["MAPD", "DeviceID=0x10"]  # the second slot, function 0
    assert all("DeviceID=0x10" in each for each in commands if each[0] != "SYNC")


def test_two_more_cpus_are_told_as_what_linux_does_with_them(tmp_path, capsys):
    two = trace_of("qemu-7.2.22-linux-6.1-one-disk.log.gz", tmp_path)
    four = trace_of("qemu-7.2.22-linux-6.1-four-cpus.log.gz", tmp_path)
    capsys.readouterr()
    code, answer = run(capsys, two, four, "--all")
    assert code == 1
    only = [
        e["event"] for each in answer["differences"] if each["what"] == ONLY_B for e in each["b"]
    ]
    for cpu in (2, 3):  # their LPI tables, their collections, a queue of the disk for each
        assert any(f"GICR_PENDBASER[{cpu}]" in event for event in only)
        assert any(f"MAPC      ICID={cpu} RDbase={cpu}" in event for event in only)
        assert any(f"MAPTI     DeviceID=0x8 EventID={cpu + 1:#x}" in event for event in only)
    (changed,) = [each for each in answer["differences"] if each["what"] == CHANGED]
    sizes = [each[1]["event"].split()[4] for each in (changed["a"], changed["b"])]
    assert sizes == ["Size=0x1", "Size=0x2"]  # more vectors want more EventID bits
