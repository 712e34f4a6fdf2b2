"""What can go wrong outside our own code. Each error names the file, the place and the way out.

TracerError
├── UsageError         a wrong call or option                       exit 2
├── TraceError         the trace file                               exit 3
│   ├── NotATrace      it is something else
│   ├── DamagedTrace   bytes that cannot be what was written
│   └── NewerTrace     written by a newer itstrace                  exit 4
├── SourceError        capture input that cannot be read            exit 3
└── WriteError         the output could not be written              exit 3

A divergence or a stale register is a result, not an error: exit 1.
"""

from __future__ import annotations


class TracerError(Exception):
    """Base of all errors that a user can meet; `exit_code` is what the command line returns."""

    exit_code = 3


class UsageError(TracerError):
    """A wrong call or option."""

    exit_code = 2


class TraceError(TracerError):
    """A trace file that cannot be used."""

    def __init__(self, path: str, offset: int, what: str) -> None:
        super().__init__(f"{path}: byte {offset:#x}: {what}")
        self.path = path
        self.offset = offset
        self.what = what


class NotATrace(TraceError):
    """The file does not begin as a trace does."""


class DamagedTrace(TraceError):
    """The file holds bytes that cannot be what was written."""


class NewerTrace(TraceError):
    """The file was written by a newer itstrace."""

    exit_code = 4


class SourceError(TracerError):
    """Capture input that cannot be read."""


class WriteError(TracerError):
    """The output could not be written."""
