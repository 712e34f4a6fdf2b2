"""Lines of a capture: files, pipes, gzip, and what is wrong with them."""

from __future__ import annotations

import gzip
import io
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import pytest

from tracer.errors import SourceError
from tracer.sources.lines import MAX_LINE_BYTES, LineReader

TOO_LONG = b"x" * (MAX_LINE_BYTES + 1)
JUST_FITS = b"x" * MAX_LINE_BYTES


class Pieces(io.RawIOBase):
    """A stream that hands out its bytes in given pieces, as a slow pipe does."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._pieces:
            return 0
        piece, rest = self._pieces[0][: len(buffer)], self._pieces[0][len(buffer) :]
        self._pieces[0:1] = [rest] if rest else []
        buffer[: len(piece)] = piece
        return len(piece)


class Broken(io.RawIOBase):
    """A stream that fails after its first bytes, as a disk does."""

    def __init__(self, *pieces: bytes) -> None:
        self._good = Pieces(*pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._good.readinto(buffer)
        if not count:
            raise OSError(5, "Input/output error")
        return count


def cut_up(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def reader(*pieces: bytes) -> LineReader:
    return LineReader(cast(BinaryIO, Pieces(*pieces)), "the.log")


@contextmanager
def piped(*pieces: bytes) -> Iterator[BinaryIO]:
    """A real pipe, with a thread at its other end."""
    read_end, write_end = os.pipe()

    def feed() -> None:
        try:
            with os.fdopen(write_end, "wb", buffering=0) as out:
                for piece in pieces:
                    out.write(piece)
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        with os.fdopen(read_end, "rb", buffering=0) as stream:
            yield cast(BinaryIO, stream)
    finally:
        thread.join()


# --- lines


@pytest.mark.parametrize(
    ("data", "lines", "complete"),
    [
        (b"", [], True),
        (b"\n", [b""], True),
        (b"one\n", [b"one"], True),
        (b"one", [b"one"], False),
        (b"one\ntwo\n", [b"one", b"two"], True),
        (b"one\ntwo", [b"one", b"two"], False),
        (b"one\n\ntwo\n", [b"one", b"", b"two"], True),
        (b"one\r\ntwo\r\n", [b"one\r", b"two\r"], True),  # who reads them takes the \r off
        (b"\x00\xff\n\xfe\n", [b"\x00\xff", b"\xfe"], True),
    ],
)
def test_lines_end_at_newlines(data: bytes, lines: list[bytes], complete: bool) -> None:
    lines_of = reader(data)
    assert list(lines_of) == lines
    assert lines_of.complete == complete


def test_the_last_line_is_known_to_be_cut_when_it_is_handed_out() -> None:
    lines = reader(b"one\ntw")
    assert [(line, lines.complete) for line in lines] == [(b"one", True), (b"tw", False)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 4096])
def test_where_the_pieces_end_makes_no_difference(size: int) -> None:
    rng = random.Random(size)
    data = b"".join(rng.randbytes(rng.randrange(30)) + b"\n" for _ in range(300)) + b"cut"
    lines = reader(*cut_up(data, size))
    assert list(lines) == data.split(b"\n")
    assert not lines.complete


# --- long lines


def test_a_line_at_the_limit_is_a_line() -> None:
    assert list(reader(JUST_FITS + b"\nnext\n")) == [JUST_FITS, b"next"]


def test_a_line_over_the_limit_keeps_its_place_but_not_its_bytes() -> None:
    assert list(reader(b"before\n" + TOO_LONG + b"\nnext\n")) == [b"before", None, b"next"]


@pytest.mark.parametrize("size", [1000, 65_536, 100_000, 1 << 18, 1 << 22])
def test_whether_a_line_is_over_long_does_not_depend_on_the_pieces(size: int) -> None:
    data = b"one\n" + TOO_LONG + b"\ntwo\n" + JUST_FITS + b"\n" + TOO_LONG * 9 + b"\nthree\n"
    assert list(reader(*cut_up(data, size))) == [b"one", None, b"two", JUST_FITS, None, b"three"]


def test_an_over_long_last_line() -> None:
    assert list(reader(b"one\n", TOO_LONG * 9)) == [b"one", None]


def test_two_over_long_lines_are_two() -> None:
    assert list(reader(TOO_LONG * 9 + b"\n" + TOO_LONG * 9 + b"\n")) == [None, None]


# --- sniff


def test_sniff_shows_the_start_and_loses_nothing_of_it() -> None:
    lines = reader(b"one\ntwo\n")
    assert lines.sniff() == b"one\ntwo\n"
    assert lines.sniff() == b"one\ntwo\n"
    assert list(lines) == [b"one", b"two"]


def test_sniff_of_a_large_file_is_256_kib() -> None:
    data = b"a line\n" * 100_000
    lines = LineReader(io.BytesIO(data), "the.log")
    assert lines.sniff() == data[: 1 << 18]
    assert len(list(lines)) == 100_000


def test_sniff_of_nothing_is_nothing() -> None:
    assert reader(b"").sniff() == b""


# --- gzip

TEXT = b"".join(b"line %d\n" % number for number in range(20_000))
ZIPPED = gzip.compress(TEXT, 6, mtime=0)


def test_gzip_is_recognised_by_its_first_bytes_not_by_its_name() -> None:
    lines = LineReader(io.BytesIO(ZIPPED), "the.log")
    assert lines.sniff().startswith(b"line 0\nline 1\n")
    assert list(lines) == TEXT.splitlines()


def test_gzip_members_behind_each_other_are_one_file() -> None:
    two = gzip.compress(b"one\ntw", mtime=0) + gzip.compress(b"o\nthree\n", mtime=0)
    assert list(reader(two)) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_gzip_is_recognised_however_its_bytes_arrive(size: int) -> None:
    assert list(reader(*cut_up(ZIPPED, size))) == TEXT.splitlines()


def test_a_cut_gzip_gives_what_it_has_and_then_the_error() -> None:
    lines = LineReader(io.BytesIO(ZIPPED[: len(ZIPPED) // 2]), "the.log.gz")
    got = []
    with pytest.raises(SourceError) as error:
        got.extend(lines)
    assert str(error.value) == (
        "the.log.gz: Compressed file ended before the end-of-stream marker was reached: "
        "the compressed file is damaged"
    )
    assert error.value.exit_code == 3
    assert got == TEXT.splitlines()[: len(got)]


def test_no_single_changed_byte_of_a_gzip_escapes_as_another_error() -> None:
    rng = random.Random(1)
    small = gzip.compress(TEXT[:3000], mtime=0)
    told = []
    for at in range(2, len(small)):
        damaged = bytearray(small)
        damaged[at] ^= 1 << rng.randrange(8)
        try:
            lines = LineReader(io.BytesIO(bytes(damaged)), "the.log.gz")
            lines.sniff()
            got = list(lines)
        except SourceError as error:
            told.append(str(error))
        else:
            assert got == TEXT[:3000].splitlines() or at < 10  # header bytes that mean nothing
    assert len(told) > len(small) * 0.9
    assert all(text.startswith("the.log.gz: ") for text in told)
    assert all(text.endswith(": the compressed file is damaged") for text in told)


def test_a_gzip_that_is_damaged_at_once_is_told_by_sniff() -> None:
    lines = LineReader(io.BytesIO(b"\x1f\x8b\x08\x00" + b"\xff" * 40), "the.log.gz")
    with pytest.raises(SourceError, match=r"^the\.log\.gz: .*: the compressed file is damaged$"):
        lines.sniff()


def test_two_bytes_of_gzip_and_no_more() -> None:
    with pytest.raises(SourceError, match=r"the compressed file is damaged$"):
        list(LineReader(io.BytesIO(b"\x1f\x8b"), "the.log.gz"))


def test_a_long_line_in_a_gzip_is_over_long_too() -> None:
    packed = gzip.compress(b"one\n" + b"x" * 10_000_000 + b"\ntwo\n", mtime=0)
    assert list(reader(packed)) == [b"one", None, b"two"]


# --- errors of the system


@pytest.mark.parametrize("good", [(), (b"one\n",)], ids=["at once", "later"])
def test_an_error_of_the_disk_names_the_file(good: tuple[bytes, ...]) -> None:
    with pytest.raises(SourceError, match=r"^the\.log: .*Input/output error"):
        list(LineReader(cast(BinaryIO, Broken(*good)), "the.log"))


def test_an_error_of_the_disk_is_not_called_a_damaged_compressed_file() -> None:
    lines = LineReader(cast(BinaryIO, Broken(b"one\n")), "the.log")
    with pytest.raises(SourceError) as error:
        list(lines)
    assert "compressed" not in str(error.value)


# --- pipes


def test_a_pipe_reads_as_a_file_does() -> None:
    with piped(*cut_up(TEXT, 999)) as stream:
        lines = LineReader(stream, "-")
        assert list(lines) == TEXT.splitlines()


def test_a_pipe_of_gzip() -> None:
    with piped(ZIPPED) as stream:
        lines = LineReader(stream, "-")
        assert list(lines) == TEXT.splitlines()


def test_a_pipe_that_closes_in_the_middle_of_a_line() -> None:
    with piped(b"one\ntw") as stream:
        lines = LineReader(stream, "-")
        assert list(lines) == [b"one", b"tw"]
        assert not lines.complete


def test_an_empty_pipe() -> None:
    with piped() as stream:
        lines = LineReader(stream, "-")
        assert lines.sniff() == b""
        assert list(lines) == []
