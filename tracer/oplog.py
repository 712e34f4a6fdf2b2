"""Operational messages, one logger a source: JSON lines on stderr, or colours on a terminal.

Never on the event path: a structlog call costs many times what it costs to pack an event. structlog
is imported only when somebody asks for messages, because it is slow to import.
"""

from __future__ import annotations

import sys
from typing import Any

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_configured = False


class _Quiet:
    """Takes every message and says nothing."""

    def bind(self, **context: object) -> _Quiet:
        return self

    def debug(self, event: str, **context: object) -> None:
        """Drop it."""

    def info(self, event: str, **context: object) -> None:
        """Drop it."""


def configure(level: str) -> None:
    """Turn messages of `level` and above on. Warnings and errors are told in sentences anyway."""
    global _configured  # noqa: PLW0603 (one process has one standard error)
    _configured = level in ("debug", "info")
    if not _configured:
        return
    import structlog

    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get(source: str, **context: object) -> Any:
    """Return the logger of a source, with what is known of its trace bound."""
    if not _configured:
        return _Quiet()
    import structlog

    return structlog.get_logger(source=source, **context)
