"""`blame` names the right event: in every scenario, as somebody found by reading it."""

from __future__ import annotations

import json

import pytest

from replay.cli import main
from replay.corpus import trace_name
from replay.manifest import manifest_path, read_manifest
from tests.support.scenarios import paths

TRACES = paths()


def blame(capsys, *args):
    code = main(["blame", "--json", *map(str, args)])
    out = capsys.readouterr()
    return code, json.loads(out.out) if out.out else out.err


@pytest.mark.parametrize("trace", TRACES, ids=trace_name)
def test_the_right_event_is_named_in_every_scenario(trace, capsys):
    planted = read_manifest(manifest_path(trace)).planted
    code, answer = blame(capsys, trace, planted.component)
    assert code == 0
    act = answer["written"] if answer["present"] else answer["removed"]
    assert (act and act["seq"]) == planted.seq, planted.because
    queued_by = act and act["command"] and act["command"]["queued_by"]
    assert queued_by == planted.queued_by, planted.because
    behind = [*answer["chain"], *([] if act is answer["written"] else [answer["written"]])]
    assert set(planted.behind) <= {each["seq"] for each in behind}
