"""The hand-over between two threads: order, bounds, and what was dropped."""

from __future__ import annotations

from threading import Thread
from time import sleep

import pytest

from tracer.sources import qemu_feed
from tracer.sources.qemu_feed import Feed


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(qemu_feed, "MAX_BYTES", 10_000)


def read(feed, size=1000):
    taken = []
    while data := feed.read1(size):
        taken.append(data)
    return taken


def test_calls_are_made_between_the_chunks_that_they_stood_between():
    seen = []
    feed = Feed(seen.append)
    feed.put(b"one\n")
    feed.call(lambda: seen.append("call"))
    feed.put(b"two\n")
    feed.close()
    assert feed.start() == b"one\ntwo\n"
    assert feed.read1(2) == b"on"
    assert feed.read1(100) == b"e\n"
    assert seen == []
    assert feed.read1(100) == b"two\n"
    assert seen == ["call"]
    assert feed.read1(100) == b""


def test_one_call_behind_itself_is_made_once():
    seen = []
    feed = Feed(seen.append)

    def tick():
        seen.append("tick")

    for _ in range(3):
        feed.call(tick)
    feed.put(b"x\n")
    feed.call(tick)
    feed.close()
    assert read(feed) == [b"x\n"]
    assert seen == ["tick", "tick"]


def test_a_full_one_makes_its_writer_wait():
    feed = Feed(lambda count: None)

    def write():
        for _ in range(100):
            feed.put(b"x" * 999 + b"\n")
        feed.close()

    writer = Thread(target=write)
    writer.start()
    sleep(0.1)
    assert feed._bytes < 10_000 + 2000
    assert writer.is_alive()
    assert sum(map(len, read(feed))) == 100_000
    writer.join()


def test_a_full_one_drops_whole_lines_and_counts_them():
    seen = []
    feed = Feed(seen.append, drop=True)
    for _ in range(100):
        feed.put(b"x" * 499 + b"\n" + b"y" * 499 + b"\n")
    feed.call(lambda: seen.append("never"))
    feed.call(lambda: seen.append("never"), counts=False)
    assert seen == []
    first = feed.read1(10_000)
    assert first.count(b"\n") == 2
    feed.close()
    taken = len(read(feed, 10_000)) + 1
    assert 5 < taken < 12
    assert seen == [200 - 2 * taken + 1]


def test_loss_stands_where_the_lines_are_missing():
    seen = []
    feed = Feed(seen.append, drop=True)
    feed.put(b"x" * 9_999 + b"\n")
    feed.put(b"lost\n")
    feed.read1(20_000)
    feed.put(b"y\n")
    feed.close()
    assert seen == []
    assert feed.read1(10) == b"y\n"
    assert seen == [1]


@pytest.mark.parametrize("drop", [False, True])
def test_one_that_is_discarded_takes_everything_and_gives_nothing(drop):
    seen = []
    feed = Feed(seen.append, drop=drop)
    feed.put(b"x\n")
    feed.discard()
    for _ in range(100):
        feed.put(b"x" * 999 + b"\n")
        feed.call(lambda: seen.append("never"))
    feed.close()
    assert feed.read1(10) == b""
    assert seen == []
