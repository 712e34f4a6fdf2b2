"""A report's blocks, read by a second reader: every state, every line, and what the file may do."""

from __future__ import annotations

import pytest

from replay import cli
from replay.decode import describe
from tests.support.captures import PROBED, TRACES, TWO_BOOTS, TWO_BOOTS_TIMED, trace_bytes
from tests.support.linear import passed
from tests.support.report_page import blocks_of, document, lines, states
from tracer.log.opening import open_trace

SCENARIOS = (
    "F1-lpi-outlives-ctrl-reset.its.txt",
    "S09-K23-F4-save-after-mapc-unmap.its.txt",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function from a capture's or scenario's name to (trace, page)."""
    folder = tmp_path_factory.mktemp("reports")
    pages = {}

    def make(name):
        if name not in pages:
            path = TRACES / "scenarios" / name if name in SCENARIOS else folder / f"{name}.itstrace"
            if name in (TWO_BOOTS, TWO_BOOTS_TIMED):
                path.write_bytes(trace_bytes(name))
            elif name not in SCENARIOS:
                path.write_bytes((TRACES / name).read_bytes())
            out = folder / f"{name}.html"
            assert cli.main(["report", str(path), "-o", str(out)]) == 0
            pages[name] = path, out.read_bytes()
        return pages[name]

    return make


def shortened(event):
    """Return a line of `show`, of long data only the beginning."""
    short = tuple(each[:64] if isinstance(each, bytes) else each for each in event)
    sizes = [len(each) for each in event if isinstance(each, bytes) and len(each) > 64]
    return describe(short) + "".join(f"... ({size} in all)" for size in sizes)


@pytest.mark.parametrize("name", [TWO_BOOTS, PROBED, *SCENARIOS])
def test_checkpoints_and_changes_give_every_state(made, name):
    path, page = made(name)
    blocks = blocks_of(page)
    head = document(blocks["head"])
    found = states(blocks)
    last = head["first_seq"] - 1
    seen = 0
    for seq, model in passed(str(path), range(head["first_seq"], head["states_until"] + 1)):
        last = seq if seq in found else last
        assert found[last] == model.state(), seq
        seen += 1
    crashed = head["crash"] is not None
    assert seen == head["states_until"] - head["first_seq"] + 1 - crashed


@pytest.mark.parametrize("name", [TWO_BOOTS_TIMED, PROBED, *SCENARIOS])
def test_every_event_reads_as_show_has_it(made, name):
    path, page = made(name)
    with open_trace(str(path)) as reader:
        events = [event for _, frame in reader for event in frame]
    told = []
    time_ns = 0
    for event in events:
        time_ns += event[1]
        told.append((time_ns, shortened(event)))
    assert lines(blocks_of(page)) == told
    assert len(told) > 10
