"""Reads HTTP request bodies as pieces of plain bytes: with a length or chunked, compressed or not."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

PIECE_BYTES = 256 * 1024
CHUNK_LINE_BYTES_MAX = 4096
_KNOWN = ("deflate", "gzip", "lz4", "zstd")


class BodyError(Exception):
    """The body is incomplete, or not as the head of the request describes it."""


def body_of(headers: Mapping[str, str], stream: BinaryIO) -> Iterator[bytes]:
    """Return the pieces of the body as the client sent it. Raises BodyError if it ends early."""
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return _chunks(stream)
    length = headers.get("Content-Length", "0")
    if not length.isdigit():
        raise BodyError(f"Content-Length {length!r} is not a number")
    return _exactly(int(length), stream)


def decompressed(encoding: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Return the pieces of a body's content, decompressed by its Content-Encoding. Raises BodyError."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return pieces
    if encoding not in _KNOWN:
        raise BodyError(f"Content-Encoding {encoding} is not known; known are {', '.join(_KNOWN)}")
    return _decompress(encoding, pieces)


def _exactly(length: int, stream: BinaryIO) -> Iterator[bytes]:
    while length:
        piece = stream.read(min(length, PIECE_BYTES))
        if not piece:
            raise BodyError("the client went away before the end of its body")
        length -= len(piece)
        yield piece


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the pieces of a chunked body (RFC 9112 section 7.1)."""
    while True:
        line = stream.readline(CHUNK_LINE_BYTES_MAX)
        try:
            size = int(line.partition(b";")[0].strip(), 16)
        except ValueError:
            raise BodyError("the client went away, or sent a chunk without its size") from None
        if size == 0:
            while stream.readline(CHUNK_LINE_BYTES_MAX).strip():
                continue
            return
        yield from _exactly(size, stream)
        stream.readline(CHUNK_LINE_BYTES_MAX)


def _decompress(encoding: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the decompressed pieces. The body may consist of several frames, as some clients send one per block."""
    frame = _frame(encoding)
    begun = False
    for piece in pieces:
        left = piece
        while left:
            try:
                plain = frame.decompress(left)
            except Exception as error:  # noqa: BLE001  # three libraries, three error trees
                raise BodyError(f"the body is not {encoding}: {error}") from None
            begun, left = True, b""
            if frame.eof:
                left, frame, begun = frame.unused_data or b"", _frame(encoding), False
            if plain:
                yield plain
    if begun:
        raise BodyError(f"the {encoding} body ends in the middle")


def _frame(encoding: str) -> Any:
    """Return a decompressor of one frame, with the interface of `zlib.decompressobj`."""
    if encoding in ("gzip", "deflate"):
        return zlib.decompressobj(wbits=31 if encoding == "gzip" else zlib.MAX_WBITS)
    if encoding == "lz4":
        from lz4.frame import LZ4FrameDecompressor as Decompressor  # type: ignore[import-untyped]  # it has no types
    elif sys.version_info >= (3, 14):
        from compression.zstd import ZstdDecompressor as Decompressor
    else:
        from backports.zstd import ZstdDecompressor as Decompressor
    return Decompressor()
