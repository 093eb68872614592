"""The ClickHouse sink: one insert per write, over HTTP, for a server and for the embedded engine.

Rows are sent unchanged (JSONEachRow). An insert is one block, so it is atomic. It has a token, by which the table drops
a repeated insert (`non_replicated_deduplication_window`). The rows of a repeated insert are verified
(`sinks.presence`). Inserts are never asynchronous: ClickHouse cannot combine that with deduplication without losing
rows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Sequence
from urllib.parse import urlsplit

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped,unused-ignore]  # it has no types
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, Error

from common import tls
from schemas.ddl import VERSIONS, merges, quoted
from schemas.settings import ClickHouseSettings
from sinks.base import RowsRefused, SinkBusy, SinkError, SinkRefused
from sinks.migrate import pending
from sinks.presence import UNREADABLE, all_there

log = logging.getLogger(__name__)

CONNECT_SECS_MAX = 5

NAMES_MAX = 3
"""Largest number of further tokens tried for one insert.

Each further token is needed only if ClickHouse crashed between storing the token before it and placing its rows.
"""

# The driver warns at each failed request; the caller of a sink logs failures at a limited rate.
logging.getLogger("clickhouse_connect").setLevel(logging.ERROR)

_BLOCK_ROWS = 10_000_000
_INSERT_SETTINGS = {
    # Make one block of an insert: ClickHouse must not split it, nor parse and split it in parallel.
    "max_insert_block_size": _BLOCK_ROWS,
    "min_insert_block_size_rows": _BLOCK_ROWS,
    "min_insert_block_size_bytes": 0,
    "input_format_parallel_parsing": 0,
    "async_insert": 0,
    "insert_deduplicate": 1,
    # Times are ISO 8601 with Z, which "basic" does not parse.
    "date_time_input_format": "best_effort",
    # A column that the table lacks is an error; its values must not be lost.
    "input_format_skip_unknown_fields": 0,
    # Fields that a row omits become empty or NULL, as in the row class; no column has another default.
    "input_format_defaults_for_omitted_fields": 0,
    # Duplicates within one insert may stay until a merge, because readers see only the latest version. This makes
    # inserts a third faster.
    "optimize_on_insert": 0,
    "wait_end_of_query": 1,
}

_TABLE_MISSING = {60, 81}  # UNKNOWN_TABLE, UNKNOWN_DATABASE
_NOT_ALLOWED = {164, 192, 193, 194, 195, 291, 497, 516}  # READONLY, UNKNOWN_USER, WRONG_PASSWORD, ..., ACCESS_DENIED
_UNKNOWN_SETTING = {115}
_BAD_ROWS = {
    6,  # CANNOT_PARSE_TEXT
    25,  # CANNOT_PARSE_ESCAPE_SEQUENCE
    26,  # CANNOT_PARSE_QUOTED_STRING
    27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    33,  # CANNOT_READ_ALL_DATA
    38,  # CANNOT_PARSE_DATE
    41,  # CANNOT_PARSE_DATETIME
    43,  # ILLEGAL_TYPE_OF_ARGUMENT
    53,  # TYPE_MISMATCH
    69,  # ARGUMENT_OUT_OF_BOUND
    70,  # CANNOT_CONVERT_TYPE
    72,  # CANNOT_PARSE_NUMBER
    117,  # INCORRECT_DATA, among it an unknown column
    130,  # CANNOT_READ_ARRAY_FROM_TEXT
    131,  # TOO_LARGE_STRING_SIZE
    321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    467,  # CANNOT_PARSE_BOOL
    636,  # CANNOT_EXTRACT_TABLE_STRUCTURE
}
_CHUNK_BYTES = 256 * 1024
_DETAIL_CHARS_MAX = 300


class ClickHouseSink:
    """A sink for the tables of one database."""

    def __init__(self, config: ClickHouseSettings) -> None:
        """Store the settings without connecting. Raises SettingsError."""
        _check_authority(config)
        self._config = config
        self._client: Client | None = None
        # On the local host, bandwidth is free and compression costs CPU time.
        self._compressed = urlsplit(config.url).hostname not in ("127.0.0.1", "localhost", "::1")

    def write(self, table: str, rows: Sequence[bytes], token: str, *, again: bool = False) -> None:
        """Insert the rows, once per token, or raise a SinkError."""
        try:
            if self._client is None:
                self._client = connect(self._config)
            # In a table that merges rows, a row with the same identity but fewer facts may exist, so this check would
            # prove nothing; there, a repeated insert is harmless.
            if again and not merges(table) and self._all_there(self._client, table, rows):
                return
            self._insert(self._client, table, rows, token)
            if again:
                self._look_after(self._client, table, rows, token)
        except ClickHouseError as error:
            refusal = _in_words(error, table, self._config)
            if isinstance(refusal, RowsRefused) and self._behind():
                raise SinkRefused(f"{refusal}; the tables are behind: run `unproxy migrate`") from error
            raise refusal from error

    def _insert(self, client: Client, table: str, rows: Sequence[bytes], token: str) -> None:
        client.raw_insert(
            f"{quoted(self._config.database)}.{quoted(table + VERSIONS)}",
            insert_block=_compressed(rows) if self._compressed else _grouped(rows),
            compression="lz4" if self._compressed else None,
            settings={**_INSERT_SETTINGS, "insert_deduplication_token": token},
            fmt="JSONEachRow",
        )

    def _look_after(self, client: Client, table: str, rows: Sequence[bytes], token: str) -> None:
        """Insert the rows again, up to NAMES_MAX times, if ClickHouse knows the insert but the table lacks the rows.

        Each repetition has the token with a number appended, so a restarted sink uses the same tokens.
        """
        if merges(table):
            self._insert(client, table, rows, f"{token}-1")
            return
        for number in range(1, NAMES_MAX + 1):
            if self._all_there(client, table, rows):
                return
            log.warning(
                "ClickHouse knows an insert whose rows it does not have, inserting them again", extra={"table": table}
            )
            self._insert(client, table, rows, f"{token}-{number}")
        if not self._all_there(client, table, rows):
            log.error(
                "ClickHouse accepted rows, but the table does not contain them; look for a TTL or a row policy on the table",
                extra={"table": table, "rows": sum(piece.count(b"\n") + 1 for piece in rows)},
            )

    def _all_there(self, client: Client, table: str, rows: Sequence[bytes]) -> bool:
        """Return whether the table has these rows. Raises SinkBusy or SinkRefused if it cannot be read."""
        try:
            return all_there(client, self._config.database, table, rows)
        except ClickHouseError as error:
            refusal = _in_words(error, table, self._config)
            if isinstance(error, Error) and error.code in UNREADABLE:
                raise SinkRefused(
                    f"ClickHouse cannot read {table} in database {self._config.database} at {self._config.url}, a part of "
                    f"it is damaged; run `unproxy detach-damaged`: {_detail(error)}"
                ) from error
            if isinstance(refusal, RowsRefused):
                raise SinkBusy(str(refusal)) from error
            raise refusal from error

    def _behind(self) -> bool:
        """Return whether rows may be refused because the tables lack a migration."""
        assert self._client is not None
        try:
            return bool(pending(self._client, self._config.database))
        except ClickHouseError as error:
            raise _in_words(error, "schema_migrations", self._config) from error

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()


def connect(config: ClickHouseSettings) -> Client:
    """Return a client of this server, with no database selected.

    Raises ClickHouseError if the server is unreachable, and SettingsError if its CA file cannot be used.
    """
    _check_authority(config)
    address = urlsplit(config.url)
    return clickhouse_connect.get_client(
        interface=address.scheme,
        host=address.hostname,
        port=address.port or (8443 if address.scheme == "https" else 8123),
        username=config.username,
        password=config.password.get_secret_value(),
        ca_cert=config.ca_file or None,
        connect_timeout=CONNECT_SECS_MAX,
        send_receive_timeout=config.timeout_secs,
        proxy_path=address.path.rstrip("/"),
        query_retries=0,
        compress=False,
        autogenerate_session_id=False,
    )


def _check_authority(config: ClickHouseSettings) -> None:
    if config.ca_file and config.url.startswith("https:"):
        tls.context("clickhouse.", config.ca_file)


def _grouped(rows: Sequence[bytes]) -> Generator[bytes, None, None]:
    """Yield the rows in chunks that are large enough for the network, without a copy of all rows."""
    group: list[bytes] = []
    held = 0
    for piece in rows:
        group.append(piece)
        held += len(piece)
        if held >= _CHUNK_BYTES:
            yield b"\n".join([*group, b""])
            group, held = [], 0
    if group:
        yield b"\n".join([*group, b""])


def _compressed(rows: Sequence[bytes]) -> Generator[bytes, None, None]:
    with lz4.frame.LZ4FrameCompressor() as compressor:  # type: ignore[no-untyped-call,unused-ignore]  # likewise
        yield compressor.begin()
        for piece in _grouped(rows):
            if squeezed := compressor.compress(piece):
                yield squeezed
        yield compressor.flush()


def _in_words(error: ClickHouseError, table: str, config: ClickHouseSettings) -> SinkError:
    code = error.code if isinstance(error, Error) else None
    place = f"{table} in database {config.database} at {config.url}"
    detail = _detail(error)
    if code in _TABLE_MISSING:
        return SinkRefused(f"ClickHouse has no {place}; run `unproxy migrate`")
    if code in _NOT_ALLOWED:
        return SinkRefused(f"ClickHouse does not let {config.username} write {place}; check login and rights: {detail}")
    if code in _UNKNOWN_SETTING:
        return SinkRefused(f"ClickHouse at {config.url} is too old for us; use 26.1 or later: {detail}")
    if code in _BAD_ROWS:
        return RowsRefused(f"ClickHouse cannot store rows of {table}: {detail}")
    if code is None and not isinstance(error, DatabaseError):
        return SinkRefused(f"ClickHouse client: {detail}")
    return SinkBusy(f"ClickHouse at {config.url} does not take rows now: {detail}")


def _detail(error: ClickHouseError) -> str:
    return re.sub(r"\s+", " ", str(error))[:_DETAIL_CHARS_MAX]
