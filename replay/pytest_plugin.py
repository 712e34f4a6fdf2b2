"""The pytest plugin: traces with manifests are tests, and `its_recorder` records devices in tests.

pytest loads this module through its entry point. It does and imports nothing unless there is a trace
or a test asks. Counterparts: `replay.pytest_corpus`, the tests that traces are, and
`replay.pytest_recordings`, what the fixture gives.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from replay.pytest_corpus import TraceFile, UnusedManifest
    from replay.pytest_recordings import Recordings

FIXTURE: Final = "its_recorder"
MARKER: Final = "its"
NEW, ALL, NONE = "new", "all", "none"
_FAILED: Final = pytest.StashKey[str]()  # the first line of what a test's recordings did not show
_TRACES: Final = (".itstrace", ".its.txt")  # as replay.manifest has it
_MANIFEST: Final = ".toml"
_EXPECTS: Final = re.compile(rb"^\s*expect\s*=", re.MULTILINE)
_MAX_MANIFEST_BYTES: Final = 65_536


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("itstrace")
    group.addoption(
        "--its-traces",
        metavar="DIR",
        help="keep what its_recorder records in DIR (default: the test's tmp_path)",
    )
    group.addoption(
        "--its-record",
        choices=(NEW, ALL, NONE),
        help="compare what its_recorder records with what is kept in --its-traces: `new` keeps what is "
        "not there yet, with a manifest; `all` keeps everything anew; `none` fails where none is kept",
    )
    group.addoption(
        "--its-target",
        action="append",
        metavar="TARGET",
        help="run traces on a real target and not on the model: qemu[:BINARY] or kvm[:KERNEL]; "
        "may be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; refuse options that say nothing together."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(profile=None, expect=None, signature=None, strict=False, verify=True): what a "
        "test's recordings must show; every trace that is a test has the marker, too",
    )
    if config.getoption("--its-record") and not config.getoption("--its-traces"):
        raise pytest.UsageError("--its-record needs the folder: give --its-traces DIR")


def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> TraceFile | UnusedManifest | None:
    """Take a trace, or a manifest that no trace is beside."""
    if file_path.name.endswith(_TRACES):
        from replay.pytest_corpus import TraceFile

        return TraceFile.from_parent(parent, path=file_path)
    if file_path.suffix == _MANIFEST and _is_left_over(file_path):
        from replay.pytest_corpus import UnusedManifest

        return UnusedManifest.from_parent(parent, path=file_path)
    return None


def _is_left_over(path: Path) -> bool:
    """Return whether a TOML file may be a manifest without a trace; most are something else."""
    if any(path.with_name(path.stem + suffix).exists() for suffix in _TRACES):
        return False
    try:
        with path.open("rb") as stream:
            return _EXPECTS.search(stream.read(_MAX_MANIFEST_BYTES)) is not None
    except OSError:
        return False


@pytest.fixture
def its_recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recordings]:
    """Make recorders: called with a device and what is known of it, as `Recorder` is.

    When the test has passed, every recording that it did not judge itself is verified.
    """
    from replay.pytest_recordings import Recordings

    recordings = Recordings(request.node, tmp_path)
    try:
        yield recordings
    finally:
        recordings.close()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Verify what a test recorded as soon as it has passed, so that it is the test that fails."""
    result = yield
    if FIXTURE in pyfuncitem.funcargs:
        recordings: Any = pyfuncitem.funcargs[FIXTURE]
        problems = recordings.conclude()
        if problems:
            pyfuncitem.stash[_FAILED] = problems[0].partition("\n")[0]
            pytest.fail("\n\n".join(problems), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Give the summary one line of what was told: where CI is set it takes all of a message."""
    report = yield
    if report.failed and report.when == "call" and _FAILED in item.stash:
        report.longrepr.reprcrash.message = item.stash[_FAILED]
    return report
