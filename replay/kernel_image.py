"""Which kernel is in an image? Read from its banner, whatever it is packed in.

Facts: Linux Documentation/arch/arm64/booting.rst (Image, or gzip of it) and
drivers/firmware/efi/libstub/zboot-header.S (an EFI image that unpacks itself: `zimg` at 4, where
its payload begins at 8, its size at 12, its compression at 24).
"""

from __future__ import annotations

import re
import sys
import zlib
from pathlib import Path
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_STORED_BYTES: Final = 256 << 20
MAX_IMAGE_BYTES: Final = 512 << 20
NO_BANNER: Final = "unknown"
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_BANNER: Final = re.compile(rb"Linux version ([\x20-\x7e]{1,500})")


def banner(path: Path) -> str:
    """Return the release and version in an image, as `uname -r -v` says them, or NO_BANNER."""
    with path.open("rb") as stream:
        data = stream.read(MAX_STORED_BYTES)
    texts = [text.decode("ascii") for text in _BANNER.findall(_unpacked(data))]
    if not texts:
        return NO_BANNER
    text = next((each for each in texts if " #1" in each), texts[0])  # some have a draft before it
    version = text.find(" #")
    return f"{text.partition(' ')[0]}{text[version:] if version >= 0 else ''}".strip()


def _unpacked(data: bytes) -> bytes:
    """Return an image without what it is packed in; as it is when that is not known."""
    if data[4:8] == b"zimg":
        start, size = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
        data = data[start : start + size]
    try:
        if data[:2] == _GZIP:
            return zlib.decompressobj(31).decompress(data, MAX_IMAGE_BYTES)
        if data[:4] == _ZSTD:
            return zstd.ZstdDecompressor().decompress(data, MAX_IMAGE_BYTES)
    except (zlib.error, zstd.ZstdError):
        return b""
    return data
