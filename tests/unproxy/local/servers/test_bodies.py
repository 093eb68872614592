"""Request bodies, as clients frame and compress them."""

from __future__ import annotations

import gzip
import io
import zlib

import lz4.frame  # type: ignore[import-untyped]  # it has none
import pytest
from backports import zstd

from unproxy.local.servers.bodies import BodyError, body_of, decompressed

TEXT = b'{"a": 1}\n' * 1000
PACKED = {
    "gzip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "lz4": lz4.frame.compress(TEXT),
    "zstd": zstd.compress(TEXT),
}


def in_pieces(content: bytes, size: int = 7) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


@pytest.mark.parametrize("encoding", PACKED)
def test_every_compression(encoding: str) -> None:
    """One frame or several give the text, however they are cut."""
    packed = PACKED[encoding]

    assert b"".join(decompressed(encoding, iter(in_pieces(packed)))) == TEXT
    assert b"".join(decompressed(encoding, iter(in_pieces(packed * 2)))) == TEXT * 2


@pytest.mark.parametrize("encoding", PACKED)
def test_truncated_or_garbled(encoding: str) -> None:
    """Half a body is an error and never a shorter text."""
    for broken in (PACKED[encoding][:-9], b"this is not compressed at all"):
        with pytest.raises(BodyError):
            list(decompressed(encoding, iter(in_pieces(broken))))


def test_unknown_compression() -> None:
    """The message names those that are known."""
    with pytest.raises(BodyError, match="br is not known; known are deflate, gzip, lz4, zstd"):
        decompressed("br", iter([b"x"]))


def test_chunked() -> None:
    """Chunks are joined, extensions and trailers skipped, and what follows is left alone."""
    stream = io.BytesIO(b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\nNEXT")

    assert b"".join(body_of({"Transfer-Encoding": "chunked"}, stream)) == b"abcde"
    assert stream.read() == b"NEXT"


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"Content-Length": "10"}, b"short"),
        ({"Content-Length": "ten"}, b""),
        ({"Transfer-Encoding": "chunked"}, b"5\r\nab"),
        ({"Transfer-Encoding": "chunked"}, b"5\r\nabcde\r\n"),
        ({"Transfer-Encoding": "chunked"}, b"zz\r\n"),
    ],
)
def test_ends_early(headers: dict[str, str], sent: bytes) -> None:
    """A client that goes away in the middle has not sent a shorter body."""
    with pytest.raises(BodyError):
        list(body_of(headers, io.BytesIO(sent)))
