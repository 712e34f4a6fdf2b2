"""`--cluster`: a dask cluster in this process, which answers what one process answers, and what it cannot.

Workers that die are in tests/bench: `make bench-corpus`, `make bench-segments`.
"""

from __future__ import annotations

import shutil
import socket

import distributed
import pytest

from replay import cli, cluster, tasks
from replay.pools import Lost
from tests.support.scenarios import SCENARIOS

NAMES = ("F1-lpi-outlives-ctrl-reset", "S02-K2-baser0-invalid-frees-devices")


@pytest.fixture(scope="module")
def address():
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0",
        host="127.0.0.1", protocol="tcp",
    ) as made:  # fmt: skip
        yield made.scheduler_address


@pytest.fixture
def traces(tmp_path):
    for name in NAMES:
        for suffix in (".its.txt", ".toml"):
            shutil.copy(SCENARIOS / f"{name}{suffix}", tmp_path)
    shutil.copy(SCENARIOS / f"{NAMES[0]}.its.txt", tmp_path / "alone.its.txt")
    return tmp_path


def test_a_corpus_gives_the_same_bytes_and_a_worker_opens_no_file(
    address, traces, capsys, monkeypatch
):
    told = []
    for more in (["--jobs", "1"], ["--cluster", address]):
        code = cli.main(["corpus", "run", str(traces), *more])
        told.append((code, *capsys.readouterr()))
    assert told[0] == told[1]
    assert told[0][0] == 1
    assert "a manifest alone.toml" in told[0][1]


def test_a_trace_that_kills_its_workers_is_one_result(address, traces, capsys, monkeypatch):
    real = cluster.Cluster.answer
    killed = {}

    def answer(self):
        number, found = real(self)
        task = tasks.msgpack.unpackb(self.tasks[number])
        names = task["value"]["names"]
        if any("S02" in name for name in names):
            killed[tuple(names)] = True
            return number, Lost("the workers that had it died one after the other", often=4)
        return number, found

    ask = cluster.Cluster.ask

    def asked(self, task):
        number = ask(self, task)
        self.__dict__.setdefault("tasks", {})[number] = task
        return number

    monkeypatch.setattr(cluster.Cluster, "answer", answer)
    monkeypatch.setattr(cluster.Cluster, "ask", asked)
    code = cli.main(["corpus", "run", str(traces), "--cluster", address])
    out = capsys.readouterr().out
    assert code == 1  # the trace without a manifest; alone it would be 4
    assert "expected a judgement, got nothing: the workers that had it died" in out
    assert killed
    assert out.count("ok ") == 1


def test_a_worker_with_another_itstrace_is_refused(address, traces, capsys, monkeypatch):
    monkeypatch.setattr(tasks, "task", lambda what, value: tasks.msgpack.packb(
        {"what": what, "sources": b"another", "value": value}
    ))  # fmt: skip
    monkeypatch.setattr("replay.corpus_jobs.task", tasks.task)
    assert cli.main(["corpus", "run", str(traces), "--cluster", address]) == 4
    assert "install the same on all machines" in capsys.readouterr().err


def test_nobody_at_an_address_is_said_within_a_limit(traces, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{free.getsockname()[1]}"
    assert cli.main(["corpus", "run", str(traces), "--cluster", name]) == 4
    assert f"{name}: no scheduler answers within 0.3 s" in capsys.readouterr().err
    assert cli.main(["corpus", "run", str(traces), "--cluster", "nosuch://a:1"]) == 2
    assert "this is no address of a scheduler" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(traces, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    assert cli.main(["corpus", "run", str(traces), "--cluster", "127.0.0.1:1"]) == 2
    assert "pip install 'itstrace[cluster]'" in capsys.readouterr().err
