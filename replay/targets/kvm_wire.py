"""The batches that itstrace and the program on a KVM host exchange through a shared memory.

Counterpart: `kvm_host/wire.h`, which has the same numbers; a test holds the two together. Nothing
that comes back is believed before its length and CRC-32 were checked.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Final, NamedTuple

from replay.targets.errors import TargetError

MAGIC: Final = 0x3165_7274_7374_6931
AREA_BYTES: Final = 4 << 20
REQUESTS_AT: Final = 4096
ANSWERS_AT: Final = REQUESTS_AT + AREA_BYTES
ACCESSES_AT: Final = 12 << 20
MAX_ACCESSES: Final = 2047  # that a vCPU makes in one go
SHARED_BYTES: Final = 16 << 20  # a power of two, as a PCI BAR is; the rest is not used
MAX_VMS: Final = 8
MAX_LISTING_BYTES: Final = 1 << 18  # of live LPIs, about 70 bytes each; more is no answer
MAX_DATA_BYTES: Final = 1 << 20  # of one request or answer

NEW, FREE, SET, GET, MSI, STORE, LOAD, WRITE, READ, PAGES = range(1, 11)
COPY, LIVE, SLOT, ABOUT, FILL, RENEW, BYE, HAS = range(11, 19)
ITS, GIC = 0, 1

_REQUEST: Final = struct.Struct("<IBBHQQQ")
_ANSWER: Final = struct.Struct("<QiI")
_ACCESS: Final = struct.Struct("<QQQQ")  # number (0: no more), address, value, state (0: to do)
# Native, so that it is stored at once: the other end looks while a `<Q` goes out byte by byte, and
# would take 0x100 behind 0xff for 0.
_WORD: Final = struct.Struct("@Q")
(
    _MAGIC, _ASKED, _ANSWERED, _DONE,
    _REQUEST_BYTES, _REQUEST_CRC, _ANSWER_BYTES, _ANSWER_CRC, _LIVES,
) = range(9)  # fmt: skip
_LOOK_SECONDS: Final = 0.0002


class Request(NamedTuple):
    """One thing to do; what x, y and z are depends on `op`."""

    op: int
    vm: int = 0
    sub: int = 0  # device of an attribute, log2 of an access's bytes, source of a copy
    cpu: int = 0  # or an attribute's group
    x: int = 0
    y: int = 0
    z: int = 0
    data: bytes = b""

    def packed(self) -> bytes:
        """Return its bytes."""
        head = _REQUEST.pack(self.op, self.vm, self.sub, self.cpu, self.x, self.y, self.z)
        return head + self.data + bytes(-len(self.data) % 8)


class Reply(NamedTuple):
    """What came of one."""

    value: int
    error: int  # 0, -errno, or what KVM_SIGNAL_MSI returned
    data: bytes


class Silent(TargetError):
    """No answer came in time."""


class Wire:
    """Our end of the shared memory. `alive` raises TargetError when the other end is gone."""

    def __init__(self, memory: mmap.mmap, alive: Callable[[], None], name: str) -> None:
        self._memory = memory
        self._alive = alive
        self._name = name
        self._asked = 0
        self._answered = 0  # requests of this `ask`, in batches that are over
        self.lost = False  # it did not answer, or not as it must

    def _word(self, at: int) -> int:
        value: int = _WORD.unpack_from(self._memory, 8 * at)[0]
        return value

    def _set(self, at: int, value: int) -> None:
        _WORD.pack_into(self._memory, 8 * at, value)

    @property
    def done(self) -> int:
        """How many requests of the last `ask` were carried out, of a vCPU's too."""
        done = self._answered + self._word(_DONE)
        for at in range(MAX_ACCESSES):
            number, _, _, state = _ACCESS.unpack_from(self._memory, ACCESSES_AT + at * _ACCESS.size)
            if not number or not state:
                return done + at
        return done + MAX_ACCESSES

    def greet(self, seconds: float) -> None:
        """Wait until the program is there."""
        self._wait(lambda: self._word(_MAGIC) == MAGIC, seconds, "its program did not start")

    def renew(self, seconds: float) -> None:
        """Have another program begin where one died: not with what it died of."""
        self._set(_ANSWERED, self._asked)
        self._set(_MAGIC, 0)
        self._set(_LIVES, self._word(_LIVES) + 1)
        self.greet(seconds)

    def ask(self, requests: Sequence[Request], seconds: float) -> list[Reply]:
        """Have requests carried out; return their answers."""
        replies: list[Reply] = []
        for batch in _batches(requests):
            self._answered = len(replies)
            replies += self._batch(batch, seconds)
        return replies

    def _batch(self, requests: Sequence[Request], seconds: float) -> list[Reply]:
        data = b"".join(request.packed() for request in requests)
        self._memory[REQUESTS_AT : REQUESTS_AT + len(data)] = data
        self._set(_REQUEST_BYTES, len(data))
        self._set(_REQUEST_CRC, zlib.crc32(data))
        self._set(_DONE, 0)
        self._asked += 1
        self._set(_ASKED, self._asked)
        self._wait(lambda: self._word(_ANSWERED) == self._asked, seconds, "it does not answer")
        try:
            return self._answers(len(requests))
        except TargetError:
            self.lost = True
            raise

    def _wait(self, there: Callable[[], bool], seconds: float, otherwise: str) -> None:
        end = monotonic() + seconds
        while not there():
            self._alive()
            if monotonic() > end:
                self.lost = True
                raise Silent(f"{self._name}: {otherwise} within {seconds:g} s")
            sleep(_LOOK_SECONDS)

    def _answers(self, count: int) -> list[Reply]:
        size = self._word(_ANSWER_BYTES)
        if size > AREA_BYTES:
            raise TargetError(f"{self._name}: an answer of {size} bytes cannot be")
        data = self._memory[ANSWERS_AT : ANSWERS_AT + size]
        if zlib.crc32(data) != self._word(_ANSWER_CRC):
            raise TargetError(f"{self._name}: its answer is damaged")
        return unpack(data, count, self._name)


def _batches(requests: Sequence[Request]) -> list[list[Request]]:
    """Return the requests in batches whose bytes, and whose answers' bytes, fit."""
    batches: list[list[Request]] = [[]]
    size = 0
    for request in requests:
        cost = max(_REQUEST.size + len(request.data) + 8, _ANSWER.size + answer_bytes(request))
        if size + cost > AREA_BYTES and batches[-1]:
            batches.append([])
            size = 0
        batches[-1].append(request)
        size += cost
    return batches


def answer_bytes(request: Request) -> int:
    """Return how many bytes of data may come back."""
    if request.op == READ:
        return request.y + 8
    if request.op == PAGES:
        return AREA_BYTES // 2
    if request.op == LIVE:
        return MAX_LISTING_BYTES
    return 512 if request.op == ABOUT else 0


def unpack(data: bytes, count: int, name: str) -> list[Reply]:
    """Return `count` answers.

    Raises:
        TargetError: there are fewer or more, or one does not fit.
    """
    replies = []
    at = 0
    while at + _ANSWER.size <= len(data):
        value, error, size = _ANSWER.unpack_from(data, at)
        at += _ANSWER.size
        if size > len(data) - at:
            break
        replies.append(Reply(value, error, data[at : at + size]))
        at += size + -size % 8
    if len(replies) != count or at != len(data):
        raise TargetError(f"{name}: {len(replies)} answers to {count} requests")
    return replies
