"""What is fuzzed: each target takes any bytes, and raises nothing that its reader does not document.

Beyond that a target says what must hold of whatever its reader accepts. The runner
(`tests.fuzz.run`) looks for bytes that break a target; `test_kept_inputs` runs those that were kept.
"""

from __future__ import annotations

import atexit
import io
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from replay import checkpoints
from replay.decode import decode
from replay.filter import compile_filter
from replay.judge import AnyModel, model_of
from replay.manifest import looks_like_manifest, read_manifest
from replay.predicate import compile_predicate
from replay.profile_file import read_profile
from replay.profiles import find
from replay.timetravel.cache_file import Unusable, _taken
from tests.support.ftrace_text import split
from tests.support.traces import (
    HEADER,
    Frame,
    build,
    forge,
    header_frame,
    numbered,
    small_events,
)
from tracer.errors import SourceError, TraceError, UsageError
from tracer.events import Event
from tracer.log.checks import check_events
from tracer.log.header import Header
from tracer.log.stream import Reader
from tracer.log.survey import survey
from tracer.log.text import TextReader, write_text
from tracer.sources.lines import LineReader
from tracer.sources.qemu_log import QemuLog, header as qemu_header
from tracer.sources.qemu_vmstate import registers
from tracer.sources.vectors import Life

BEHIND_BYTES = 1 << 20  # of the checkpoints of the seed of `states`
PROFILES = ("qemu-7.2.22", "linux-6.1.192", "xen-4.20")


def trace(data: bytes) -> None:
    """A file: CRCs keep most of what a fuzzer makes at the door, which must hold, too."""
    survey(io.BytesIO(data), "t")
    reader = Reader(io.BytesIO(data), "t")
    _text_says_the_same(reader.header, numbered(reader))


def payload(data: bytes) -> None:
    """One frame whose CRCs and chain are right; the first byte is its kind."""
    kind, rest = data[0] if data else 0, data[1:]
    frame = Frame(kind, rest)
    trace(forge([frame]) if kind == HEADER else forge([header_frame(), frame, frame]))


def text(data: bytes) -> None:
    reader = TextReader(io.BytesIO(data), "t")
    events = numbered(reader)
    _text_says_the_same(reader.header, events)
    if events:
        check_events([event for _, event in events])
        _binary_says_the_same(reader.header, [event for _, event in events])


def _text_says_the_same(header: Header, events: list[tuple[int, Event]]) -> None:
    if [seq for seq, _ in events] != list(range(header.first_seq, header.first_seq + len(events))):
        return  # the text form has no holes
    out = io.StringIO(newline="\n")
    write_text(header, events, out)
    again = TextReader(io.BytesIO(out.getvalue().encode()), "again")
    assert numbered(again) == events
    assert again.header == header


def _binary_says_the_same(header: Header, events: list[Event]) -> None:
    again = Reader(io.BytesIO(build(events, header)), "again")
    assert [event for _, event in numbered(again)] == events
    assert again.problems == []


def qemu_log(data: bytes) -> None:
    log = QemuLog(LineReader(io.BytesIO(data), "the.log"))
    _binary_says_the_same(qemu_header(data), list(log.events()))


def ftrace(data: bytes) -> None:
    for header, events in split(data)[1].values():
        check_events(events)
        _binary_says_the_same(header, events)


def vectors(data: bytes) -> None:
    for name in PROFILES[:2]:
        life = Life("the.txt", None, name)
        events = list(life.events(LineReader(io.BytesIO(data), "the.txt")))
        assert life.header is not None
        _binary_says_the_same(life.header, events)


def saved_state(data: bytes) -> None:
    """What a QEMU saves, which the recorder reads registers out of."""
    assert all(0 <= each.value < 1 << 64 for each in registers(data, 2))


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="itstrace-fuzz-")
    atexit.register(shutil.rmtree, folder)
    return Path(folder)


def manifest(data: bytes) -> None:
    path = _folder() / "a.toml"
    path.write_bytes(data)
    looks = looks_like_manifest(path)
    found = read_manifest(path)
    assert looks
    profile = found.profile_path
    assert profile is None or profile.resolve().is_relative_to(_folder().resolve())
    assert isinstance(found.flags, set)
    assert found.bug is None or isinstance(found.bug, str)


def profile(data: bytes) -> None:
    path = _folder() / "p.toml"
    path.write_bytes(data)
    read_profile(str(path))


@cache
def _shown() -> list[dict[str, object]]:
    return [decode(seq, 0, event) for seq, event in enumerate(small_events())]


def event_filter(data: bytes) -> None:
    passes = compile_filter(data.decode(errors="surrogateescape"))
    for shown in _shown():
        assert passes(shown) in (True, False)


def _model(name: str) -> AnyModel:
    return model_of(Header(cpus=2, its_bases=[0x8080000]), find(name)[0])


def predicate(data: bytes) -> None:
    condition = compile_predicate(data.decode(errors="surrogateescape"))
    for name in PROFILES:
        model = _model(name)
        condition.begin(model)
        assert condition.holds(model) in (True, False)


def checkpoint(data: bytes) -> None:
    """A state: the first byte says of which family the model is."""
    model = _model(PROFILES[(data[0] if data else 0) % len(PROFILES)])
    standing = checkpoints.resume(data[1:], "t", 9, model)
    model.state()
    again = model.fresh()
    checkpoints.resume(checkpoints.snapshot(model, 9, standing), "t", 9, again)
    assert again.state() == model.state()


def states(data: bytes) -> None:
    """The index of a cache, behind its seal."""
    _taken(data, BEHIND_BYTES)


# Name -> the function, and the errors that it may raise.
Target = tuple[Callable[[bytes], None], tuple[type[Exception], ...]]
TARGETS: dict[str, Target] = {
    "trace": (trace, (TraceError,)),
    "payload": (payload, (TraceError,)),
    "text": (text, (TraceError,)),
    "qemu_log": (qemu_log, (SourceError,)),
    "ftrace": (ftrace, (SourceError,)),
    "vectors": (vectors, (SourceError,)),
    "saved_state": (saved_state, (SourceError,)),
    "manifest": (manifest, (UsageError,)),
    "profile": (profile, (UsageError,)),
    "filter": (event_filter, (UsageError,)),
    "predicate": (predicate, (UsageError,)),
    "checkpoint": (checkpoint, (TraceError, UsageError)),
    "states": (states, (Unusable,)),
}


def feed(name: str, data: bytes) -> None:
    """Give `data` to a target; whatever comes out of this is a finding."""
    run, documented = TARGETS[name]
    try:
        run(data)
    except documented:
        return
