"""Decompression of a gzip body (RFC 1952) in pieces: in linear time, with bounds on its members and compression ratio."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from http import HTTPStatus

from producers.network.inputs import Outcome
from producers.network.pending_requests import Refused
from schemas.sections.inputs import InputSettings

PIECE_BYTES = 256 * 1024
"""Bytes decompressed at once, in about a millisecond; other requests get their turn between two pieces."""
RATIO_FREE_BYTES = 1024 * 1024
"""Decompressed size up to which any compression ratio is accepted."""


class Gunzip:
    """The decompression of one body. Its methods raise Refused if the body is not gzip or exceeds the bounds."""

    def __init__(self, settings: InputSettings) -> None:
        self._members_max, self._ratio_max = settings.http_gzip_members_max, settings.http_gzip_ratio_max
        self._member = zlib.decompressobj(wbits=31)
        self._members = self._packed_bytes = self._unpacked_bytes = 0

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Yield the decompressed next part of the body, in pieces of at most PIECE_BYTES."""
        self._packed_bytes += len(packed)
        while packed:
            if self._members == 0 or self._member.eof:
                self._begin_member()
            try:
                piece = self._member.decompress(packed, PIECE_BYTES)
            except zlib.error:
                raise Refused(HTTPStatus.BAD_REQUEST, Outcome.HTTP_WRONG, "the body is not gzip") from None
            self._unpacked_bytes += len(piece)
            if self._unpacked_bytes > max(RATIO_FREE_BYTES, self._ratio_max * self._packed_bytes):
                raise _too_large(
                    f"a gzip body unpacks to at most {self._ratio_max:g} times its size; raise inputs.http_gzip_ratio_max"
                )
            packed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            yield piece

    def finish(self) -> None:
        """Raise Refused if the last member is incomplete."""
        if self._members and not self._member.eof:
            raise Refused(HTTPStatus.BAD_REQUEST, Outcome.HTTP_WRONG, "the gzip body ended early")

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > self._members_max:
            raise _too_large(
                f"a gzip body has at most {self._members_max} members; send one, or raise inputs.http_gzip_members_max"
            )
        self._member = zlib.decompressobj(wbits=31)


def _too_large(words: str) -> Refused:
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Outcome.HTTP_TOO_LARGE, words)
