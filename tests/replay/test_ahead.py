"""What waits in front of a target: an input until its outputs are known, and not longer."""

from __future__ import annotations

from replay.targets.ahead import Group, Grouper
from tracer.events import NUMBER, make

WRITE = make("reg.write", 0, offset=0x88, value=0x20)
READ = make("reg.read", 0, offset=0x90, value=0x20)
PROBE = make("probe", 0, edge=0)
RESULT = make("attr.result", 0, cause=1, errno=0)


def grouper(*asked):
    return Grouper(frozenset(NUMBER[name] for name in asked))


def test_an_input_waits_for_its_outputs_across_frames():
    found = grouper("reg.read")
    assert found.take(0, [WRITE]) == []
    assert found.take(1, [RESULT]) == []
    assert found.take(2, [WRITE]) == [Group(0, WRITE, [RESULT])]
    assert found.rest() == [Group(2, WRITE, [])]
    assert found.rest() == []


def test_a_question_ends_the_wait_and_is_a_group_of_its_own():
    found = grouper("reg.read", "probe")
    assert found.take(0, [WRITE, READ, PROBE]) == [
        Group(0, WRITE, []), Group(1, READ, ()), Group(2, PROBE, ()),
    ]  # fmt: skip


def test_a_note_ends_the_wait_as_it_does_in_the_engine():
    found = grouper("reg.read")
    assert found.take(0, [WRITE]) == []
    assert found.take(1, [PROBE]) == [Group(0, WRITE, [])]


def test_an_output_of_another_input_belongs_to_none():
    found = grouper("reg.read")
    assert found.take(5, [make("attr.result", 0, cause=3, errno=0), WRITE]) == []
    assert found.take(7, [make("attr.result", 0, cause=2, errno=0)]) == []
    assert found.rest() == [Group(6, WRITE, [])]


def test_an_input_of_a_newer_trace_is_not_carried_out():
    found = grouper("reg.read")
    assert found.take(0, [WRITE, (50, 0, 1), READ]) == [Group(0, WRITE, []), Group(2, READ, ())]
