"""A screenshot as a small PNG: at most 256 colours, the rarer ones as the nearest of those."""

from __future__ import annotations

import struct
import zlib
from collections import Counter

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB, _PALETTE, _RGBA = 2, 3, 6
COLOURS = 256
_STEP = 8  # colours nearer than this in each channel are one


def smaller(data: bytes) -> bytes:
    """Return the same picture with a palette."""
    width, height, channels, rows = _decoded(data)
    pixels = [tuple(row[at : at + 3]) for row in rows for at in range(0, len(row), channels)]
    counted = Counter(pixels)
    exact = [colour for colour, _ in counted.most_common(COLOURS // 2)]
    coarse = Counter[tuple[int, ...]]()
    for colour, count in counted.items():
        coarse[_coarse(colour)] += count
    rest = [colour for colour, _ in coarse.most_common(COLOURS) if colour not in exact]
    palette = [*exact, *rest][:COLOURS]
    nearest = {colour: _nearest(colour, palette) for colour in counted}
    indexes = bytes(nearest[pixel] for pixel in pixels)
    lines = b"".join(b"\0" + indexes[at : at + width] for at in range(0, len(indexes), width))
    header = struct.pack(">IIBBBBB", width, height, 8, _PALETTE, 0, 0, 0)
    chunks = (
        (b"IHDR", header), (b"PLTE", bytes(part for each in palette for part in each)),
        (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""),
    )  # fmt: skip
    return _SIGNATURE + b"".join(_chunk(name, body) for name, body in chunks)


def _chunk(name: bytes, body: bytes) -> bytes:
    check = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)


def _coarse(colour: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(part // _STEP * _STEP for part in colour)


def _nearest(colour: tuple[int, ...], palette: list[tuple[int, ...]]) -> int:
    far = [sum((a - b) ** 2 for a, b in zip(colour, each, strict=True)) for each in palette]
    return far.index(min(far))


def _decoded(data: bytes) -> tuple[int, int, int, list[bytearray]]:
    """Return (width, height, bytes a pixel, rows) of a PNG of 8 bits a channel."""
    assert data.startswith(_SIGNATURE)
    at, packed = len(_SIGNATURE), b""
    width = height = channels = 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        at += size + 12
        if name == b"IHDR":
            width, height, depth, kind, *_, interlaced = struct.unpack(">IIBBBBB", body)
            assert (depth, interlaced) == (8, 0)
            channels = {_RGB: 3, _RGBA: 4}[kind]
        elif name == b"IDAT":
            packed += body
    raw, stride = zlib.decompress(packed), width * channels
    rows: list[bytearray] = []
    above = bytearray(stride)
    for row in range(height):
        start = row * (stride + 1)
        line = bytearray(raw[start + 1 : start + 1 + stride])
        _unfilter(raw[start], line, above, channels)
        rows.append(line)
        above = line
    return width, height, channels, rows


def _unfilter(kind: int, line: bytearray, above: bytearray, channels: int) -> None:
    for at in range(len(line) if kind else 0):
        left = line[at - channels] if at >= channels else 0
        corner = above[at - channels] if at >= channels else 0
        up = above[at]
        guess = (left, up, (left + up) // 2, _paeth(left, up, corner))[kind - 1]
        line[at] = (line[at] + guess) & 0xFF


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    far = [(abs(guess - each), order) for order, each in enumerate((left, up, corner))]
    return (left, up, corner)[min(far)[1]]
