"""`record qemu --ring`, `show -f` and `verify -f` with a real QEMU.

Needs qemu-system-aarch64 and nothing else: the guest is `bare_metal`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from time import sleep

from replay import cli
from tests.support.bare_metal import image
from tests.support.recorded_vm import holds, needs_qemu, read, resets, until
from tracer.errors import DamagedTrace
from tracer.events import SYSTEM

pytestmark = needs_qemu

FOR_EVER = 4000  # lives: the guest resets itself after each
RING = ("--ring", "4096", "--bound-events", "16")


def dumps(tmp_path):
    return sorted(tmp_path.glob("t-*.itstrace"))


def has_forgotten(tmp_path):
    """Return whether the first segment of the ring is gone."""
    names = [each.name for each in (tmp_path / "t.itstrace.ring").glob("*.itstrace")]
    return bool(names) and "000000000000.itstrace" not in names


def whole(path):
    """Return whether a dump is there and has its end."""
    with suppress(DamagedTrace):
        return path.exists() and read(path)[0] == "clean"


def verdicts(path, capsys):
    capsys.readouterr()
    cli.main(["verify", "--json", str(path)])
    return json.loads(capsys.readouterr().out)["resets"]


def test_a_ring_is_written_out_when_it_is_asked_for_and_at_the_end(start, tmp_path):
    vm = start(code=image(lives=FOR_EVER), record=RING)
    until(lambda: has_forgotten(tmp_path))
    first, second = tmp_path / "t-0001.itstrace", tmp_path / "t-0002.itstrace"
    vm.recorder.send_signal(signal.SIGUSR1)
    until(lambda: whole(first))
    vm.recorder.terminate()  # which it passes on to QEMU
    code, said = vm.end()
    assert code == 0, said
    assert f"the ring was written to {first}, {second}" in said
    assert dumps(tmp_path) == [first, second]
    assert not vm.trace.exists()
    assert not (tmp_path / "t.itstrace.ring").exists()
    for path, why in ((first, "SIGUSR1"), (second, "end")):
        status, header, events = read(path)
        assert (status, header.annotations["ring"]) == ("clean", why)
        assert header.first_seq > 0
        assert header.base_digest
        assert resets(events)
        holds(path)


def test_a_ring_is_written_out_at_each_reset_that_was_looked_at(start, tmp_path, capsys):
    options = (*RING, "--probe-resets", "--dump-on", "reset")
    vm = start(code=image(lives=4), record=options)
    code, said = vm.end()
    assert code == 0, said
    found = dumps(tmp_path)
    assert len(found) >= 3
    for path in found:
        _, header, events = read(path)
        assert header.annotations["ring"].startswith("reset at event")
        assert resets(events)[-1] == SYSTEM
        assert [f["edge"] for name, f in events if name == "probe"][-1] == 1
        assert verdicts(path, capsys)[-1]["verdict"] == "verified"
        holds(path)


def test_a_killed_recorder_leaves_a_ring_that_can_be_imported(start, tmp_path):
    vm = start(code=image(lives=FOR_EVER), record=RING)
    until(lambda: has_forgotten(tmp_path))
    vm.recorder.kill()
    vm.recorder.wait()
    folder = tmp_path / "t.itstrace.ring"
    assert dumps(tmp_path) == []
    assert cli.main(["import", str(folder)]) == 0
    status, header, events = read(vm.trace)
    assert status == "cut"
    assert header.first_seq > 0
    assert resets(events)
    holds(vm.trace)


def test_a_second_recorder_does_not_take_the_ring(start, tmp_path):
    (tmp_path / "t.itstrace.ring").mkdir()
    vm = start(code=image(), record=RING)
    code, said = vm.end()
    assert code == 2
    assert "a ring is there already" in said


def test_verdicts_of_a_live_vm_are_told_while_it_runs(start):
    vm = start(code=image(lives=FOR_EVER), record=("--probe-resets",))
    told = subprocess.Popen(
        [sys.executable, "-m", "replay.cli", "verify", "-f", "--json", str(vm.trace)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with told:
        lines = [json.loads(told.stdout.readline()) for _ in range(6)]
        assert vm.recorder.poll() is None, "it runs still"
        assert {each["schema"] for each in lines} == {"itstrace.reset/1"}
        assert any(each["final"] for each in lines)
        system = [each for each in lines if each["kind"] == "system"]
        assert {each["verdict"] for each in system} == {"verified"}
        vm.recorder.terminate()
        assert vm.end()[0] == 0
        *_, last = map(json.loads, told.stdout)
        assert last["schema"] == "itstrace.verdict/1"
        assert last["status"] == "clean"
    assert told.returncode == 0


def test_events_of_a_live_vm_are_shown_while_it_runs(start):
    vm = start(code=image(lives=FOR_EVER))
    shown = subprocess.Popen(
        [sys.executable, "-m", "replay.cli", "show", "-f", "-Y", 'kind == "reset"', str(vm.trace)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with shown:
        lines = [shown.stdout.readline() for _ in range(5)]
        assert all("reset" in line for line in lines)
        assert vm.recorder.poll() is None
        sleep(0.1)
        shown.send_signal(signal.SIGINT)
        assert shown.wait(30) == 130
    vm.recorder.terminate()
    assert vm.end()[0] == 0
