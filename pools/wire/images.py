"""Width and height of an image from the first bytes of its file, as a `data:` URL carries them.

Read as in the formats' own documents: PNG (IHDR, RFC 2083), GIF (logical screen, GIF89a), JPEG (start of frame, ITU
T.81 annex B), WebP (VP8, VP8L and VP8X chunks, RFC 9649). Nothing is decompressed.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple


class ImageSize(NamedTuple):
    """Pixels."""

    width: int
    height: int


FIRST_BYTES: Final = 1024  # enough for PNG, GIF and WebP, and for a JPEG without a thumbnail
MOST_BYTES: Final = 1024 * 1024  # of a JPEG whose start of frame stands behind thumbnails and colour profiles
_JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_JPEG_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def size_in_data_url(url: str) -> ImageSize | None:
    """The size of a base64 `data:` URL's image; None for another URL, another format, or a broken file."""
    head, comma, _ = url[:200].partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    start = len(head) + 1
    for length in (FIRST_BYTES, MOST_BYTES):
        size = size_of(_decoded(url, start, length))
        if size is not None or len(url) - start <= length * 4 // 3:
            return size
    return None


def size_of(data: bytes) -> ImageSize | None:
    """The size by a file's first bytes; None where they do not tell."""
    size = None
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        size = ImageSize(_big(data, 16, 4), _big(data, 20, 4))
    elif data.startswith((b"GIF87a", b"GIF89a")):
        size = ImageSize(_little(data, 6, 2), _little(data, 8, 2))
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        size = _webp(data)
    elif data.startswith(b"\xff\xd8"):
        size = _jpeg(data)
    return size if size is not None and size.width > 0 and size.height > 0 else None


def _decoded(url: str, start: int, length: int) -> bytes:
    """The first `length` bytes of the payload; short of it where the base64 is broken."""
    piece = url[start : start + length * 4 // 3 // 4 * 4]
    try:
        return base64.b64decode(piece + "=" * (-len(piece) % 4))
    except (binascii.Error, ValueError):
        return b""


def _webp(data: bytes) -> ImageSize | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return ImageSize(1 + _little(data, 24, 3), 1 + _little(data, 27, 3))
    if kind == b"VP8L" and len(data) >= 25:
        bits = _little(data, 21, 4)
        return ImageSize(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 " and len(data) >= 30:
        return ImageSize(_little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF)
    return None


def _jpeg(data: bytes) -> ImageSize | None:
    """Walk over the segments up to a start of frame."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            return ImageSize(_big(data, at + 7, 2), _big(data, at + 5, 2))
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _JPEG_ALONE:
            at += 2
        else:
            at += 2 + _big(data, at + 2, 2)
    return None


def _big(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "big") if len(data) >= at + length else 0


def _little(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little") if len(data) >= at + length else 0
