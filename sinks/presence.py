"""A check of whether the rows of an insert are stored, although ClickHouse reported success.

ClickHouse stores a token before it puts the rows in place: a write and a rename, some 60 µs apart. If it is killed
between the two, it takes the next insert with this token for a duplicate, drops it and reports success. Tokens are
also lost: they are kept for a month and a limited number of inserts, and are not synced to disk. The sink therefore
checks before and after it repeats an insert. It does not check the first try of an insert, because the check takes the
time to decode the keys of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice

import msgspec
from clickhouse_connect.driver.client import Client

from schemas.ddl import VERSIONS, identity, quoted

KEYS_MAX = 5_000
"""Largest number of keys in a query."""

UNREADABLE = frozenset(
    (
        32,  # ATTEMPT_TO_READ_AFTER_EOF
        33,  # CANNOT_READ_ALL_DATA
        40,  # CHECKSUM_DOESNT_MATCH
        107,  # FILE_DOESNT_EXIST
        117,  # INCORRECT_DATA
        226,  # NO_FILE_IN_DATA_PART
        228,  # BAD_SIZE_OF_FILE_IN_DATA_PART
        246,  # CORRUPTED_DATA
        271,  # CANNOT_DECOMPRESS
        432,  # UNKNOWN_CODEC
    )
)
"""Error codes of ClickHouse for a query on a table with a damaged part."""

_QUERY_BYTES_MAX = 64 * 1024 * 1024

Key = tuple[str, ...]


def all_there(client: Client, database: str, table: str, rows: Sequence[bytes]) -> bool:
    """Return whether each of these rows is in the table, in the same or a later version. Raises ClickHouseError."""
    wanted = _versions_by_key(table, rows)
    return all(_found(client, f"{quoted(database)}.{quoted(table + VERSIONS)}", table, some) for some in _some(wanted))


def _found(client: Client, place: str, table: str, wanted: Mapping[Key, int]) -> bool:
    columns, version = identity(table)
    names = ", ".join(map(quoted, columns))
    keys = ", ".join(f"({', '.join(map(_text, key))})" for key in wanted)
    highest = f"max({quoted(version)})" if version else "0"
    answer = client.query(
        f"SELECT {names}, {highest} FROM {place} WHERE ({names}) IN ({keys}) GROUP BY {names}",
        settings={"max_query_size": _QUERY_BYTES_MAX},
    )
    there = {tuple(map(str, values[:-1])): int(values[-1]) for values in answer.result_rows}
    return all(key in there and there[key] >= version for key, version in wanted.items())


def _versions_by_key(table: str, rows: Sequence[bytes]) -> dict[Key, int]:
    columns, version = identity(table)
    decoder = _decoder(table)
    wanted: dict[Key, int] = {}
    for piece in rows:
        try:
            decoded = decoder.decode_lines(piece)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # ClickHouse accepts rows that this decoder cannot read. The other rows of the batch suffice, because an
            # insert is atomic.
            continue
        for row in decoded:
            key = tuple(getattr(row, column) for column in columns)
            wanted[key] = max(wanted.get(key, 0), getattr(row, version) if version else 0)
    return wanted


@cache
def _decoder(table: str) -> msgspec.json.Decoder[msgspec.Struct]:
    columns, version = identity(table)
    texts = [(column, str, "") for column in columns]
    numbers = [(version, int, 0)] if version else []
    return msgspec.json.Decoder(msgspec.defstruct("Identity", [*texts, *numbers]), strict=False)


def _some(wanted: Mapping[Key, int]) -> Iterator[dict[Key, int]]:
    left = iter(wanted.items())
    while some := dict(islice(left, KEYS_MAX)):
        yield some


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
