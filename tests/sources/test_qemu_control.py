"""How a recorder is asked for a reset: by name, by the right user, with an answer."""

from __future__ import annotations

import os
from threading import Thread

import pytest

from tracer.errors import SourceError, UsageError
from tracer.sources import qemu_control
from tracer.sources.qemu_control import Control, answer, ask_reset


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "t.itstrace"
    path.write_bytes(b"")
    return path


@pytest.fixture
def control(trace):
    made = Control(str(trace))
    yield made
    made.close()


def asking(path):
    """Ask in a thread; return it and what came of it."""
    came = []

    def ask():
        try:
            came.append(ask_reset(str(path)))
        except SourceError as error:
            came.append(error)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    return thread, came


def accepted(control):
    while (peer := control.accept()) is None:
        pass
    return peer


def test_a_reset_is_asked_for_and_answered(trace, control):
    assert control.accept() is None
    link = trace.parent / "link"
    link.symlink_to(trace)
    thread, came = asking(link)
    answer(accepted(control))
    thread.join()
    assert came == [None]


def test_a_recording_that_ends_is_said(trace, control):
    thread, came = asking(trace)
    accepted(control).close()
    thread.join()
    assert "the recording has ended, and the VM was not reset" in str(came[0])


def test_another_user_is_not_listened_to(trace, control, monkeypatch):
    monkeypatch.setattr(qemu_control, "_CREDENTIALS", Foreigner())
    thread, came = asking(trace)
    while thread.is_alive():
        assert control.accept() is None
    assert isinstance(came[0], SourceError)


class Foreigner:
    size = 12

    def unpack(self, raw):
        return (1, os.geteuid() + 1, 1)


def test_two_recorders_of_one_file_are_too_many(trace, control):
    with pytest.raises(OSError, match="in use"):
        Control(str(trace))


def test_nobody_answers(trace):
    with pytest.raises(UsageError, match="no `itstrace record qemu` of this machine"):
        ask_reset(str(trace))
