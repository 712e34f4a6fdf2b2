"""`export --to perfetto`: every event is drawn once, where and as long as docs/export.md says.

`tests.support.perfetto_reader` reads a trace as Perfetto's trace_processor does; that it knows
Perfetto's messages is for tests/consumers, which `make test-consumers` runs.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from replay import cli
from replay.export import perfetto, perfetto_packets, perfetto_tracks
from replay.export.protobuf import double, fixed64, message, number, text, varint
from replay.judge import judge_file
from tests.support.captures import KEXEC, TRACES
from tests.support.exported import LIVES, TEXT, export, timed, write, written
from tests.support.perfetto_reader import by_hand, read
from tests.support.traces import build, small_events, small_header
from tracer.events import KINDS, kind_name, make
from tracer.log.opening import open_trace

CAPTURES = (
    "qemu-7.2.22-linux-6.1-two-boots.timestamps.log",
    "kvm-6.1.192-boot-stop-reset-boot.stream.txt.gz",
    "kvm-6.1.192-linux-6.1-boot-save-reset.ftrace.txt.gz",
)
DRAWN_BESIDE = ("queue", "verdict")  # categories of what is no event


def seen(path):
    """Return what is seen of a file."""
    return read(by_hand(path.read_bytes()))


@pytest.fixture
def drawn(tmp_path):
    """Return a function from events to what is drawn of them."""

    def draw(events, **header):
        write(tmp_path / "a.itstrace", small_header(**header), events)
        assert export(tmp_path / "a.itstrace", "perfetto", tmp_path / "b", "--force") == 0
        return seen(tmp_path / "b")

    return draw


def check(trace, drawn):
    """Every event but `context` is one slice of its kind's category, at its time, with its values."""
    with open_trace(str(trace)) as reader:
        events = [event for _, frame in reader for event in frame]
        timed_by_clock = reader.header.clock != "none"
    slices = {each.args["seq"]: each for each in drawn.slices if each.category not in DRAWN_BESIDE}
    beside = [each for each in drawn.slices if each.category in DRAWN_BESIDE]
    assert len(slices) + len(beside) == len(drawn.slices)
    wanted = [each for each in timed(events) if kind_name(each[2][0]) != "context"]
    assert sorted(slices) == [seq for seq, _, _ in wanted]
    for seq, time_ns, event in wanted:
        each = slices[seq]
        assert each.category == (kind_name(event[0]) if event[0] in KINDS else "unknown")
        if each.category not in ("command", "vcpu", "probe"):  # which wait for the one before them
            at = time_ns if timed_by_clock else seq * 1000
            assert each.ts == max(0, min(at, 2**63 - 1))
        assert each.dur is not None or each.category in ("vcpu", "probe")
    return slices


@pytest.mark.parametrize("name", CAPTURES)
def test_every_event_of_a_capture_is_drawn_once(name, tmp_path):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    assert cli.main(["import", str(TRACES / name), "-o", str(trace)]) == 0
    assert export(trace, "perfetto", made) == 0
    slices = check(trace, seen(made))
    judged = judge_file(str(trace)).verifier.resets
    assert judged
    for reset in judged:
        assert slices[reset.seq].name == f"{reset.how}: {reset.word}"
        assert slices[reset.seq].args["verdict"] == reset.word


def test_what_is_judged_and_is_no_reset_is_drawn_beside_them(tmp_path):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    assert cli.main(["import", str(TRACES / KEXEC), "-o", str(trace)]) == 0
    assert export(trace, "perfetto", made) == 0
    judged = [each for each in judge_file(str(trace)).verifier.resets if each.how == "reinit"]
    shown = seen(made)
    drawn = {each.args["seq"]: each for each in of(shown, "verdict")}
    assert {seq: each.name for seq, each in drawn.items()} == {
        each.seq: f"reinit: {each.word}" for each in judged
    }
    assert judged
    by_seq = {each.args["seq"]: each for each in shown.slices if each.category not in DRAWN_BESIDE}
    assert all(
        each.track.endswith("/resets") and by_seq[seq].ts == each.ts for seq, each in drawn.items()
    )


@pytest.mark.parametrize("bound_events", [1, 10_000])
def test_a_round_trip_is_judged_where_it_ends_however_long_the_life_is(bound_events, tmp_path):
    scenario = TRACES / "scenarios" / "S06-K17-F3-as-5.10-answered.its.txt"
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    with open_trace(str(scenario)) as reader:
        events = [event for _, frame in reader for event in frame]
        events += [make("context", 1)] * 2 * perfetto.MAX_RECENT
        write(trace, reader.header, events, bound_events=bound_events)
    assert export(trace, "perfetto", made) == 0
    trips = judge_file(str(trace)).verifier.round_trips
    drawn = [each for each in of(seen(made), "verdict") if "round trip" in each.name]
    assert [(each.args["seq"], each.name) for each in drawn] == [
        (trip.seq, f"round trip: {trip.word}") for trip in trips
    ]
    assert trips


@pytest.mark.parametrize("life", LIVES)
def test_the_hardest_values_are_drawn(life, tmp_path):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    written(trace, life)
    assert export(trace, "perfetto", made) == 0
    slices = check(trace, seen(made))
    assert "secret" not in repr(slices)
    assert b"secret" not in made.read_bytes()


def of(shown, category):
    return [each for each in shown.slices if each.category == category]


def test_an_msi_lasts_until_its_result_and_an_arrow_leads_to_its_lpi(drawn):
    shown = drawn([
        make("msi", 10, device_id=8, event_id=3, path=1),
        make("lpi", 5, cause=1, intid=8192, cpu=1),
        make("msi.result", 5, cause=2, result=1),
        make("msi", 10, device_id=8, event_id=3),
    ])  # fmt: skip
    first, second = of(shown, "msi")
    assert (first.ts, first.dur, first.args["result"]) == (10, 10, 1)
    assert (second.ts, second.dur) == (30, 0)
    (lpi,) = of(shown, "lpi")
    assert shown.arrows == [(first, lpi)]
    assert lpi.track.endswith("/LPIs of CPU 1")


def test_a_result_is_drawn_where_its_msi_is(drawn):
    shown = drawn([
        make("msi", 1, device_id=8, event_id=0), make("msi", 1, device_id=9, event_id=0),
        make("msi.result", 1, cause=2, result=1), make("msi.result", 1, cause=2, result=0),
        make("msi.result", 1, cause=0, result=1),
    ])  # fmt: skip
    tracks = [each.track.rpartition("/")[2] for each in of(shown, "msi.result")]
    assert tracks == ["MSIs of device 0x8", "MSIs of device 0x9", "MSIs of no known device"]
    assert len(shown.tracks) == 6


def test_commands_last_from_one_to_the_next_within_what_was_queued(drawn):
    at = {"queue_offset": 0, "dw1": 0, "dw2": 0, "dw3": 0}
    shown = drawn([
        make("reg.write", 10, offset=0x88, value=0x40),
        make("command", 5, cause=1, dw0=8 << 32 | 0xC, **at),
        make("command", 5, cause=2, dw0=5, **at),
        make("command.done", 3, cause=3, creadr=0x40),
        make("reg.write", 10, offset=0x88, value=0x60),
        make("command", 1, cause=1, dw0=5, **at),
        make("table.read", 4, cause=2, table=0, index=0, base=0, valid=0),
        make("reg.write", 12, offset=0x88, value=0x80),
        make("command", 0, cause=1, dw0=5, **at),
    ])  # fmt: skip
    assert [(each.ts, each.dur) for each in of(shown, "queue")] == [(10, 13), (33, 5), (50, 0)]
    assert [(each.name, each.ts, each.dur, each.args["waited_ns"]) for each in of(shown, "command")] == [
        ("INV", 15, 5, 5), ("SYNC", 20, 3, 10), ("SYNC", 34, 4, 1), ("SYNC", 50, 0, 0)
    ]  # fmt: skip
    assert {each.depth for each in of(shown, "command")} == {1}


def test_attributes_last_until_their_errno_also_where_another_came_between(drawn):
    shown = drawn([
        make("save", 10), make("attr.set", 1, device=0, group=4, attr=9), make("attr.result", 4, cause=1, errno=0),
        make("attr.result", 5, cause=3, errno=-14), make("restore", 1),
    ])  # fmt: skip
    (save,), (attr,), (restore,) = of(shown, "save"), of(shown, "attr.set"), of(shown, "restore")
    assert (attr.ts, attr.dur, attr.args["errno"]) == (11, 4, 0)
    # It would have to end within the other: it is an instant, and its answer is kept.
    assert (save.ts, save.dur, save.args["errno"]) == (10, 0, -14)
    assert (restore.dur, "errno" in restore.args) == (0, False)


def test_a_register_is_a_counter_once_all_of_it_is_known(drawn):
    shown = drawn([
        make("reg.write", 1, offset=0x100, value=0x1234, size=4),
        make("reg.write", 1, offset=0x104, value=0x80000000, size=4),
        make("reg.read", 1, offset=0x100, value=0x80000000_00001234),
        make("reg.write", 1, offset=0x88, value=0x20, bad=1),
        make("reg.read", 1, offset=0x90, value=0x20),
        make("reset", 1, how=1),
        make("reg.read", 1, offset=0x90, value=0x20),
        make("reg.read", 1, offset=0x8, value=5),
    ])  # fmt: skip
    counters = {track.rpartition("/")[2]: values for track, values in shown.counters.items()}
    assert counters == {
        "GITS_BASER0": [(2, float(0x80000000_00001234))],
        "GITS_CREADR": [(5, 0x20), (7, 0x20)],
    }


def test_who_did_it_says_on_which_track_it_is(drawn):
    write_ctlr = {"offset": 0, "value": 1, "size": 4}
    shown = drawn([
        make("reg.write", 1, **write_ctlr), make("context", 1, cpu=2, thread=7, its=1),
        make("reg.write", 1, **write_ctlr), make("reg.write", 1, origin=1, **write_ctlr),
        make("reg.read", 1, origin=2, **write_ctlr), make("vcpu", 1, cpu=2, action=0),
        make("vcpu", 5, cpu=2, action=1), make("probe", 1, edge=0), make("probe", 2, edge=1),
    ])  # fmt: skip
    tracks = [each.track.partition("/")[2] for each in shown.slices]
    assert tracks == ["guest", "CPU 2", "VMM", "probe", "vCPU 2", "vCPU 2", "probe", "probe"]
    assert [each.dur for each in of(shown, "vcpu")] == [5, 0]
    assert [each.dur for each in of(shown, "probe")] == [2, 0]
    assert any(track.endswith("/ITS 1/registers/GITS_CTLR") for track in shown.counters)


def test_a_trace_without_a_clock_is_drawn_by_its_sequence_and_says_so(drawn):
    shown = drawn([make("save", 0)] * 3, clock="none")
    assert [each.ts for each in shown.slices] == [0, 1000, 2000]
    assert "no times: an event a microsecond" in next(iter(shown.tracks))
    assert not shown.wall_clock


def test_times_of_the_wall_clock_are_told_as_such(drawn):
    assert drawn([make("save", 1_700_000_000_000_000_000)], clock="realtime").wall_clock
    assert not drawn([make("save", 17)], clock="mono").wall_clock


def test_foreign_text_is_shown_as_what_it_is(drawn):
    shown = drawn([make("marker", 0, text=TEXT), make("loss", 0, reason=TEXT, count=3)])
    for each in shown.slices:
        assert (each.name + each.args.get("text", "") + each.args.get("reason", "")).isprintable()
        assert (each.name + each.args.get("text", "")).isascii()
    assert of(shown, "loss")[0].args["count"] == 3


def test_names_tracks_and_what_waits_are_bounded(drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(perfetto_packets, "MAX_NAMES", 5)
    monkeypatch.setattr(perfetto_tracks, "MAX_TRACKS", 8)
    monkeypatch.setattr(perfetto, "MAX_HELD", 2)
    monkeypatch.setattr(perfetto, "MAX_RECENT", 2)
    events = [make("msi", 1, device_id=at, event_id=at) for at in range(20)]
    shown = drawn([*events, make("msi.result", 1, cause=20, result=1), make("reset", 1, how=1)])
    assert Counter(each.category for each in shown.slices) == {
        "msi": 20,
        "msi.result": 1,
        "reset": 1,
    }
    assert [each.name for each in of(shown, "msi")] == [f"MSI {at:#x}" for at in range(20)]
    assert len(shown.tracks) == 9
    told = by_hand((tmp_path / "b").read_bytes())["packet"]
    assert sum(len(each.get("interned_data", {}).get("event_names", ())) for each in told) == 5
    assert all(each.dur == 0 for each in of(shown, "msi"))


def test_what_kills_the_host_is_drawn_and_nothing_behind_it_is_judged(tmp_path):
    scenario = TRACES / "scenarios" / "S09-K23-F4-save-after-mapc-unmap.its.txt"
    with open_trace(str(scenario)) as reader:
        events = [event for _, frame in reader for event in frame]
        reader.header.profile, reader.header.flags = "linux-5.10.223", {}
        write(tmp_path / "a.itstrace", reader.header, [*events, make("reset", 9, how=2)])
    assert export(tmp_path / "a.itstrace", "perfetto", tmp_path / "b") == 0
    seq, function = judge_file(str(tmp_path / "a.itstrace")).engine.crash
    shown = seen(tmp_path / "b")
    assert [(each.args["seq"], each.name) for each in of(shown, "verdict")] == [
        (seq, f"crash: {function}")
    ]
    assert "could not be replayed" in of(shown, "reset")[-1].args["verdict"]


def test_of_a_damaged_trace_is_judged_what_verify_judges(tmp_path, capsys):
    path = tmp_path / "a.itstrace"
    data = bytearray(build(small_events() * 8, codec="zstd", bound_events=4))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert export(path, "perfetto", tmp_path / "b") == 3
    verdicts = [each.args["verdict"] for each in of(seen(tmp_path / "b"), "reset")]
    capsys.readouterr()
    cli.main(["verify", str(path), "--json"])
    judged = [each["verdict"] for each in json.loads(capsys.readouterr().out)["resets"]]
    assert 0 < len(judged) < len(verdicts)
    assert verdicts[: len(judged)] == judged
    assert all("could not be replayed" in each for each in verdicts[len(judged) :])


def test_a_verdict_says_how_much_was_observed_and_what_stands_against_it(drawn):
    shown = drawn([*small_events(), make("loss", 0, reason="", count=1)])
    resets = of(shown, "reset")
    assert [each.name for each in resets] == ["power_on: unproven", "system: equal"]
    assert resets[1].args["observed"].startswith("1 of ")
    assert resets[1].args["caveats"] == "lossy"
    assert "caveats" not in resets[0].args


def test_a_trace_that_cannot_be_judged_says_why_at_its_resets(drawn):
    (reset,) = of(drawn([make("reset", 1, how=1)], profile=None), "reset")
    assert (reset.name, reset.args["verdict"]) == ("system", "the trace does not say what wrote it")


def test_a_trace_goes_to_standard_output(tmp_path, capfdbinary):
    written(tmp_path / "a.itstrace", "small")
    assert export(tmp_path / "a.itstrace", "perfetto", "-") == 0
    assert export(tmp_path / "a.itstrace", "perfetto", tmp_path / "b") == 0
    assert capfdbinary.readouterr().out == (tmp_path / "b").read_bytes()


def test_nothing_of_the_recorders_machine_is_told(tmp_path):
    written(tmp_path / "a.itstrace", "small", annotations={"note": "secret"})
    assert export(tmp_path / "a.itstrace", "perfetto", tmp_path / "b") == 0
    data = (tmp_path / "b").read_bytes()
    assert b"secret" not in data
    assert b"qemu-tcg 7.2.22" in data


def test_fields_are_as_the_wire_format_has_them():
    # From the examples of the format's own description.
    assert varint(150) == b"\x96\x01"
    assert number(1, 150) == b"\x08\x96\x01"
    assert text(2, "testing") == b"\x12\x07testing"
    assert message(3, number(1, 150)) == b"\x1a\x03\x08\x96\x01"
    assert number(1, -2) == b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    assert fixed64(1, 2**64 - 1) == b"\x09" + b"\xff" * 8
    assert double(1, 1.0) == b"\x09\x00\x00\x00\x00\x00\x00\xf0\x3f"
    assert varint(2**64 - 1) == b"\xff" * 9 + b"\x01"
