"""`record qemu` into an output that takes a tenth of what comes: nothing grows, nothing is hidden.

Needs qemu-system-aarch64 and nothing else: the guest is `bare_metal`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Thread
from time import monotonic, sleep

import pytest

from tests.real.test_fuzz_guest import peak_kb
from tests.support.recorded_vm import needs_qemu, read

pytestmark = needs_qemu

# The recorder with small buffers, so that they fill within the seconds of a test.
_RECORD = (
    "from replay import cli; from tracer.sources import qemu_feed; import sys;"
    "qemu_feed.MAX_BYTES = 1 << 20; sys.exit(cli.main(sys.argv[1:]))"
)
SECONDS = 3
MAX_RECORDER_KB = 120_000
# Of `bare_metal`: four reads, seven writes, five commands of two lines, seven table accesses.
LINES_OF_A_LIFE = 4 + 7 + 5 * 2 + 7
LINES_OF_THE_MACHINE = 500  # its reset at power-on, and a life that was not finished


class SlowDisk:
    """A pipe whose reader takes so many bytes a second, and keeps what it took."""

    def __init__(self, path, kept):
        os.mkfifo(path)
        self.bytes_per_second = None
        self.taken = 0
        self._ended = False
        self._path, self._kept = path, kept
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with Path(self._path).open("rb", buffering=0) as pipe, self._kept.open("wb") as kept:
            while data := pipe.read(1 << 12):
                kept.write(data)
                self.taken += len(data)
                if self.bytes_per_second:
                    sleep(len(data) / self.bytes_per_second)

    def join(self):
        self._thread.join(60)


@pytest.mark.parametrize("drop", [True, False])
def test_an_output_of_a_tenth_of_the_rate(start, tmp_path, drop, monkeypatch):
    disk = SlowDisk(tmp_path / "slow", tmp_path / "kept.itstrace")

    def started(*words, **more):
        return Popen(
            [sys.executable, "-c", _RECORD, *map(str, words)], stderr=PIPE, text=True, **more
        )

    monkeypatch.setattr("tests.support.recorded_vm.itstrace", started)
    options = ["-o", tmp_path / "slow", "--force", *(["--drop"] if drop else [])]
    vm = start(record=options).connect()
    before, at = disk.taken, monotonic()
    sleep(1)
    disk.bytes_per_second = (disk.taken - before) / (monotonic() - at) / 10
    lives = vm.lives()
    sleep(SECONDS)
    lives = vm.lives() - lives
    peak = peak_kb(vm.recorder.pid)
    disk.bytes_per_second = None
    vm.ask("stop")
    all_lines = LINES_OF_A_LIFE * vm.lives()
    vm.ask("quit")
    code, said = vm.end()
    disk.join()
    status, _, events = read(tmp_path / "kept.itstrace")
    assert status == "clean", said
    assert peak < MAX_RECORDER_KB
    commands = sum(name == "command" for name, _ in events)
    lost = [fields["count"] for name, fields in events if name == "loss"]
    ours, skipped = (int(word) for word in re.search(r"of (\d+) lines; (\d+) lines", said).groups())
    assert abs(ours + skipped + sum(lost) - all_lines) < LINES_OF_THE_MACHINE
    print(f"{lives} lives, {commands} commands, {len(lost)} losses of {sum(lost)}, {peak} KB")
    if drop:
        assert code == 3
        assert f"{sum(lost)} lines were dropped" in said
        assert min(lost) > 0
    else:
        assert code == 0, said
        assert not lost
        assert not any(name == "source.gap" for name, _ in events)
