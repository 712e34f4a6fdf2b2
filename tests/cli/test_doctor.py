"""What doctor says of a file, what recover writes, and the codes that scripts go by."""

from __future__ import annotations

import gzip
import io
import json
import struct
from dataclasses import replace

import msgpack
import pytest

from replay import cli
from tests.support.compiled import pure_only
from tests.support.traces import (
    EVENTS,
    PREAMBLE,
    Frame,
    build,
    forge,
    header_frame,
    link,
    packed,
    read,
    small_events,
    small_header,
    split,
)
from tracer.events import make
from tracer.log.stream import Writer

GOOD = build()
FRAMES = split(GOOD)


def holed():
    data = bytearray(GOOD)
    data[FRAMES[2].start + 50] ^= 1
    return bytes(data)


def newer(data):
    """Return a trace of version 2, as a writer of that version would chain it."""
    return forge_with(struct.pack("<8sI", PREAMBLE[:8], 2), split(data))


def forge_with(preamble, frames):
    out, chain = preamble, link(b"", preamble)
    for frame in frames:
        packed_frame = replace(frame, chain=chain).pack()
        out, chain = out + packed_frame, link(chain, packed_frame)
    return out


STATES = {
    "clean": (GOOD, 0, []),
    "cut": (build(end=False), 0, ["gives it an end"]),
    "damaged": (holed(), 3, ["saves what can be read"]),
    "lossy": (build([make("loss", 0, reason="full", count=7)]), 3, ["in 1 places, 7 events"]),
    "newer": (newer(GOOD), 4, ["version    2", "use a newer itstrace"]),
    "not a trace": (b"PK\x03\x04" + bytes(5000), 3, ["itstrace import"]),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_its_word_and_code(tmp_path, capsys, state):
    data, code, says = STATES[state]
    path = tmp_path / "t.itstrace"
    path.write_bytes(data)
    assert cli.main(["doctor", str(path)]) == code
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: {state}\n")
    assert all(each in out for each in says)
    assert cli.main(["doctor", str(path), "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["state"]) == ("itstrace.doctor/1", state)
    assert bool(answer["do"]) == (state != "clean")
    assert answer["size_bytes"] == len(data)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("t.itstrace", b"", "it is empty"),
        ("t.its.txt", b"", "it is empty"),
        ("t.itstrace", gzip.compress(GOOD), "`gunzip`"),
        ("t.itstrace", b"\xfd7zXZ\x00", "`unxz`"),
    ],
)
def test_what_is_empty_or_compressed_is_no_log_of_another_tool(tmp_path, capsys, name, data, says):
    path = tmp_path / name
    path.write_bytes(data)
    assert cli.main(["doctor", str(path)]) == 3
    (way_out,) = (line for line in capsys.readouterr().out.splitlines() if "to do" in line)
    assert says in way_out
    assert "import" not in way_out


def test_inputs_of_a_newer_itstrace_are_newer(tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    path.write_bytes(forge([header_frame(), Frame(EVENTS, packed((40, 0), (40, 0), (100, 0)))]))
    assert cli.main(["doctor", str(path)]) == 4
    assert "2 inputs of an unknown kind: kind.40" in capsys.readouterr().out


def test_a_flipped_version_is_damage_and_not_a_newer_trace(tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    for at in range(8, 12):
        for bit in range(8):
            data = bytearray(GOOD)
            data[at] ^= 1 << bit
            path.write_bytes(data)
            assert cli.main(["doctor", str(path)]) == 3
            assert ": damaged" in capsys.readouterr().out
            output = tmp_path / "saved.itstrace"
            assert cli.main(["recover", str(path), "-o", str(output), "--force"]) == 0
            assert read(output.read_bytes()).events == read(GOOD).events


def test_where_it_is_damaged_and_what_is_gone(tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    path.write_bytes(holed())
    assert cli.main(["doctor", str(path), "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    start, end = FRAMES[2].start, FRAMES[2].end
    what = "the payload of this frame is damaged"
    assert answer["damage"] == [{"start": start, "end": end, "what": what}]
    assert answer["holes"] == [{"first": 9, "last": 17, "bytes": [start, end]}]
    assert answer["events"] == 16


def test_recover_says_what_is_lost_and_where_the_rest_is_now(tmp_path, capsys):
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    path.write_bytes(holed())
    assert cli.main(["recover", str(path), "-o", str(output), "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["lost"] == ["events 9 to 17"]
    assert answer["renumbered"] == [{"first": 18, "last": 24, "now": 10}]
    assert answer["times_behind_a_hole"] == "as recorded"
    outcome = read(output.read_bytes())
    events = [event for _, event in outcome.events]
    assert events[:9] == small_events()[:9]
    assert events[9][0] == 128
    assert events[9][3] == 9
    # the lpi's msi, event 18, is the last of what is left: its cause is as it was
    assert [event[2:] for event in events[10:]] == [event[2:] for event in small_events()[18:]]
    assert cli.main(["doctor", str(output)]) == 3
    assert ": lossy" in capsys.readouterr().out
    assert outcome.header.parent_uuid == small_header().uuid


def test_a_cut_file_gets_an_end_that_says_that_it_went_on(tmp_path, capsys):
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    path.write_bytes(build(end=False))
    assert cli.main(["recover", str(path), "-o", str(output)]) == 0
    assert read(output.read_bytes()).events == read(GOOD).events
    assert b"goes_on" in output.read_bytes()
    path.write_bytes(GOOD[: FRAMES[3].end - 1])
    assert cli.main(["recover", str(path), "-o", str(output), "--force"]) == 3
    assert "lost       the last frame, which is cut off" in capsys.readouterr().out


def test_damage_that_cost_no_event_is_mended(tmp_path, capsys):
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    for frame in FRAMES[4:]:  # the index and the end
        for at in range(frame.start, frame.end):
            data = bytearray(GOOD)
            data[at] ^= 0x20
            path.write_bytes(data)
            code = cli.main(["recover", str(path), "-o", str(output), "--force"])
            # With the index' head gone too nobody knows what stood there, but the end counts.
            assert code == 0, (frame.kind, at)
            assert read(output.read_bytes()).events == read(GOOD).events


def test_without_its_header_a_trace_says_that_it_is_not_from_the_start(tmp_path, capsys):
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    path.write_bytes(GOOD[: FRAMES[0].start] + bytes(50) + GOOD[FRAMES[0].start + 50 :])
    assert cli.main(["recover", str(path), "-o", str(output)]) == 3
    assert "lost       the header" in capsys.readouterr().out
    outcome = read(output.read_bytes())
    assert outcome.header.starts == "running"
    assert outcome.header.profile is None
    assert [event for _, event in outcome.events[1:]] == small_events()


@pytest.mark.parametrize("part", [0, 1])
def test_without_its_state_a_trace_is_one_of_a_running_vm(tmp_path, capsys, part):
    out = io.BytesIO()
    state = bytes(range(256)) * 6000
    writer = Writer(out, small_header(first_seq=9), checkpoint=state, bound_ms=0)
    for event in small_events()[9:]:
        writer.add(event)
    writer.close()
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    path.write_bytes(out.getvalue())
    assert cli.main(["recover", str(path), "-o", str(output)]) == 0
    assert read(output.read_bytes()).header.base_digest
    data = bytearray(out.getvalue())
    data[split(out.getvalue())[1 + part].start + 60] ^= 1
    path.write_bytes(data)
    assert cli.main(["recover", str(path), "-o", str(output), "--force"]) == 3
    assert "lost       the state before the first event" in capsys.readouterr().out
    header = read(output.read_bytes()).header
    assert (header.base_digest, header.starts, header.first_seq) == (None, "running", 9)


def test_a_trace_put_behind_another_is_not_mixed_into_it(tmp_path, capsys):
    other = build([make("marker", 0, text=str(at)) for at in range(60)], small_header(uuid="o"))
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    path.write_bytes(holed() + other)
    assert cli.main(["doctor", str(path)]) == 3
    out = capsys.readouterr().out
    assert f"bytes {len(GOOD):#x} to {len(GOOD + other):#x}: another trace begins here" in out
    assert cli.main(["recover", str(path), "-o", str(output)]) == 3
    events = [event for _, event in read(output.read_bytes()).events]
    assert make("marker", 0, text="9") not in events
    assert len(events) == 16 + 1


def test_a_frame_in_a_damaged_payload_is_the_guests(tmp_path):
    forged = Frame(EVENTS, packed((12, 0), first_seq=9)).pack()
    events = small_events()
    events[9] = make("mem.write", 0, gpa=0, data=bytes(40) + forged + bytes(40))
    data = bytearray(build(events))
    data[split(bytes(data))[2].start + 50] ^= 1
    assert forged in bytes(data)
    outcome = read(bytes(data))
    assert [seq for seq, _ in outcome.events] == [*range(9), *range(18, 25)]
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    path.write_bytes(data)
    assert cli.main(["recover", str(path), "-o", str(output)]) == 3
    assert (12, 0) not in [event for _, event in read(output.read_bytes()).events]


@pure_only
def test_recover_reads_again_what_it_wrote(tmp_path, capsys, monkeypatch):
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    path.write_bytes(GOOD)
    real = Writer.add

    def forgetful(self, event):
        if event[0] != 129:
            real(self, event)

    monkeypatch.setattr(Writer, "add", forgetful)
    assert cli.main(["recover", str(path), "-o", str(output)]) == 3
    assert "this is not what was written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "code"), [(b"no trace", 3), (newer(GOOD), 4), (GOOD[:40], 3), (PREAMBLE, 3)]
)
def test_what_cannot_be_saved_wrong(tmp_path, capsys, data, code):
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    path.write_bytes(data)
    assert cli.main(["recover", str(path), "-o", str(output)]) == code
    assert not output.exists()


def test_the_damaged_file_is_never_overwritten_wrong(tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    path.write_bytes(holed())
    assert cli.main(["recover", str(path), "-o", str(path), "--force"]) == 2
    assert path.read_bytes() == holed()


def test_the_text_form_and_folders(tmp_path, capsys):
    (tmp_path / "a.its.txt").write_text("# itstrace: 1\n0 +0 save\n1 +0 reg.reed offset=0x0\n")
    (tmp_path / "b.itstrace").write_bytes(GOOD)
    (tmp_path / "c.its.txt").write_text("# itstrace: 9\n0 +0 save\n")
    (tmp_path / "notes.md").write_text("no trace")
    assert cli.main(["doctor", str(tmp_path)]) == 3
    out = capsys.readouterr().out
    assert "a.its.txt:3: there is no kind of event called 'reg.reed'" in out
    assert "mend that line in an editor" in out
    assert "b.itstrace: clean" in out
    assert "c.its.txt: newer" in out
    assert "notes" not in out
    assert cli.main(["doctor", str(tmp_path / "c.its.txt")]) == 4


def test_scrub_takes_the_names_of_the_house_out(tmp_path, capsys):
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    header = small_header(
        command_line=["qemu", "-drive", "file=/home/ann/secret.img"], host="build-7",
        annotations={"note": "ann's machine", "gicd": "0x8000000", "ring": "end"},
        extra={"site": "secret"},
    )  # fmt: skip
    path.write_bytes(build(header=header))
    assert cli.main(["scrub", str(path), "-o", str(output), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["removed"] == ["command_line", "host", "note", "site"]
    assert answer["texts_left"] == 1
    data = output.read_bytes()
    assert not any(name in data for name in (b"secret", b"/ann", b"build-7"))
    outcome = read(data)
    assert outcome.events == read(GOOD).events
    assert outcome.header.annotations == {"gicd": "0x8000000", "ring": "end"}
    path.write_bytes(holed())
    assert cli.main(["scrub", str(path), "-o", str(output), "--force"]) == 3


@pytest.mark.parametrize("at", [3, 60])  # in the head of the last event frame, and in its payload
def test_what_may_have_stood_at_the_end_is_missing(tmp_path, capsys, at):
    path, output = tmp_path / "t.itstrace", tmp_path / "o.itstrace"
    data = bytearray(GOOD[: FRAMES[4].start])
    data[FRAMES[3].start + at] ^= 1
    path.write_bytes(data)
    assert cli.main(["doctor", str(path), "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert (answer["state"], answer["holes"][0]["first"]) == ("damaged", 18)
    assert answer["holes"][0]["last"] is None
    assert cli.main(["recover", str(path), "-o", str(output)]) == 3
    assert "events from 18 on, nobody knows how many" in capsys.readouterr().out
    assert read(output.read_bytes()).events[-1][1][0] == 128


@pytest.mark.parametrize(
    ("state", "word", "code"), [({"format": 9}, "newer", 4), ({"format": 1}, "damaged", 3)]
)
def test_a_state_that_no_replay_can_take_is_told(tmp_path, capsys, state, word, code):
    out = io.BytesIO()
    writer = Writer(out, small_header(), checkpoint=msgpack.packb(state), bound_ms=0)
    writer.close()
    path = tmp_path / "t.itstrace"
    path.write_bytes(out.getvalue())
    assert cli.main(["doctor", str(path)]) == cli.main(["check", str(path)]) == code
    assert f": {word}" in capsys.readouterr().out
