"""The floor under worker and correlator: the same lines decoded and as many rows encoded, with nothing in between."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from schemas.parsers.linux import sockets
from schemas.parsers.network import suricata
from schemas.tables import NetworkEvent

DECODERS: dict[str, msgspec.json.Decoder[Any]] = {"suricata": suricata._EVE, "sockets": sockets._LINE}
"""The very decoders of the dialects; their names are private as no other module should need them."""

_encode = msgspec.json.Encoder().encode
_decode_row = msgspec.json.Decoder(NetworkEvent).decode


def rows_of(encoded: Iterable[bytes]) -> list[NetworkEvent]:
    """Rows as objects again, to be encoded once more."""
    return [_decode_row(row) for row in encoded]


def decode(dialect: str, value: bytes) -> int:
    """Decode every line of a message; how many there were."""
    read = DECODERS[dialect].decode
    lines = value.split(b"\n")
    for line in lines:
        read(line)
    return len(lines)


def encode_some(rows: Iterator[NetworkEvent], count: int) -> int:
    """Encode so many rows; their bytes."""
    size = 0
    for _ in range(count):
        size += len(_encode(next(rows)))
    return size


def measure(messages: Sequence[tuple[str, bytes]], encoded: Iterable[bytes], repeats: int) -> float:
    """CPU seconds for dialect and value of each message, and for the rows that were made of them; the best of some."""
    rows = rows_of(encoded)
    best = float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        for dialect, value in messages:
            decode(dialect, value)
        encode_some(iter(rows), len(rows))
        best = min(best, time.process_time() - begun)
    return best
