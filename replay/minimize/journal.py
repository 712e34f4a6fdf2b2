"""What was answered of which candidate, kept so that a search that was killed goes on.

A line an answer: the digest of the candidate, then 1 or 0. The search asks the same questions in
the same order when it is started again, so nothing else needs to be kept. The first line says of
which search the answers are; a last line that was torn by a kill is left out.
"""

from __future__ import annotations

import errno
import os
from hashlib import blake2b
from pathlib import Path
from typing import Final, Self

from tracer.errors import UsageError, WriteError

_FIRST: Final = "itstrace.minimize.journal/1 "
_DIGEST_BYTES: Final = 16
_LINE_CHARACTERS: Final = 2 * _DIGEST_BYTES + 3  # with " 1" and the newline
MAX_JOURNAL_BYTES: Final = 1 << 30


class Journal:
    """Answers, by digest; in memory only unless it is opened on a file."""

    def __init__(self) -> None:
        self._answers: dict[bytes, bool] = {}
        self._file: int | None = None
        self.path: Path | None = None
        self.resumed = 0  # answers that were there already
        self._stage = 0

    @classmethod
    def on(cls, path: Path, search: str) -> Self:
        """Return the journal at `path` of the search that `search` names, made if it is not there.

        Raises:
            UsageError: it is no journal, or one of another search.
        """
        journal = cls()
        journal.path = path
        first = f"{_FIRST}{search}\n"
        try:
            journal._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            whole = journal._take(first)
            os.ftruncate(journal._file, whole)
            if not whole:
                os.write(journal._file, first.encode())
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise WriteError(f"{path}: {error.strerror}") from error
            raise UsageError(f"{path}: {error.strerror}") from error
        return journal

    def _take(self, first: str) -> int:
        """Read what is there; return how many bytes of it are whole."""
        assert self._file is not None
        if os.fstat(self._file).st_size > MAX_JOURNAL_BYTES:
            raise UsageError(f"{self.path}: too large for a journal of minimize")
        with os.fdopen(os.dup(self._file), "rb") as stream:
            line = stream.readline(len(first) + 1).decode("ascii", "replace")
            if line != first:
                if first.startswith(line):
                    return 0  # killed while it was made
                raise UsageError(
                    f"{self.path}: not the journal of this search (another trace, signature or "
                    "version): remove it, or give another one with --journal"
                )
            whole = len(first)
            while (line := stream.readline(_LINE_CHARACTERS + 1).decode("ascii", "replace")) and (
                answer := _parsed(line)
            ):
                self._answers[answer[0]] = answer[1]
                whole += len(line)
        self.resumed = len(self._answers)
        return whole

    def next_stage(self) -> None:
        """Keep what is answered from here on apart: an oracle asks otherwise about a candidate."""
        self._stage += 1

    def _key(self, digest: bytes) -> bytes:
        if not self._stage:
            return digest
        stage = self._stage.to_bytes(2, "little")
        return blake2b(digest, digest_size=_DIGEST_BYTES, salt=stage).digest()

    def get(self, digest: bytes) -> bool | None:
        """Return what was answered, or None."""
        return self._answers.get(self._key(digest))

    def put(self, digest: bytes, shows: bool) -> None:  # noqa: FBT001 (an answer)
        """Take an answer in; it is in the file when this returns.

        Raises:
            WriteError: it could not be written.
        """
        key = self._key(digest)
        self._answers[key] = shows
        if self._file is not None:
            try:
                os.write(self._file, f"{key.hex()} {shows:d}\n".encode())
            except OSError as error:
                raise WriteError(f"{self.path}: {error.strerror}") from error

    def close(self, *, remove: bool = False) -> None:
        """Close the file, and remove it when the search is done."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            if remove and self.path:
                self.path.unlink(missing_ok=True)


def _parsed(line: str) -> tuple[bytes, bool] | None:
    if len(line) != _LINE_CHARACTERS or line[-3:] not in (" 0\n", " 1\n"):
        return None
    try:
        return bytes.fromhex(line[: 2 * _DIGEST_BYTES]), line[-2] == "1"
    except ValueError:
        return None
