"""How a VM that is being recorded is asked for a reset: a socket that is named after its trace.

The name is made of the trace's own and of its folder's device and inode, in Linux's abstract name
space: it needs no file, so that none is left behind, and holds for every path to the trace. A
connection is the request; a line of text and its end are the answer. Only the user who records, and
root, are listened to.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

from tracer.errors import SourceError, UsageError

DONE: Final = b"done\n"
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED
_MAX_WAITING: Final = 4
_MAX_ANSWER_BYTES: Final = 1000


def _name(trace: str) -> bytes:
    """Return the socket's name: it has room for 107 bytes.

    Raises:
        OSError: the folder is not there.
    """
    path = Path(trace).resolve()
    folder = path.parent.stat()
    place = f"{folder.st_dev:x}-{folder.st_ino:x}-{path.name}"
    return b"\0itstrace-" + blake2b(os.fsencode(place), digest_size=16).hexdigest().encode()


class Control:
    """The recorder's side.

    Raises:
        OSError: another recorder writes to the same file.
    """

    def __init__(self, trace: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)  # noqa: FBT003 - that is how it is called
        try:
            self._listener.bind(_name(trace))
            self._listener.listen(_MAX_WAITING)
        except OSError:
            self._listener.close()
            raise

    def fileno(self) -> int:
        """Return what is to be polled."""
        return self._listener.fileno()

    def accept(self) -> socket.socket | None:
        """Return the connection of one who may ask."""
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return None
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(raw)[1] in (0, os.geteuid()):
            return peer
        peer.close()
        return None

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def answer(peer: socket.socket) -> None:
    """Tell one who asked that it was done."""
    with peer, suppress(OSError):
        peer.sendall(DONE)


def ask_reset(trace: str) -> None:
    """Have the VM whose trace is being written to `trace` reset; return when it was.

    Raises:
        UsageError: nobody records into that file.
        SourceError: the recording ended before the reset.
    """
    try:
        name = _name(trace)
    except OSError as error:
        raise UsageError(f"{trace}: {error.strerror}") from error
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(name)
            said = sock.recv(_MAX_ANSWER_BYTES)
        except ConnectionRefusedError as error:
            raise UsageError(
                f"{trace}: no `itstrace record qemu` of this machine is writing it"
            ) from error
        except OSError as error:
            raise SourceError(f"{trace}: {error.strerror or error}") from error
    if said != DONE:
        raise SourceError(f"{trace}: the recording has ended, and the VM was not reset")
