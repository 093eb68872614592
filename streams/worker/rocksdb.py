"""Where the state lives: one RocksDB per partition on the local disk, each entry also on the changelog topic.

Faust opens, recovers and hands over the stores; reading and writing goes straight to a partition's store, since
`table[key]` would ask for the partition of the event at hand, and there is none for a batch. All private names of the
table that this needs are in this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import rocksdict
from faust.types import TP

Entry = tuple[bytes, bytes]
PIECE_BYTES = 2 << 20
"""Some 20 ms to take back."""


class StateStore:
    """The local half of a Faust table."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def pieces(self, partition: int) -> Iterator[list[Entry]]:
        """Everything kept for a partition, without Faust's own note of how far its recovery got, some MB at a time.

        The store gives entries in the order of their keys, and a key begins with a name and a zero byte: what belongs to
        one device is never cut. Raises what the store says when a part of it cannot be read.
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
        """Keep entries locally, all or none of them; one without a value removes what stands under its key."""
        together = rocksdict.WriteBatch(raw_mode=True)
        for key, value in entries:
            if value:
                together.put(key, value)
            else:
                together.delete(key)
        self._table.data._db_for_partition(partition).write(together)

    def note_changelog(self, partition: int, offset: int) -> None:
        """The changelog has everything written up to this offset of its own: a recovery may start behind it."""
        topic = self._table.changelog_topic.get_topic_name()
        self._table.data.set_persisted_offset(TP(topic, partition), offset)


def _every(db: Any) -> Iterator[Entry]:
    """All entries. Unlike items(), which ends without a word where a block is damaged."""
    entries = db.iter()
    entries.seek_to_first()
    while entries.valid():
        yield entries.key(), entries.value()
        entries.next()
    entries.status()
