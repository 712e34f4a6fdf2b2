"""A part of a trace says of its resets what the whole says, and the parts together are the whole."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from replay import cli
from replay.judge import judge, with_flags
from replay.profiles import find
from tests.support.captures import ITS_INTROSPECTION, ITS_TRIGGER, TRACES, TWO_BOOTS, trace_bytes
from tests.support.traces import build, small_header
from tracer.log.opening import open_trace
from tracer.log.text import write_text

SCENARIOS = sorted((TRACES / "scenarios").glob("*.its.txt"))
KVM = TRACES / "kvm-6.1.192-linux-6.1-boot-save-reset.ftrace.txt.gz"
CAPTURES = {"two boots": TWO_BOOTS, "trigger": ITS_TRIGGER, "introspection": ITS_INTROSPECTION}


@cache
def captured(name):
    if name != "kvm":
        return trace_bytes(CAPTURES[name])
    with TemporaryDirectory() as folder:
        output = Path(folder) / "t.itstrace"
        assert cli.main(["import", str(KVM), "-o", str(output)]) in (0, 3)
        return output.read_bytes()


def verdicts(path):
    """Return {reset: (its words, what was observed)} of a trace, and whether all outputs fit."""
    with open_trace(str(path)) as reader:
        flags = {name: value[0] for name, value in reader.header.flags.items()}
        found = judge(reader, with_flags(find(reader.header.profile)[0], flags))
    return {
        each.seq: (each.how, each.word, each.statuses()) for each in found.verifier.resets
    }, found.engine.tally.divergent


def events_of(path):
    """Return [(seq, time, kind and fields)]."""
    with open_trace(str(path)) as reader:
        time_ns, found = 0, []
        for first_seq, events in reader:
            for seq, event in enumerate(events, first_seq):
                time_ns += event[1]
                found.append((seq, time_ns, event[0], event[2:]))
        assert reader.status == "clean"
    return found


def check_parts(path, folder, capsys):
    """Cut a trace by reset, hold each part to the whole, and put them together again."""
    whole, divergent = verdicts(path)
    assert cli.main(["cut", str(path), "--by", "reset", "-o", f"{folder}/part-%n.itstrace"]) == 0
    parts = sorted(folder.glob("part-*.itstrace"))
    found = {}
    total = 0
    for part in parts:
        mine, wrong = verdicts(part)
        found |= mine
        total += wrong
    assert found == whole
    assert total == divergent
    output = folder / "whole.itstrace"
    names = [str(part) for part in parts]
    assert cli.main(["merge", *names[::-1], "-o", str(output)]) == 0
    assert events_of(output) == events_of(path)
    assert verdicts(output) == (whole, divergent)
    capsys.readouterr()
    return whole, parts


@pytest.mark.parametrize("name", [*CAPTURES, "kvm"])
def test_the_parts_of_a_capture_are_the_whole(tmp_path, capsys, name):
    path = tmp_path / "t.itstrace"
    path.write_bytes(captured(name))
    whole, parts = check_parts(path, tmp_path, capsys)
    assert len(parts) >= len(whole) >= 1


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name.removesuffix(".its.txt"))
def test_each_reset_of_a_scenario_is_judged_in_its_part_as_in_the_whole(tmp_path, capsys, path):
    whole, _ = verdicts(path)
    for number, (seq, said) in enumerate(whole.items(), 1):
        output = tmp_path / f"{number}.itstrace"
        assert cli.main(["cut", str(path), "--reset", str(number), "-o", str(output)]) == 0
        mine, _ = verdicts(output)
        assert mine[seq] == said
        kept = events_of(output)
        first, last = kept[0][0], kept[-1][0]
        assert first <= seq <= last
        assert kept == [each for each in events_of(path) if first <= each[0] <= last]


def test_without_its_state_a_part_says_something_else(tmp_path, capsys):
    path = TRACES / "scenarios" / "F1-lpi-outlives-ctrl-reset.its.txt"
    assert cli.main(["cut", str(path), "--by", "reset", "-o", f"{tmp_path}/%n.its.itstrace"]) == 0
    whole = verdicts(path)[0]
    differ = 0
    for part in sorted(tmp_path.glob("*.itstrace"))[1:]:
        assert verdicts(part)[0].items() <= whole.items()
        with open_trace(str(part)) as reader:
            assert reader.checkpoint is not None
            stateless = tmp_path / "stateless.its.txt"
            header = replace(reader.header, base_digest=None)
            out = io.StringIO()
            write_text(header, ((f + at, e) for f, es in reader for at, e in enumerate(es)), out)
            stateless.write_text(out.getvalue())
        differ += not verdicts(stateless)[0].items() <= whole.items()
    assert differ


def test_a_part_begins_and_ends_where_no_input_is_torn_from_its_outputs(tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    path.write_bytes(build(bound_events=4))  # events 6 to 8 are outputs of the write before them
    output = tmp_path / "part.itstrace"
    for asked, got in (
        ("7..7", (5, 8)), ("5..5", (5, 8)), ("..4", (0, 4)), ("20..", (20, 24)),
        ("0x14..99", (20, 24)), ("..", (0, 24)),
    ):  # fmt: skip
        args = ["cut", str(path), "--range", asked, "-o", str(output), "--force", "--json"]
        assert cli.main(args) == 0
        [part] = json.loads(capsys.readouterr().out)["parts"]
        assert (part["first"], part["last"]) == got, asked
        assert events_of(output) == events_of(path)[got[0] : got[1] + 1]
        with open_trace(str(output)) as reader:
            assert list(reader)
            assert reader.open_end == (got[1] != 24)
            assert reader.header.parent_uuid == small_header().uuid
            assert (reader.header.base_digest is None) == (got[0] == 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--range", "1-2"], "--range must be A..B"),
        (["--range", "90..99"], "there is no event in 90..99: the trace has 0 to 24"),
        (["--reset", "3"], "there is no reset 3: the trace has 2"),
        (["--vm"], "a trace is of one VM already"),
        (["--by", "reset"], "belong together"),
    ],
)
def test_what_cannot_be_cut_wrong(tmp_path, capsys, options, says):
    path = tmp_path / "t.itstrace"
    path.write_bytes(build())
    assert cli.main(["cut", str(path), *options, "-o", str(tmp_path / "o")]) == 2
    assert says in capsys.readouterr().err


def test_a_damaged_trace_is_not_cut_wrong(tmp_path, capsys):
    data = bytearray(build())
    data[-90] ^= 1
    path = tmp_path / "t.itstrace"
    path.write_bytes(data)
    assert cli.main(["cut", str(path), "--range", "..4", "-o", str(tmp_path / "o")]) == 3
    assert "`itstrace recover` saves what can be read" in capsys.readouterr().err


def test_the_middle_is_missing_wrong(tmp_path, capsys):
    path = tmp_path / "t.itstrace"
    path.write_bytes(build())
    parts = [tmp_path / f"{at}.itstrace" for at in range(3)]
    for part, asked in zip(parts, ("..4", "5..17", "18.."), strict=True):
        assert cli.main(["cut", str(path), "--range", asked, "-o", str(part)]) == 0
    capsys.readouterr()
    output = str(tmp_path / "o")
    assert cli.main(["merge", str(parts[2]), str(parts[0]), "-o", output, "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["lost"] == ["events 5 to 17 are in no file that can be read"]
    found = events_of(output)
    assert [each[1:] for each in found[:5]] == [each[1:] for each in events_of(path)[:5]]
    assert found[5][2:] == (128, (answer["lost"][0], 13))
    assert [each[1:] for each in found[6:]] == [each[1:] for each in events_of(path)[18:]]
    # Overlapping files give each event once.
    again = ["merge", str(path), str(path), *map(str, parts[:2]), "-o", output, "--force"]
    assert cli.main(again) == 0
    assert events_of(output) == events_of(path)


def test_two_recordings_are_not_merged_wrong(tmp_path, capsys):
    one, two, three = (tmp_path / f"{name}.itstrace" for name in ("one", "two", "three"))
    one.write_bytes(build())
    two.write_bytes(build(header=small_header(uuid="another")))
    three.write_bytes(build(header=small_header(uuid="", cpus=1)))
    assert cli.main(["merge", str(one), str(two), "-o", str(tmp_path / "o")]) == 2
    assert "of two VMs no device saw the events in one order" in capsys.readouterr().err
    two.write_bytes(build(header=small_header(uuid="")))
    assert cli.main(["merge", str(two), str(three), "-o", str(tmp_path / "o")]) == 2
    assert "headers that differ" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
