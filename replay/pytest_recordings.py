"""What `its_recorder` gives: recorders for one test, and what their recordings must show at its end.

With `--its-record`, a recording is kept with a manifest, once; later runs are held to both: the word and
the signature of the manifest, and every answer of the kept trace, as long as the test asks the same.

Imported only when a test asks. Counterparts: `replay.pytest_plugin` and `tracer.recorder`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from replay.commands.common import clean
from replay.corpus import OF_VERIFY, Result, run_expectation
from replay.corpus_add import add
from replay.decode import describe
from replay.judge import WORDS, judge_file
from replay.manifest import AS_IT_IS, Expectation, Manifest, manifest_path, read_manifest
from replay.pytest_corpus import report, shortened
from replay.pytest_plugin import ALL, MARKER, NONE
from tracer.errors import TracerError
from tracer.events import FIRST_OUTPUT, NUMBER, Event
from tracer.log.opening import open_trace
from tracer.recorder import Recorder

if TYPE_CHECKING:
    import pytest

    from replay.judge import Judgement
    from tracer.device import Device

NO_FINDING: Final = "resets that leave nothing"
_NAMELESS: Final = (
    "a profile says what a fresh device is: its_recorder(device, profile=...); or do not verify: "
    f"@pytest.mark.{MARKER}(verify=False)"
)
_MAX_STEM_CHARS: Final = 150
# Kinds of which one event is what was asked, and the answer -> the fields that were asked.
_ASKED: Final = {
    NUMBER["reg.read"]: slice(2, 3), NUMBER["gicr.read"]: slice(2, 4), NUMBER["mem.read"]: slice(2, 4),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arguments of the marker: what the recordings of a test must show."""

    profile: str | None = None
    expect: str | None = None  # None: anything that `itstrace verify` exits 0 for
    signature: str | None = None
    strict: bool = False
    verify: bool = True


class Recordings:
    """Makes recorders for one test; each is closed, at the latest, when the test ends."""

    def __init__(self, node: pytest.Item, tmp_path: Path) -> None:
        kept = node.config.getoption("--its-traces")
        self._mode = node.config.getoption("--its-record")
        self._kept = Path(kept) if kept and self._mode else None
        self._folder = Path(kept) if kept and not self._mode else tmp_path
        self._folder.mkdir(parents=True, exist_ok=True)
        self._stem = _stem(node.nodeid if kept else node.name)
        self._force = bool(kept)
        self._node = node
        marker = node.get_closest_marker(MARKER)
        self._wanted = Wanted(**marker.kwargs) if marker else Wanted()
        self._made: list[Recorder] = []
        self._judged: set[str] = set()
        self._stack = ExitStack()

    def __call__(self, device: Device, **known: Any) -> Recorder:
        """Return a `Recorder` of `device` into a file of this test; `known` as it takes them."""
        path = self._folder / f"{self._stem}-{len(self._made)}.itstrace"
        if self._wanted.profile:
            known.setdefault("profile", self._wanted.profile)
        recorder = Recorder(device, path, force=self._force, **known)
        self._made.append(recorder)
        return self._stack.enter_context(recorder)

    def judge(self, its: Recorder, **options: Any) -> Judgement:
        """Close `its` and return what `replay.judge.judge_file` says of its trace."""
        its.close()
        self._judged.add(its.path)
        return judge_file(its.path, **options)

    def close(self) -> None:
        """Close every recorder, the last one first."""
        self._stack.close()

    def conclude(self) -> list[str]:
        """Close, and return what is wrong with what was recorded; keep what is to be kept."""
        self.close()
        problems = [text for each in self._made for text in self._concluded(Path(each.path))]
        return problems + (list(self._left_over(self._kept)) if self._kept else [])

    def _concluded(self, trace: Path) -> Iterator[str]:
        if not trace.exists():
            yield from self._without_file(trace)
            return
        if self._wanted.verify and str(trace) not in self._judged:
            result = _verified(trace, self._wanted)
            if result is not None:
                yield self._told(result)
                return
        if self._kept is None:
            return
        kept = self._kept / trace.name
        if self._mode == ALL or (self._mode != NONE and not kept.exists()):
            yield from self._keep(trace, kept)
        elif not kept.exists():
            yield f"{kept}: no recording of this test is kept: run it once with --its-record=new"
        else:
            yield from self._compared(trace, kept)

    def _without_file(self, trace: Path) -> Iterator[str]:
        if self._kept or self._wanted.verify:
            yield (
                f"{trace}: was not written; a ring writes files of its own: judge those in the test, "
                f"and say @pytest.mark.{MARKER}(verify=False)"
            )

    def _keep(self, trace: Path, kept: Path) -> Iterator[str]:
        """Put a recording into the folder, with a manifest of what it shows now."""
        kept.parent.mkdir(parents=True, exist_ok=True)
        if kept.exists() and (other := _recorded_by(kept)) not in ("", self._node.nodeid):
            yield f"{kept}: is kept of {other}: two tests would share this file"
            return
        shutil.copyfile(trace, kept)
        try:
            add(
                kept, f"recorded by {self._node.nodeid}", force=True,
                profile=None, strict=self._wanted.strict, source=self._node.nodeid,
            )  # fmt: skip
        except TracerError as error:
            kept.unlink()
            yield f"{kept}: cannot be kept: {error}"

    def _compared(self, trace: Path, kept: Path) -> Iterator[str]:
        """Hold a recording to the one that is kept: its manifest, and its answers."""
        path = manifest_path(kept)
        if not path.exists():
            yield f"{kept}: has no manifest {path.name}: --its-record=all makes both anew"
            return
        if (other := _recorded_by(kept)) not in ("", self._node.nodeid):
            yield f"{kept}: is kept of {other}: two tests share this file"
            return
        try:
            manifest = read_manifest(path)
            bare = {key: item for key, item in manifest.values.items() if key != "digest"}
            for each in manifest.expectations:
                result = run_expectation(trace, replace(manifest, values=bare), each)
                if not result.passed:
                    yield self._told(result)
            yield from _first_difference(kept, trace)
        except TracerError as error:
            yield str(error)

    def _left_over(self, folder: Path) -> Iterator[str]:
        """Say when more recordings are kept than the test makes."""
        path = folder / f"{self._stem}-{len(self._made)}.itstrace"
        if path.exists() and _recorded_by(path) == self._node.nodeid:
            yield f"{path}: this test does not record it any more: remove it and its manifest"

    def _told(self, result: Result) -> str:
        return shortened(report(result), Path(str(result.trace)), self._node.config)


def _stem(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)[-_MAX_STEM_CHARS:]


def _recorded_by(kept: Path) -> str:
    """Return the test that a kept trace is of, as its manifest says."""
    path = manifest_path(kept)
    return str(read_manifest(path).values.get("source", "")) if path.exists() else ""


def _verified(trace: Path, wanted: Wanted) -> Result | None:
    """Return the result if a recording does not show what it must."""
    values: dict[str, Any] = {"strict": wanted.strict}
    if wanted.profile:
        values["profile"] = wanted.profile
    expectation = Expectation(AS_IT_IS, wanted.expect or NO_FINDING, wanted.signature)
    manifest = Manifest(manifest_path(trace), values, (expectation,))
    with open_trace(str(trace)) as reader:
        nameless = wanted.profile is None and reader.header.profile is None
    if nameless:
        return Result(trace, AS_IT_IS, expectation.expect, "no profile", None, why=(_NAMELESS,))
    result = run_expectation(trace, manifest, expectation)
    if wanted.expect is None:
        return result if result.got in OF_VERIFY or result.got not in WORDS else None
    return None if result.passed else result


def _first_difference(kept: Path, now: Path) -> Iterator[str]:
    """Say where two recordings of one test first differ: in what was asked, or in the answer."""
    with open_trace(str(kept)) as first, open_trace(str(now)) as second:
        pairs = zip_longest(_events(first), _events(second))
        found = next(((at, a, b) for at, (a, b) in enumerate(pairs) if _differ(a, b)), None)
    if found is None:
        return
    at, old, new = found
    yield "\n".join(
        [
            f"{kept}: event {at}: {_who_changed(old, new)} than when it was recorded",
            f"  expected  {_told(old)}",
            f"  got       {_told(new)}",
            "  if that is right: --its-record=all records it anew",
        ]
    )


def _who_changed(old: Event | None, new: Event | None) -> str:
    if old is None or new is None or old[0] != new[0]:
        return "test or device goes another way"
    asked = _ASKED.get(old[0], slice(0) if old[0] >= FIRST_OUTPUT else slice(2, None))
    return "the device answers otherwise" if old[asked] == new[asked] else "the test asks otherwise"


def _told(event: Event | None) -> str:
    return "the end" if event is None else clean(" ".join(describe(event).split()))


def _events(reader: Any) -> Iterator[Event]:
    for _, events in reader:
        yield from events


def _differ(old: Event | None, new: Event | None) -> bool:
    """Return whether two events differ in more than their time."""
    if old is None or new is None:
        return True
    return (old[0], *old[2:]) != (new[0], *new[2:])
