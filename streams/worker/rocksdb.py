"""Local storage of the state: one RocksDB per partition; each entry is also on the changelog topic.

Faust opens, recovers and provides the stores. Reads and writes go directly to a partition's store, because `table[key]` uses
the partition of the current event, and a batch has none. This module holds all private names of the table that this needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import rocksdict
from faust.types import TP

Entry = tuple[bytes, bytes]
PIECE_BYTES = 2 << 20
"""Bytes of a piece; restoring it takes about 20 ms."""


class StateStore:
    """The local part of a Faust table."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def pieces(self, partition: int) -> Iterator[list[Entry]]:
        """Yield all entries of a partition in pieces of about PIECE_BYTES, without Faust's own entry for the recovery offset.

        The store returns entries in the order of their keys, and a key begins with a device name and a zero byte. So the
        entries of one device are always in one piece. Raises the store's error if a part of it cannot be read.
        """
        data = self._table.data
        piece: list[Entry] = []
        size, last = 0, b""
        for key, value in _every(data._db_for_partition(partition)):
            if key == data.offset_key:
                continue
            name = key.partition(b"\0")[0]
            if size > PIECE_BYTES and name != last:
                yield piece
                piece, size = [], 0
            piece.append((key, value))
            size += len(value)
            last = name
        yield piece

    def write(self, partition: int, entries: Iterable[Entry]) -> None:
        """Write entries to the local store, all or none; an entry with an empty value deletes its key."""
        together = rocksdict.WriteBatch(raw_mode=True)
        for key, value in entries:
            if value:
                together.put(key, value)
            else:
                together.delete(key)
        self._table.data._db_for_partition(partition).write(together)

    def note_changelog(self, partition: int, offset: int) -> None:
        """Record that store and changelog agree up to this changelog offset; a recovery may start behind it."""
        topic = self._table.changelog_topic.get_topic_name()
        self._table.data.set_persisted_offset(TP(topic, partition), offset)


def _every(db: Any) -> Iterator[Entry]:
    """Yield all entries; raise at a damaged block, where `items()` ends without an error."""
    entries = db.iter()
    entries.seek_to_first()
    while entries.valid():
        yield entries.key(), entries.value()
        entries.next()
    entries.status()
