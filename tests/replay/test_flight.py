"""A ring that was written out gives the answers of the whole trace for the events that it holds."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from replay import cli
from replay.commands.flight import Flight
from replay.commands.ring_options import ring_size
from replay.engine import Engine
from replay.judge import model_of, with_flags
from replay.profiles import find
from replay.verify import verify
from tests.support.captures import ITS_INTROSPECTION, ITS_TRIGGER, TRACES, TWO_BOOTS, open_capture
from tracer.errors import UsageError
from tracer.events import make
from tracer.log.header import Header
from tracer.log.opening import open_trace
from tracer.log.ring import Ring
from tracer.log.stream import Reader, Writer

BEGIN, END = 0, 1
SCENARIOS = sorted((TRACES / "scenarios").glob("*.its.txt"))
KVM = sorted(TRACES.glob("kvm-*.ftrace.txt.gz"))
CLASSES = (
    "matched", "permitted", "learned", "assumed", "ambiguous", "not_judged", "divergent",
)  # fmt: skip


def model_for(header):
    flags = {name: value[0] for name, value in header.flags.items()}
    return model_of(header, with_flags(find(header.profile)[0], flags))


@cache
def kvm_trace(path):
    with TemporaryDirectory() as folder:
        output = Path(folder) / "t.itstrace"
        assert cli.main(["import", str(path), "-o", str(output)]) in (0, 3)
        return output.read_bytes()


def whole(name):
    """Return (header, events) of a capture or scenario."""
    if str(name).endswith(".its.txt"):
        with open_trace(str(name)) as reader:
            return reader.header, [event for _, block in reader for event in block]
    if name in KVM:
        reader = Reader(io.BytesIO(kvm_trace(name)))
    else:
        reader = open_capture(name)
    return reader.header, [event for _, block in reader for event in block]


def through_ring(tmp_path, header, events, *, size_bytes, bound_events, reasons=("end",)):
    output = str(tmp_path / "t.itstrace")
    ring = Ring(
        output, header, size_bytes=size_bytes, bound_events=bound_events, bound_ms=0,
        along=Flight.of(header, output, reasons), at_end="end" in reasons,
    )  # fmt: skip
    for event in events:
        ring.add(event)
    ring.close()
    return ring.dumps


def replayed(path, until=None):
    with open_trace(str(path)) as reader:
        engine = Engine(reader, model_for(reader.header), invariants=True)
        tally = engine.run(until)
    return engine, {name: getattr(tally, name) for name in CLASSES}


def verdicts(path):
    """Return every verdict and its components, blame apart."""
    with open_trace(str(path)) as reader:
        verifier, _ = verify(reader, model_for(reader.header))
    return [
        (each.seq, each.how, each.word, each.perturbed, each.lossy, each.observed,
         [(c.name, c.fresh, c.replayed, c.observed, c.status(strict=False)) for c in each.components])
        for each in verifier.resets
    ], verifier  # fmt: skip


def written(tmp_path, header, events):
    path = tmp_path / "whole.itstrace"
    with path.open("wb") as out:
        writer = Writer(out, header, bound_ms=0)
        for event in events:
            writer.add(event)
        writer.close()
    return path


def same_answers(tmp_path, name, size_bytes, bound_events):
    """Hold a ring's dump to the whole trace; return its first event."""
    header, events = whole(name)
    path = written(tmp_path, header, events)
    [dump] = through_ring(
        tmp_path, header, events, size_bytes=size_bytes, bound_events=bound_events
    )
    engine, all_counts = replayed(path)
    ours, counts = replayed(dump)
    first = ours.reader.header.first_seq
    before = replayed(path, until=first - 1)[1] if first else dict.fromkeys(CLASSES, 0)
    assert {each: all_counts[each] - before[each] for each in CLASSES} == counts
    assert [d.seq for d in ours.tally.divergences] == [
        d.seq for d in engine.tally.divergences if d.seq >= first
    ]
    assert ours.model.state() == engine.model.state()
    assert ours.crash == engine.crash
    assert ours.violated == [each for each in engine.violated if each[0] >= first]
    middle = (first + len(events)) // 2
    assert replayed(dump, middle)[0].model.state() == replayed(path, middle)[0].model.state()
    found = [each for each in verdicts(path)[0] if each[0] >= first]
    assert verdicts(dump)[0] == found
    return first


@pytest.mark.parametrize("size_bytes", [200, 600, 1000, 1500, 2500, 4096, 1 << 20])
@pytest.mark.parametrize("name", [TWO_BOOTS, ITS_TRIGGER, ITS_INTROSPECTION])
def test_a_capture_of_qemu_through_a_ring(tmp_path, name, size_bytes):
    first = same_answers(tmp_path, name, size_bytes, bound_events=10)
    if name == TWO_BOOTS:
        assert (first > 0) == (size_bytes < 5000), "the small rings have forgotten something"


@pytest.mark.parametrize("size_bytes", [500, 2000, 6000])
@pytest.mark.parametrize("path", KVM, ids=lambda path: path.name[:30])
def test_a_capture_of_kvm_through_a_ring(tmp_path, path, size_bytes):
    first = same_answers(tmp_path, path, size_bytes, bound_events=16)
    assert first > 0 or size_bytes > 500


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name.removesuffix(".its.txt"))
def test_a_scenario_through_the_smallest_ring(tmp_path, path):
    same_answers(tmp_path, path, 1, bound_events=1)


# -- why it is written out

READS = [
    make("reg.read", 1, offset=at, value=value, size=size, origin=2)
    for at, value, size in ((0x80, 0, 8), (0x88, 0, 8), (0x90, 0, 8))
]
STALE_READ = make("reg.read", 1, offset=0x80, value=0xB800_0000_4260_000F, origin=2)
WRITE = make("reg.write", 1, offset=0x80, value=0xB800_0000_4260_000F)
POWER, RESET = make("reset", 1, how=0), make("reset", 1, how=1)
PROBE, PROBED = make("probe", 1, edge=BEGIN), make("probe", 1, edge=END)
HEADER = Header(profile="qemu-7.2.22", cpus=1)
MSI = make("msi", 1, device_id=1, event_id=1)


def dumped(tmp_path, events, *reasons, header=HEADER, size_bytes=1 << 20):
    """Return (reason, number of the event behind it) of each dump."""
    names = through_ring(
        tmp_path, header, events, size_bytes=size_bytes, bound_events=1, reasons=reasons
    )
    found = []
    for name in names:
        with open_trace(name) as reader:
            for _ in reader:
                pass
            assert reader.status == "clean"
            found.append((reader.header.annotations["ring"], reader.next_seq))
    return found


def test_a_reset_is_written_out_when_its_probe_has_ended(tmp_path):
    life = [POWER, WRITE, RESET, PROBE, *READS, PROBED, WRITE, RESET, PROBE, PROBED, MSI]
    assert dumped(tmp_path, life, "reset") == [("reset at event 2", 8), ("reset at event 9", 12)]


def test_a_reset_without_a_probe_when_enough_of_the_next_life_was_seen(tmp_path):
    life = [POWER, WRITE, RESET, *[MSI] * 1500]
    assert dumped(tmp_path, life, "reset") == [("reset at event 2", 1003)]
    life = [POWER, WRITE, RESET, MSI, RESET, MSI, MSI]
    (tmp_path / "t-0001.itstrace").unlink()
    assert dumped(tmp_path, life, "reset")[0] == ("reset at event 2", 6), "the next one settles it"


def test_a_reset_with_nothing_behind_it_is_written_out_when_it_is_quiet(tmp_path, monkeypatch):
    monkeypatch.setattr("replay.commands.flight.QUIET_SECONDS", -1.0)
    assert dumped(tmp_path, [POWER, WRITE, RESET, MSI, MSI], "reset") == [("reset at event 2", 4)]


def test_a_stale_reset_is_written_out_and_an_equal_one_is_not(tmp_path):
    equal = [POWER, WRITE, RESET, PROBE, *READS, PROBED]
    stale = [WRITE, RESET, PROBE, STALE_READ, *READS[1:], PROBED, MSI, MSI]
    assert dumped(tmp_path, equal + stale, "stale") == [("stale at event 9", 15)]
    (tmp_path / "t-0001.itstrace").unlink()
    assert dumped(tmp_path, equal, "stale") == []
    unprobed = [POWER, WRITE, RESET, STALE_READ, MSI, MSI]
    assert dumped(tmp_path, unprobed, "stale") == [("stale at event 2", 4)]


def test_the_end_is_one_reason_among_others(tmp_path):
    life = [POWER, WRITE, RESET, PROBE, PROBED, MSI]
    assert dumped(tmp_path, life, "reset", "end") == [("reset at event 2", 5), ("end", 6)]


def test_what_nobody_knows_a_model_of_is_kept_without_a_state(tmp_path, capsys):
    life = [WRITE] * 50
    assert dumped(tmp_path, life, "end", header=Header(), size_bytes=100) == [("end", 50)]
    assert "begins without a state: nobody knows what writes this trace" in capsys.readouterr().err
    with open_trace(str(tmp_path / "t-0001.itstrace")) as reader:
        assert reader.header.first_seq > 0
        assert reader.checkpoint is None
    with pytest.raises(UsageError, match="nobody knows"):
        dumped(tmp_path, life, "stale", header=Header())


def test_a_state_that_grew_too_large_is_forgotten_and_the_next_one_is_good(
    tmp_path, capsys, monkeypatch
):
    """As if the VM had been joined there: a replay of the dump says the same as the flight."""
    grown = [
        make("mem.read", 1, cause=0, gpa=0x4000_0000 + 4096 * n, data=b"\1" * 4096)
        for n in range(8)
    ]
    life = [POWER, WRITE, *grown, *[WRITE] * 40, RESET, PROBE, *READS, PROBED]
    monkeypatch.setattr("tracer.log.format.MAX_CHECKPOINT_BYTES", 20_000)
    [name] = through_ring(tmp_path, HEADER, life, size_bytes=400, bound_events=1)
    told = capsys.readouterr().err
    assert "what was known of the VM before event" in told
    assert "is forgotten: the model's state has" in told
    with open_trace(name) as reader:
        assert reader.header.starts == "running"
        assert reader.checkpoint is not None
        assert len(reader.checkpoint) < 20_000
    engine, counts = replayed(name)
    assert counts["divergent"] == 0
    assert engine.model.joined
    [(seq, how, word, *_)], _ = verdicts(name)
    assert (seq, how, word) == (50, "system", "equal")


def test_a_model_that_cannot_be_joined_is_given_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tracer.log.format.MAX_CHECKPOINT_BYTES", 100)
    header = Header(profile="xen-4.20", cpus=1)
    assert dumped(tmp_path, [WRITE] * 50, "end", header=header, size_bytes=100) == [("end", 50)]
    assert "from here on the ring has no state to begin with" in capsys.readouterr().err
    with open_trace(str(tmp_path / "t-0001.itstrace")) as reader:
        assert reader.checkpoint is None
        assert reader.header.starts == "running"


def test_the_resets_of_years_are_not_kept(tmp_path):
    flight = Flight.of(HEADER, "t", ("reset",))
    for seq in range(0, 4000, 2):
        flight.feed(seq, [RESET, WRITE])
        assert len(flight.verifier.resets) <= 3


# -- blame


def test_blame_before_the_ring_is_said_to_lie_there(tmp_path, capsys):
    life = [POWER, WRITE, *[MSI] * 40, RESET, PROBE, STALE_READ, PROBED]
    [name] = through_ring(tmp_path, HEADER, life, size_bytes=300, bound_events=1)
    with open_trace(name) as reader:
        first = reader.header.first_seq
    assert first > 1
    assert cli.main(["verify", name]) == 1
    printed = capsys.readouterr().out
    assert "written by no event of this trace: it was there before the trace begins" in printed
    assert cli.main(["verify", "--json", name]) == 1
    [reset] = json.loads(capsys.readouterr().out)["resets"]
    [cbaser] = [each for each in reset["components"] if each["name"] == "GITS_CBASER"]
    assert (cbaser["status"], cbaser["blame"]) == ("stale", None)
    assert cbaser["planted_before_recording"] is True
    whole_path = written(tmp_path, HEADER, life)
    assert cli.main(["verify", "--json", str(whole_path)]) == 1
    [_, reset] = json.loads(capsys.readouterr().out)["resets"]
    [cbaser] = [each for each in reset["components"] if each["name"] == "GITS_CBASER"]
    assert (cbaser["status"], cbaser["blame"]) == ("stale", {"seq": 1})
    assert cbaser["planted_before_recording"] is False


# -- the command line


def run(capsys, *words):
    code = cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_import_through_a_ring(tmp_path, capsys):
    output = tmp_path / "t.itstrace"
    ring = ("--ring", "4096", "--bound-events", "20", "--bound-ms", "0")
    code, _, told = run(capsys, "import", TRACES / TWO_BOOTS, "-o", output, *ring)
    assert code == 0
    name = tmp_path / "t-0001.itstrace"
    assert f"the ring was written to {name}" in told
    assert not output.exists()
    for verb in ("check", "verify", "state", "show", "info"):
        assert run(capsys, verb, name)[0] == 0, verb
    code, answer, _ = run(capsys, "info", "--json", name)
    assert json.loads(answer)["header"]["base_digest"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dump-on", "end"), "--dump-on needs --ring SIZE"),
        (("--ring", "12"), "must be a size of at least 4096 bytes"),
        (("--ring", "64M", "-o", "-"), "--ring writes numbered files: give -o FILE"),
    ],
)
def test_options_that_mean_nothing_wrong(words, message, tmp_path, capsys):
    code, _, told = run(capsys, "import", TRACES / TWO_BOOTS, *words)
    assert code == 2
    assert message in told


def test_a_size_has_a_unit():
    assert [ring_size(text) for text in ("4096", "8k", "64M", "2G")] == [
        4096, 8192, 64 << 20, 2 << 30,
    ]  # fmt: skip


# -- an end in the middle of an input

LAST = [
    make("reg.write", 1, offset=0x80, value=0x8000_0000_4260_0000),
    make("reg.write", 1, offset=0x100, value=0x8000_0000_4300_0000),
    make("reg.write", 1, offset=0x108, value=0x8000_0000_4310_0000),
    make("reg.write", 1, offset=0, value=1, size=4),
    make("mem.write", 1, gpa=0x4260_0000, data=bytes([5, *[0] * 31]) * 2),
    make("reg.write", 1, offset=0x88, value=0x20),
    make("command", 1, cause=1, queue_offset=0, dw0=5, dw1=0, dw2=0, dw3=0),
    make("reg.write", 1, offset=0x88, value=0x40),
]


@pytest.mark.parametrize(
    ("end", "divergent"),
    [({"end": True}, 1), ({"end": False}, 0), ({"end": True, "goes_on": True}, 0)],
)
def test_outputs_that_were_not_written_any_more_are_missing_only_in_a_trace_that_has_its_end(
    end, divergent, tmp_path
):
    """The recorder was killed, or the ring written out, between an input and its outputs."""
    path = tmp_path / "t.itstrace"
    with path.open("wb") as out:
        writer = Writer(out, HEADER, bound_ms=0)
        for event in LAST:
            writer.add(event)
        if end.pop("end"):
            writer.close(**end)
        else:
            writer.abandon()
    _, counts = replayed(path)
    assert (counts["matched"], counts["divergent"]) == (1, divergent)


def test_a_dump_ends_openly_unless_it_is_the_last_one(tmp_path):
    names = through_ring(
        tmp_path, HEADER, [POWER, WRITE, RESET, PROBE, PROBED, MSI], size_bytes=1 << 20,
        bound_events=1, reasons=("reset", "end"),
    )  # fmt: skip
    ends = []
    for name in names:
        with open_trace(name) as reader:
            for _ in reader:
                pass
            ends.append((reader.status, reader.open_end))
    assert ends == [("clean", True), ("clean", False)]


def test_a_dump_as_text_has_its_state_and_the_same_answers(tmp_path, capsys):
    header, events = whole(TWO_BOOTS)
    [name] = through_ring(tmp_path, header, events, size_bytes=600, bound_events=10)
    code, text, _ = run(capsys, "show", "--text", name)
    assert code == 0
    path = tmp_path / "t.its.txt"
    path.write_text(text)
    assert run(capsys, "show", "--text", path)[1] == text
    assert replayed(path)[1] == replayed(name)[1]
    assert replayed(path)[0].model.state() == replayed(name)[0].model.state()
    for harm in ('[1, "!"]', "[]", '"x"', "7", '[99999999, "eJw="]', '[10, "eJw="]'):
        lines = [
            f"# checkpoint: {harm}" if line.startswith("# checkpoint") else line
            for line in text.splitlines()
        ]
        path.write_text("\n".join(lines))
        code, _, told = run(capsys, "check", path)
        assert code == 3, harm
        assert "checkpoint" in told


def test_a_dump_knows_no_state_before_its_first_event(tmp_path, capsys):
    header, events = whole(TWO_BOOTS)
    [name] = through_ring(tmp_path, header, events, size_bytes=600, bound_events=10)
    with open_trace(name) as reader:
        first = reader.header.first_seq
    path = written(tmp_path, header, events)
    for at in (first - 1, first, first + 20):
        code, answer, _ = run(capsys, "state", "--json", "--at", at, name)
        same = run(capsys, "state", "--json", "--at", at, path)[1]
        assert code == 0
        assert {**json.loads(answer), "notes": []} == {**json.loads(same), "notes": []}
    code, _, told = run(capsys, "state", "--at", first - 2, name)
    assert code == 2
    assert f"the first event is {first}, not {first - 2}" in told
    assert f"with event {first}, with its state then" in run(capsys, "info", name)[1]


# -- where the replay stands beside its model

MARK = make("marker", 1, text="nothing")


@pytest.mark.parametrize(
    ("profile", "life", "answer"),
    [
        (
            "qemu-7.2.22",
            [POWER, make("context", 1, overlap=1), *[MARK] * 60, STALE_READ],
            {"ambiguous": 1},
        ),
        (
            "qemu-7.2.22",
            [*LAST[:-1], *[MARK] * 60, make("mem.write", 1, gpa=0x4260_0040, data=bytes(32)),
             make("reg.write", 1, offset=0x88, value=0x60)],
            {"divergent": 2},
        ),
        (
            "linux-6.1.192",
            [POWER, PROBE, *[MARK] * 60, make("probe", 1, edge=END, lists=1)],
            {"matched": 1},
        ),
    ],
    ids=["a context that overlaps", "a kind that was seen", "a listing that began"],
)  # fmt: skip
def test_a_ring_that_begins_later_is_judged_as_if_it_had_seen(tmp_path, profile, life, answer):
    header = Header(profile=profile, cpus=1)
    [name] = through_ring(tmp_path, header, life, size_bytes=200, bound_events=1)
    engine, counts = replayed(name)
    assert engine.reader.header.first_seq > len(LAST)
    assert {key: count for key, count in counts.items() if count} == answer
