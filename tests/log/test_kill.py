"""What a writer leaves when it is killed, or when the disk is full: real processes, real disks."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.traces import Outcome, read
from tracer.errors import WriteError
from tracer.events import Event, make
from tracer.log import format as fmt
from tracer.log.header import Header
from tracer.log.stream import Writer

REPOSITORY = Path(__file__).parents[2]

# -- SIGKILL

# Runs in a process of its own, which forks one writer a case, kills it and says how it went. The
# writer tells each event's number and the time after `add` in a second file, which outlives it (a
# pipe would block a writer that nobody reads from).
HELPER = r"""
import json, os, signal, struct, sys, time
from random import Random
from tracer.events import make
from tracer.log import format as fmt
from tracer.log.header import Header
from tracer.log.stream import Writer

TOLD = struct.Struct("<QQ")  # sequence number, monotonic time in ns after add returned


def flat_out(random):
    while True:
        yield 0


def trickle(random):
    while True:
        yield 0.002


def bursts(random):
    while True:
        for _ in range(random.randrange(1, 300)):
            yield 0
        yield random.random() * 0.05


def burst_then_silence(random):
    for _ in range(random.randrange(1, 3000)):
        yield 0
    yield 60


def random_pace(random):
    while True:
        yield random.random() ** 8 * 0.02


PACES = (flat_out, trickle, bursts, burst_then_silence, random_pace)


def write(path, tell, bound_events, bound_ms, codec, pace, seed):
    out = open(path, "wb", buffering=0)
    writer = Writer(
        out, Header(), codec=codec, bound_events=bound_events, bound_ms=bound_ms, name=path
    )
    random = Random(seed)
    for wait in pace(random):
        write.count += 1
        writer.add(make("msi", 1, device_id=write.count - 1, event_id=random.getrandbits(16)))
        os.write(tell, TOLD.pack(write.count, time.monotonic_ns()))
        if wait:
            time.sleep(wait)


write.count = 0


def case(path, bound_events, bound_ms, number, random):
    pace = PACES[number % len(PACES)]
    codec = number % 3
    seed = random.getrandbits(32)
    tell = os.open(path + ".told", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    pid = os.fork()
    if pid == 0:
        try:
            write(path, tell, bound_events, bound_ms, codec, pace, seed)
        finally:
            os._exit(9)
    while os.fstat(tell).st_size < TOLD.size:
        time.sleep(0.001)
    longest = (0.02, 0.1, 0.3) if pace is flat_out else (0.02, 0.1, 0.5, 2.0)
    time.sleep(random.choice(longest) * random.random())
    killed_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(tell)
    return {
        "path": path,
        "pace": pace.__name__,
        "killed_ns": killed_ns,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
    }


folder, bound_events, bound_ms, cases, seed = sys.argv[1], *map(int, sys.argv[2:])
random = Random(seed)
for number in range(cases):
    path = os.path.join(folder, f"{bound_events}-{bound_ms}-{number}.itstrace")
    print(json.dumps(case(path, bound_events, bound_ms, number, random)), flush=True)
"""

TOLD = struct.Struct("<QQ")
BOUNDS = [(64, 100), (4096, 100), (64, 0), (4096, 0)]
CASES = 50  # for each of the four bounds: 200
ALLOWANCE_NS = 700_000_000  # two CPUs that have other things to do as well


@dataclass(frozen=True)
class Killed:
    """One killed writer: what it told, and what is in its file."""

    path: str
    pace: str
    killed_ns: int
    signal: int | None
    added: int
    times_ns: list[int]
    outcome: Outcome

    @property
    def kept(self) -> int:
        return len(self.outcome.events)


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[tuple[int, int], list[Killed]]]:
    folder = tmp_path_factory.mktemp("killed")
    helpers = {}
    for seed, (events, ms) in enumerate(BOUNDS):
        numbers = [str(number) for number in (events, ms, CASES, seed)]
        helpers[events, ms] = subprocess.Popen(
            [sys.executable, "-c", HELPER, str(folder), *numbers],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    results = {}
    for bounds, helper in helpers.items():
        out, err = helper.communicate(timeout=120)
        assert (helper.returncode, err) == (0, "")
        results[bounds] = [look(json.loads(line)) for line in out.splitlines()]
    yield results
    shutil.rmtree(folder)


def look(case: dict[str, object]) -> Killed:
    path = str(case["path"])
    told = list(TOLD.iter_unpack(Path(path + ".told").read_bytes()))
    assert [number for number, _ in told] == list(range(1, len(told) + 1))
    outcome = read(Path(path).read_bytes(), path)
    times_ns = [time_ns for _, time_ns in told]
    return Killed(**case, added=len(told), times_ns=times_ns, outcome=outcome)  # type: ignore[arg-type]


def test_200_writers_were_killed(killed: dict[tuple[int, int], list[Killed]]):
    cases = [case for each in killed.values() for case in each]
    assert len(cases) == 200
    assert {case.signal for case in cases} == {9}
    assert {case.pace for case in cases} == {
        "flat_out",
        "trickle",
        "bursts",
        "burst_then_silence",
        "random_pace",
    }
    # The moments were not all the same: some lost nothing, some lost much.
    assert len({case.added - case.kept for case in cases}) > 20


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_the_file_is_readable_and_says_that_it_was_cut(
    killed: dict[tuple[int, int], list[Killed]], bounds: tuple[int, int]
):
    for case in killed[bounds]:
        assert case.outcome.status == "cut"
        assert [problem.kind for problem in case.outcome.problems] == ["cut"]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_what_is_kept_is_what_was_added_in_order(
    killed: dict[tuple[int, int], list[Killed]], bounds: tuple[int, int]
):
    for case in killed[bounds]:
        assert [(seq, event[2]) for seq, event in case.outcome.events] == [
            (at, at) for at in range(case.kept)
        ]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_no_more_events_than_the_bound_are_lost(
    killed: dict[tuple[int, int], list[Killed]], bounds: tuple[int, int]
):
    for case in killed[bounds]:
        # The last one may be in the file though its writer could not say so any more.
        assert -1 <= case.added - case.kept < bounds[0], case.path
    assert any(case.kept for case in killed[bounds])


@pytest.mark.parametrize("bounds", [(64, 100), (4096, 100)], ids=str)
def test_nothing_older_than_the_bound_in_time_is_lost(
    killed: dict[tuple[int, int], list[Killed]], bounds: tuple[int, int]
):
    older = 0
    for case in killed[bounds]:
        oldest_ns = case.killed_ns - bounds[1] * 1_000_000 - ALLOWANCE_NS
        lost = case.times_ns[case.kept :]
        assert all(time_ns >= oldest_ns for time_ns in lost), case.path
        older += case.times_ns[0] < oldest_ns
    assert older >= 5  # so many of them lived long enough to lose anything


def test_the_bound_in_time_saved_what_the_bound_in_events_would_have_lost(
    killed: dict[tuple[int, int], list[Killed]],
):
    silent = [case for case in killed[4096, 100] if case.pace == "burst_then_silence"]
    assert any(0 < case.kept < 4096 for case in silent)
    without = [case for case in killed[4096, 0] if case.pace == "burst_then_silence"]
    assert all(case.kept == 0 for case in without)


# -- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("a small tmpfs needs Linux and mount(8)")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "itstrace-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path, count: int = 100_000, **options: int) -> int:
    """Write until an error; return how many events were added without one."""
    with path.open("wb", buffering=0) as out:
        writer = Writer(
            out,  # type: ignore[arg-type]
            Header(),
            codec=fmt.CODEC_NONE,
            name=str(path),
            **({"bound_ms": 0} | options),  # type: ignore[arg-type]
        )
        for at in range(count):
            writer.add(event(at))
        writer.close()
    return count


def event(at: int) -> Event:
    return make("reg.write", 1000, offset=0x80, value=at)


@pytest.mark.parametrize("bound", [1, 100, 1000])
def test_a_full_disk_is_a_clear_error_with_all_earlier_frames_intact(small_disk: Path, bound: int):
    path = small_disk / "a.itstrace"
    with pytest.raises(WriteError) as error:
        fill(path, bound_events=bound)
    assert path.stat().st_size == 65536
    outcome = read(path.read_bytes(), str(path))
    kept = len(outcome.events)
    assert str(error.value) == (
        f"{path}: No space left on device; everything up to event {kept} is in the file, "
        f"{bound} events are not: make room and record again"
    )
    assert error.value.exit_code == 3
    cause = error.value.__cause__ or error.value.__context__  # mypyc keeps no cause
    assert isinstance(cause, OSError)
    assert cause.errno == errno.ENOSPC
    assert kept > 0
    assert kept % bound == 0
    assert outcome.events == [(at, event(at)) for at in range(kept)]
    assert outcome.status == "cut"


def test_a_full_disk_met_by_the_watcher_is_told_at_the_end(small_disk: Path):
    path = small_disk / "b.itstrace"
    (small_disk / "filler").write_bytes(bytes(14 * 4096))
    with pytest.raises(WriteError) as error:
        fill(path, count=4000, bound_events=4096, bound_ms=1)
    assert str(error.value).startswith(f"{path}: No space left on device; everything up to event ")
    outcome = read(path.read_bytes(), str(path))
    assert f"up to event {len(outcome.events)} is" in str(error.value)
    assert outcome.status == "cut"
    assert outcome.events == [(at, event(at)) for at in range(len(outcome.events))]


def test_a_full_disk_with_room_made_again_goes_on_in_a_new_file(small_disk: Path):
    with pytest.raises(WriteError):
        fill(small_disk / "a.itstrace", bound_events=10)
    (small_disk / "a.itstrace").unlink()
    assert fill(small_disk / "b.itstrace", count=100) == 100
    assert read((small_disk / "b.itstrace").read_bytes()).status == "clean"


def test_the_simple_case():
    path = Path("/dev/full")
    if not path.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(WriteError) as error:
        fill(path)
    assert str(error.value) == (
        "/dev/full: No space left on device; everything up to event 0 is in the file, "
        "0 events are not: make room and record again"
    )


def test_a_closed_pipe_is_a_clear_error():
    source, sink = os.pipe()
    os.close(source)
    with io.FileIO(sink, "wb") as out, pytest.raises(WriteError) as error:
        Writer(out, Header(), name="-", bound_ms=0)  # type: ignore[arg-type]
    assert str(error.value).startswith("-: Broken pipe; everything up to event 0 is in the file")
