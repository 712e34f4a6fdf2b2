"""What holds for all tests, wherever they are started."""

from __future__ import annotations

import signal

# A shell starts what runs in its background with SIGINT ignored, and what the tests start would
# inherit that: none of it could be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
