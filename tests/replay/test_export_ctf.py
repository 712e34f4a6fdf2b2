"""`export --to ctf`: packets that fill a stream, and a folder that overwrites nothing but its own.

Babeltrace reads every field back in tests/consumers, which `make test-consumers` runs.
"""

from __future__ import annotations

import struct

import pytest

from replay.export import ctf
from replay.export.ctf_metadata import metadata
from tests.support.exported import LIVES, export, timed, write, written
from tests.support.traces import small_header
from tracer.events import KINDS, make

# As the metadata declares them: magic, uuid, stream, begin, end, content and packet size, discarded.
PACKET = struct.Struct("<I16sIQQQQQ")
EVENT = struct.Struct("<HQQq")


def packets(data):
    """Yield (begin, end, discarded, events) of each packet, which are all of the stream."""
    while data:
        magic, _, stream, begin, end, content, size, lost = PACKET.unpack_from(data)
        assert (magic, stream, content % 8, content) == (0xC1FC1FC1, 0, 0, size)
        yield begin, end, lost, data[PACKET.size : size // 8]
        data = data[size // 8 :]


@pytest.mark.parametrize("life", LIVES)
def test_packets_fill_the_stream_and_each_begins_with_its_event(life, tmp_path, monkeypatch):
    monkeypatch.setattr(ctf, "MAX_PACKET_BYTES", 1)
    events = written(tmp_path / "a.itstrace", life)
    assert export(tmp_path / "a.itstrace", "ctf", tmp_path / "b") == 0
    found = list(packets((tmp_path / "b" / "stream").read_bytes()))
    assert len(found) == len(events)
    last = 0
    for (begin, end, _, data), (seq, time_ns, event) in zip(found, timed(events), strict=True):
        number, clock, seq_read, time_read = EVENT.unpack_from(data)
        assert (seq_read, time_read) == (seq, max(-(2**63), min(time_ns, 2**63 - 1)))
        assert number == (event[0] if event[0] in KINDS else 256)
        assert last <= begin == clock == end
        last = end


def test_what_was_lost_is_counted_in_the_packets(tmp_path, monkeypatch):
    monkeypatch.setattr(ctf, "MAX_PACKET_BYTES", 1)
    counts = (3, None, 2**64 - 1)
    losses = [make("loss", 0, reason="", count=count) for count in counts]
    write(tmp_path / "a.itstrace", small_header(), losses)
    assert export(tmp_path / "a.itstrace", "ctf", tmp_path / "b") == 0
    found = packets((tmp_path / "b" / "stream").read_bytes())
    assert [lost for _, _, lost, _ in found] == [3, 4, 2**64 - 2]


def test_metadata_declares_every_kind_and_is_plain_text():
    told = metadata(small_header(), (0, 1))
    assert told.startswith("/* CTF 1.8 */\n")
    for number, cls in KINDS.items():
        for stream in (0, 1):
            assert f'name = "{cls.name}"; id = {number}; stream_id = {stream};' in told
    assert told.isascii()
    assert '"GITS_BASER1" = 264 ... 271' in told
    assert "secret" not in metadata(small_header(host="secret", command_line=["secret"]), (0,))


def test_a_folder_is_made_and_only_a_ctf_trace_is_overwritten(tmp_path, capsys):
    trace, made = tmp_path / "a.itstrace", tmp_path / "b"
    events = [make("context", 0, cpu=1), make("save", 0)]
    write(trace, small_header(order="per_cpu"), events)
    assert export(trace, "ctf", made) == 0
    assert sorted(each.name for each in made.iterdir()) == ["metadata", "stream_1"]
    assert export(trace, "ctf", made) == 2
    assert "--force overwrites it" in capsys.readouterr().err
    write(trace, small_header(), events)
    (made / "mine").write_text("mine")
    assert export(trace, "ctf", made, "--force") == 0
    assert sorted(each.name for each in made.iterdir()) == ["metadata", "mine", "stream"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stream").write_text("mine")
    assert export(trace, "ctf", tmp_path / "mine", "--force") == 2
    assert (tmp_path / "mine" / "stream").read_text() == "mine"
    assert export(trace, "ctf", tmp_path / "no" / "b") == 2
    assert "No such file" in capsys.readouterr().err


def test_a_folder_is_no_stream(tmp_path, capsys):
    written(tmp_path / "a.itstrace", "small")
    assert export(tmp_path / "a.itstrace", "ctf", "-") == 2
    assert "give -o FOLDER" in capsys.readouterr().err
