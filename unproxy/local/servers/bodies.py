"""HTTP request bodies as pieces of plain bytes: by length or chunked, compressed or not."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Protocol

PIECE_BYTES = 256 * 1024
CHUNK_LINE_BYTES_MAX = 4096


class BodyError(Exception):
    """The body contradicts the head of the request."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def body_of(headers: Mapping[str, str], stream: BinaryIO) -> Iterator[bytes]:
    """Yield the body as the client sent it. Raises BodyError if it ends early."""
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return _chunks(stream)
    length = headers.get("Content-Length", "0")
    if not length.isdigit():
        raise BodyError(f"Content-Length {length!r} is not a number")
    return _exactly(int(length), stream)


def decompressed(encoding: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Return the content of a body with this Content-Encoding. Raises BodyError."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return pieces
    maker = _DECOMPRESSORS.get(encoding)
    if maker is None:
        raise BodyError(f"Content-Encoding {encoding} is not known; known are {', '.join(sorted(_DECOMPRESSORS))}")
    return _decompress(encoding, maker, pieces)


def _exactly(length: int, stream: BinaryIO) -> Iterator[bytes]:
    while length:
        piece = stream.read(min(length, PIECE_BYTES))
        if not piece:
            raise BodyError("the client went away before the end of its body")
        length -= len(piece)
        yield piece


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a chunked body (RFC 9112 section 7.1)."""
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


def _decompress(encoding: str, maker: Callable[[], _Decompressor], pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress one frame after another, as clients may send one per block."""
    current = maker()
    begun = False
    for piece in pieces:
        while piece:
            try:
                plain = current.decompress(piece)
            except Exception as error:  # noqa: BLE001  # three libraries, three error trees
                raise BodyError(f"the body is not {encoding}: {error}") from None
            begun = True
            piece = b""
            if current.eof:
                piece, current, begun = current.unused_data or b"", maker(), False
            if plain:
                yield plain
    if begun:
        raise BodyError(f"the {encoding} body ends in the middle")


def _gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=31)


def _deflate() -> _Decompressor:
    return zlib.decompressobj()


def _lz4() -> _Decompressor:
    from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]  # it has none

    made: _Decompressor = LZ4FrameDecompressor()
    return made


def _zstd() -> _Decompressor:
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdDecompressor
    else:
        from backports.zstd import ZstdDecompressor

    return ZstdDecompressor()


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "lz4": _lz4,
    "zstd": _zstd,
}
