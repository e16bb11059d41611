"""Encode an indexed PNG, small and exact, which the page's script can read back."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def png(indices: NDArray[np.uint8], colours: list[tuple[int, int, int]], transparent: int) -> bytes:
    """Encode an image.

    Args:
        indices: Palette index of each pixel, ``(height, width)``.
        colours: The palette, 256 of red, green, blue.
        transparent: Index that is drawn transparent.
    """
    height, width = indices.shape
    # One filter byte before each line; with 0 (none) the script can read indices after inflating.
    lines = np.zeros((height, width + 1), np.uint8)
    lines[:, 1:] = indices
    alpha = bytes(0 if i == transparent else 255 for i in range(transparent + 1))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(c for rgb in colours for c in rgb)),
            _chunk(b"tRNS", alpha),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
