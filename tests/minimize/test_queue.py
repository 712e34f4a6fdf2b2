"""The queue taken apart and laid again."""

from __future__ import annotations

import pytest

from replay.corpus import trace_name
from replay.minimize.items import COMMAND, KICK, Item, command, kick
from replay.minimize.oracle import Candidate
from replay.minimize.queue import lay, lift
from replay.minimize.script import Script, count_inputs, lift as lift_script, lower
from tests.support.planted import read
from tests.support.scenarios import paths
from tracer import events as ev
from tracer.events import make
from tracer.log.header import Header

QUEUE = 0x4030_0000
VALID = 1 << 63
MAPC = (9, 0, VALID, 0)
INV = (0xC, 1, 0, 0)


def cbaser(base=QUEUE, pages=1):
    return make("reg.write", 0, offset=0x80, value=VALID | base | pages - 1, origin=ev.VMM)


def stored(at, *words):
    data = b"".join(word.to_bytes(8, "little") for word in words)
    return make("mem.write", 0, gpa=QUEUE + at, data=data)


def cwriter(value, **fields):
    return make("reg.write", 0, offset=0x88, value=value, origin=ev.VMM, **fields)


def lifted(*events):
    return [item.event for item in lift([Item(event) for event in events])]


def laid(*events):
    return [item.event for item in lay([Item(event) for event in events])]


@pytest.mark.parametrize("path", paths(), ids=trace_name)
def test_a_scenario_taken_apart_is_laid_as_it_was(path):
    events = lower(lift_script(read(path), outputs=True)).events
    assert events == lower(lift_script(read(path), outputs=True, commands=False)).events


def test_a_command_that_nobody_wrote_is_passed_and_not_written():
    events = (cbaser(), stored(32, *MAPC), cwriter(64))
    assert lifted(*events)[1:3] == [command(0, 0, 0, 0), command(*MAPC)]
    assert laid(*lifted(*events)) == list(events)


def test_commands_are_what_cwriter_passes():
    events = (cbaser(), stored(0, *MAPC), stored(32, *INV), cwriter(64))
    assert lifted(*events) == [cbaser(), command(*MAPC), command(*INV), kick(8, ev.VMM)]
    assert laid(*lifted(*events)) == list(events)


def test_what_is_left_is_laid_densely_and_one_kick_does_for_two():
    apart = lifted(
        cbaser(), stored(0, *MAPC), cwriter(32), stored(32, *INV), cwriter(64), stored(64, *INV),
        cwriter(96),
    )  # fmt: skip
    assert [event[0] for event in apart] == [1, COMMAND, KICK, COMMAND, KICK, COMMAND, KICK]
    left = [apart[0], *apart[3:4], *apart[5:]]
    assert laid(*left) == [cbaser(), stored(0, *INV), stored(32, *INV), cwriter(64)]


def test_a_command_that_is_in_ram_already_is_written_again():
    """CBASER begins at 0 anew: the device runs what still stands there."""
    events = (cbaser(), stored(0, *MAPC), cwriter(32), cbaser(), cwriter(32))
    again = [cbaser(), stored(0, *MAPC), cwriter(32)]
    assert laid(*lifted(*events)) == again + again


def test_the_queue_wraps():
    inside = [stored(at, *INV) for at in range(0, 4096, 32)]
    events = (
        cbaser(), *inside[:-1], cwriter(4064), inside[-1], stored(0, *MAPC), cwriter(32),
    )  # fmt: skip
    assert laid(*lifted(*events)) == list(events)
    assert lifted(*events)[-2] == command(*MAPC)


def test_commands_written_by_halves_are_whole():
    half, rest = stored(0, *MAPC[:2]), stored(16, *MAPC[2:])
    assert lifted(cbaser(), half, rest, cwriter(32))[1] == command(*MAPC)


@pytest.mark.parametrize(
    "event",
    [cwriter(4096), cwriter(3), cwriter(1 << 40), cwriter(32, bad=1)],
    ids=["outside", "reserved", "upper", "bad"],
)
def test_a_write_that_submits_nothing_stays(event):
    assert lifted(cbaser(), event) == [cbaser(), event]


def test_without_a_queue_nothing_is_taken_apart():
    assert lifted(stored(0, *MAPC), cwriter(32)) == [stored(0, *MAPC), cwriter(32)]
    off = make("reg.write", 0, offset=0x80, value=QUEUE, origin=ev.VMM)
    assert lifted(off, cwriter(32)) == [off, cwriter(32)]
    assert laid(command(*MAPC), kick(8, 1)) == [cwriter(0)]


def test_cbaser_by_halves_and_while_enabled():
    low = make("reg.write", 0, offset=0x80, value=QUEUE & 0xFFFF_FFFF, size=4)
    high = make("reg.write", 0, offset=0x84, value=VALID >> 32, size=4)
    assert lifted(low, high, stored(0, *MAPC), cwriter(32))[2] == command(*MAPC)
    on = make("reg.write", 0, offset=0, value=1, origin=ev.VMM)
    ignored = cbaser(base=0x4070_0000)
    assert lifted(cbaser(), on, ignored, stored(0, *MAPC), cwriter(32))[3] == command(*MAPC)


def test_creadr_of_a_restore_says_where_the_next_one_goes():
    creadr = make("reg.write", 0, offset=0x90, value=0x40, origin=ev.VMM)
    events = (cbaser(), creadr, cwriter(0x40), stored(0x40, *MAPC), cwriter(0x60))
    assert lifted(*events) == [
        cbaser(), creadr, kick(8, 1), command(*MAPC), kick(8, 1),
    ]  # fmt: skip
    assert laid(*lifted(*events)) == list(events)


def test_inputs_are_counted_without_ram_and_reads():
    events = (
        cbaser(), stored(0, *MAPC), stored(32, *INV), cwriter(64),
        make("mem.write", 0, gpa=0x4040_0000, data=bytes(8)),
        make("reg.read", 0, offset=0, value=1),
        make("msi", 0, device_id=1, event_id=0),
    )  # fmt: skip
    assert count_inputs(Candidate(Header(), events)) == 5  # CBASER, 2 commands, CWRITER, the MSI


def test_outputs_go_with_their_input_and_name_it_where_it_then_is():
    events = (
        make("reg.write", 0, offset=0, value=0),
        make("msi", 7, device_id=1, event_id=0),
        make("msi.result", 9, cause=1, result=1),
        make("reg.read", 0, offset=0, value=1),
        make("msi.result", 0, cause=2, result=0),  # not of what stands right before it
    )
    script = lift_script(Candidate(Header(), events), outputs=True)
    assert [len(item.outputs) for item in script.items] == [0, 1, 0]
    assert lower(Script(script.header, script.items[1:])).events == (
        make("msi", 0, device_id=1, event_id=0),
        make("msi.result", 0, cause=1, result=1),
        make("reg.read", 0, offset=0, value=1),
    )
