"""Constants and limits of the trace file. docs/trace-format.md is normative; this is its mirror."""

from __future__ import annotations

import struct
from typing import Final

VERSION: Final = 1
MAGIC: Final = b"\x89ITST\r\n\x1a"
PREAMBLE: Final = struct.Struct("<8sI")  # magic, version

SYNC: Final = b"\xf5ITS"
# sync, type, codec, flags, stored length, raw length, chain digest; then a CRC-32 of these
FRAME: Final = struct.Struct("<4sBBHII16s")
CRC: Final = struct.Struct("<I")
FRAME_HEAD_SIZE_BYTES: Final = FRAME.size + CRC.size
CHAIN_SIZE_BYTES: Final = 16

HEADER: Final = 1
EVENTS: Final = 2
INDEX: Final = 3
END: Final = 4
CHECKPOINT: Final = 5

CODEC_NONE: Final = 0
CODEC_ZLIB: Final = 1
CODEC_ZSTD: Final = 2
CODEC_NAMES: Final = {"none": CODEC_NONE, "zlib": CODEC_ZLIB, "zstd": CODEC_ZSTD}

# Limits, checked before anything of that size is allocated.
MAX_FRAME_STORED_BYTES: Final = 2 << 20
MAX_FRAME_RAW_BYTES: Final = 2 << 20
MAX_HEADER_RAW_BYTES: Final = 1 << 20
MAX_EVENTS_PER_FRAME: Final = 65_536
# Unpacked as one array: what it may hold, an array in it may claim, 1024 deep, msgpack's limit.
MAX_EVENTS_AT_ONCE: Final = 4096
MAX_EVENT_FIELDS: Final = 64
MAX_EVENT_BYTES: Final = 1 << 20
MAX_TEXT_BYTES: Final = 65_536
MAX_HEADER_ITEMS: Final = 65_536
MAX_NESTING: Final = 4
MAX_HEADER_NESTING: Final = 8
MAX_INDEX_ENTRIES: Final = 32_768
MAX_CHECKPOINT_BYTES: Final = 4 << 20
CHECKPOINT_PART_BYTES: Final = 1 << 20
MAX_PROBLEMS_LISTED: Final = 1000
ZSTD_WINDOW_LOG_MAX: Final = 23
# Sequence numbers and their sum with a frame's events stay below this.
MAX_SEQ: Final = 1 << 62

# What a writer keeps back before it writes a frame, by default.
DEFAULT_BOUND_EVENTS: Final = 4096
DEFAULT_BOUND_MS: Final = 100
