"""`export --to perfetto`, read back with the descriptors that Perfetto publishes.

Its trace_processor is fetched by its package from elsewhere, so that it cannot be a part of a test.
"""

from __future__ import annotations

import pytest

from replay import cli
from tests.support.captures import KEXEC, TRACES
from tests.support.consumers import needs_consumers
from tests.support.exported import LIVES, export, written
from tests.support.perfetto_reader import by_descriptors, by_hand, read

pytestmark = needs_consumers
CAPTURES = (
    "qemu-7.2.22-linux-6.1-two-boots.timestamps.log",
    "kvm-6.1.192-boot-stop-reset-boot.stream.txt.gz",
    KEXEC,
)


@pytest.mark.parametrize("source", [*CAPTURES, *LIVES])
def test_perfetto_reads_what_tests_of_the_form_read_by_hand(source, tmp_path):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    if source in LIVES:
        written(trace, source)
    else:
        assert cli.main(["import", str(TRACES / source), "-o", str(trace)]) == 0
    assert export(trace, "perfetto", made) == 0
    found = by_descriptors(made.read_bytes())
    assert found == by_hand(made.read_bytes())
    assert read(found).slices


def test_words_are_those_of_perfetto():
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

    from replay.export import perfetto_packets as p

    event, packet = pb.TrackEvent, pb.TracePacket
    assert (p.BEGIN, p.END) == (event.TYPE_SLICE_BEGIN, event.TYPE_SLICE_END)
    assert (p.INSTANT, p.COUNTER) == (event.TYPE_INSTANT, event.TYPE_COUNTER)
    assert p.CLEARED == packet.SEQ_INCREMENTAL_STATE_CLEARED
    assert p.NEEDED == packet.SEQ_NEEDS_INCREMENTAL_STATE
    assert (p.REALTIME, p.BOOTTIME) == (pb.BUILTIN_CLOCK_REALTIME, pb.BUILTIN_CLOCK_BOOTTIME)
    assert p.EXPLICIT == pb.TrackDescriptor.EXPLICIT
