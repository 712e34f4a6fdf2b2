"""The fixture `its_recorder`: record a device in a test, and judge what was recorded.

pytest loads this module through its entry point. It does nothing unless a test asks, and what
records and judges is imported then. Counterpart: `tracer.recorder`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from replay.judge import Judgement
    from tracer.device import Device
    from tracer.recorder import Recorder


class Recordings:
    """Makes recorders for one test; each is closed, at the latest, when the test ends."""

    def __init__(self, folder: Path, stem: str, *, force: bool) -> None:
        self._folder = folder
        self._stem = stem
        self._force = force
        self._count = 0
        self._stack = ExitStack()

    def __call__(self, device: Device, **known: Any) -> Recorder:
        """Return a `Recorder` of `device` into a file of this test; `known` as it takes them."""
        from tracer.recorder import Recorder

        path = self._folder / f"{self._stem}-{self._count}.itstrace"
        recorder = Recorder(device, path, force=self._force, **known)
        self._count += 1
        return self._stack.enter_context(recorder)

    def judge(self, its: Recorder, **options: Any) -> Judgement:
        """Close `its` and return what `replay.judge.judge_file` says of its trace."""
        from replay.judge import judge_file

        its.close()
        return judge_file(its.path, **options)

    def close(self) -> None:
        """Close every recorder, the last one first."""
        self._stack.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare where traces are kept."""
    parser.getgroup("itstrace").addoption(
        "--its-traces",
        metavar="DIR",
        help="keep what its_recorder records in DIR (default: the test's tmp_path)",
    )


@pytest.fixture
def its_recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recordings]:
    """Make recorders: called with a device and what is known of it, as `Recorder` is."""
    kept = request.config.getoption("--its-traces")
    folder = Path(kept) if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "-", request.node.nodeid if kept else request.node.name)[-150:]
    recordings = Recordings(folder, stem, force=bool(kept))
    try:
        yield recordings
    finally:
        recordings.close()
