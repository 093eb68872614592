"""Header names that are not UTF-8: aiokafka reads them with replacement characters instead of stopping the partition.

aiokafka decodes header names while it unpacks a fetched batch. At a name that is not UTF-8 it raises, before any message of the
batch reaches the worker, and again after each restart. Every client that may write to the input can send such a header.
Only the fetched records at which aiokafka fails are unpacked again, by its Python implementation over a lenient buffer.
This module holds all private names of aiokafka that this needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

MAGIC_WITH_HEADERS = 2


class _LenientBuffer(bytearray):
    """Bytes of which every slice can be decoded."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _LenientBuffer(found) if isinstance(found, bytearray) else found

    def decode(self, *_: Any, **__: Any) -> str:
        return super().decode("utf-8", "replace")


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # declared final; pinned
    """A batch of records that reads any header name."""

    def __iter__(self) -> Any:
        super().__iter__()  # decompresses the batch
        self._buffer = _LenientBuffer(self._buffer)
        return self


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]  # declared final; pinned
    """Fetched records in batches that read any header name."""

    def next_batch(self, *_: Any) -> Any:
        piece = self._next_slice
        batch = super().next_batch()
        return _LenientBatch(piece) if piece is not None and piece[self.MAGIC_OFFSET] >= MAGIC_WITH_HEADERS else batch


def read_any_header_name() -> None:
    """Make every consumer of aiokafka in this process accept any header name."""
    fast: Any = fetcher.MemoryRecords

    class Records(fast):  # type: ignore[misc]  # a class of an extension
        """The fast reader, which also keeps the bytes it reads."""

        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            self.data = data

    unpack: Any = fetcher.PartitionRecords._unpack_records

    def unpack_any(records: Any) -> Iterator[Any]:
        try:
            yield from unpack(records)
        except UnicodeDecodeError:
            # Records already yielded are skipped: their offsets are below next_fetch_offset.
            records._records = _LenientRecords(records._records.data)
            yield from unpack(records)

    fetcher.MemoryRecords = Records
    fetcher.PartitionRecords._unpack_records = unpack_any  # type: ignore[method-assign]  # private, so pinned
