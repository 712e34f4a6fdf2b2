"""The journal: torn, of another search, hostile; and a search that is killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from random import Random

import pytest

from replay.minimize.journal import Journal
from tests.support.scenarios import SCENARIOS
from tracer.errors import UsageError

ONE, TWO = bytes(range(16)), bytes(16)
TRACE = SCENARIOS / "S10-K5-movall-moves-every-lpi.its.txt"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def filled(path, search="s"):
    journal = Journal.on(path, search)
    journal.put(ONE, True)
    journal.put(TWO, False)
    journal.close()


def test_answers_are_there_again(path):
    filled(path)
    journal = Journal.on(path, "s")
    assert (journal.get(ONE), journal.get(TWO), journal.get(b"x" * 16)) == (True, False, None)
    assert journal.resumed == 2
    journal.close()


def test_a_journal_cut_at_any_byte_has_the_answers_before_it(path):
    filled(path)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        journal = Journal.on(path, "s")
        assert journal.resumed == max(length - first, 0) // 35
        journal.put(b"y" * 16, True)
        journal.close()
        assert Journal.on(path, "s").get(b"y" * 16) is True


def test_a_journal_of_another_search_is_refused(path):
    filled(path)
    with pytest.raises(UsageError, match="not the journal of this search"):
        Journal.on(path, "t")
    path.write_bytes(b"\x80" * 300)
    with pytest.raises(UsageError, match="not the journal of this search"):
        Journal.on(path, "s")
    assert path.read_bytes() == b"\x80" * 300


def test_no_bytes_make_it_fail_otherwise(path):
    filled(path)
    whole = path.read_bytes()
    dice = Random(1)
    for _ in range(300):
        raw = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        path.write_bytes(raw)
        try:
            journal = Journal.on(path, "s")
        except UsageError:
            continue
        assert journal.resumed <= 2
        journal.close()


# Minimises a trace and kills itself when it asks for the nth time; else it says how often it asked.
KILLED = """
import os, signal, sys
from replay import cli
from replay.minimize.model_oracle import ModelOracle

asks, count = ModelOracle.shows, [0]

def shows(self, candidates):
    count[0] += 1
    if count[0] == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return asks(self, candidates)

ModelOracle.shows = shows
code = cli.main(["minimize", *sys.argv[2:]])
print("asked", count[0])
sys.exit(code)
"""


def ran(nth, out, *options):
    """Return what such a search ends with, and the last word that it said."""
    arguments = [str(nth), str(TRACE), "-o", str(out), *options]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, (done.stdout.split() or [""])[-1]


def test_a_search_that_is_killed_goes_on_and_ends_alike(tmp_path):
    plain = tmp_path / "plain.its.txt"
    code, asked = ran(0, plain)
    assert code == 0
    assert int(asked) > 60
    assert sorted(each.name for each in tmp_path.iterdir()) == ["plain.its.txt", "plain.toml"]
    out = tmp_path / "out.its.txt"
    kept = tmp_path / "out.its.txt.journal"
    lengths = []
    for nth in (2, 40):
        assert ran(nth, out) == (-signal.SIGKILL, "")
        lengths.append(len(kept.read_text().splitlines()) - 1)
    assert lengths == [1, 40]  # of its second run, 39 more
    code, rest = ran(0, out)
    assert (code, int(rest)) == (0, int(asked) - 40)
    assert out.read_bytes() == plain.read_bytes()
    assert not kept.exists()
