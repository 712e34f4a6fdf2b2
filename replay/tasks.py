"""What a process or a machine is asked for and answers: bytes in, bytes out, and nothing but data in them.

A task is carried out by the same sources that asked for it, or not at all: another itstrace may find other
things. What goes wrong in our own code is raised where the answer is awaited, as in one process.
Counterparts: `replay.pools`, which carries the bytes; `replay.corpus_jobs` and `replay.segments`, which ask.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import msgpack

from replay.sources import digest_of
from tracer.errors import TracerError

# What can be asked -> (module, the function that is given it and returns its answer).
_ASKED: Final = {
    "traces": ("replay.corpus_jobs", "judged"),
    "segment": ("replay.segments.work", "replayed"),
}
_TEXT: Final = "surrogatepass"  # the name of a file may be no UTF-8


class OtherSources(TracerError):
    """Whoever was asked has another itstrace."""

    exit_code = 4


class TaskError(TracerError):
    """What a task met and says so: with its own exit code."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def task(what: str, value: Any) -> bytes:
    """Return a task."""
    packed: bytes = msgpack.packb(
        {"what": what, "sources": sources(), "value": value}, unicode_errors=_TEXT
    )
    return packed


def answer(packed: bytes) -> bytes:
    """Carry out a task; what it meets is in the answer."""
    asked = msgpack.unpackb(packed, use_list=False, unicode_errors=_TEXT)
    found: dict[str, Any]
    if asked["sources"] != sources():
        found = {"other": True}
    else:
        try:
            module, name = _ASKED[asked["what"]]
            carry_out: Callable[[Any], Any] = getattr(import_module(module), name)
            found = {"value": carry_out(asked["value"])}
        except TracerError as error:
            found = {"error": str(error), "code": error.exit_code}
        except Exception:  # noqa: BLE001 (it is raised again where the answer is awaited)
            found = {"bug": traceback.format_exc()}
    done: bytes = msgpack.packb(found, unicode_errors=_TEXT)
    return done


def value_of(answered: bytes) -> Any:
    """Return what an answer holds.

    Raises:
        TaskError: the task met it.
        OtherSources: nobody carried it out.
        RuntimeError: a bug of ours.
    """
    found = msgpack.unpackb(answered, use_list=False, unicode_errors=_TEXT)
    if "bug" in found:
        raise RuntimeError(found["bug"])
    if "other" in found:
        raise OtherSources(
            "a worker has another itstrace than this one, which may find other things: "
            "install the same on all machines"
        )
    if "error" in found:
        raise TaskError(found["error"], found["code"])
    return found["value"]


def sources() -> bytes:
    """Return a digest of all sources of this itstrace."""
    return digest_of("tracer/**/*.py", "replay/**/*.py")
