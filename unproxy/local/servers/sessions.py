"""Runs ClickHouse requests in the engine library (chdb), each on its own connection.

A chdb connection runs one query at a time and keeps the effects of SET and USE. A new connection costs only a quarter of
a millisecond, so each request gets its own: no setting leaks into the next request, and a slow query does not delay
others.

    RequestError     the request cannot be run; has the engine's code and text
    EmbeddedError    the data folder cannot be opened
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import chdb
from chdb.state.sqlitelike import Connection

from unproxy.local.servers.service import EmbeddedError
from unproxy.local.servers.statement import SCANNED_BYTES_MAX, Insert, asked_format, find_insert, has_second_statement

QUERIES_MAX = 64
"""Largest number of requests that run at once; further ones wait."""
STATEMENT_BYTES_MAX = 512 * 1024 * 1024
"""Largest size of a statement that is not a streamed INSERT, because it is held in memory as a whole."""
DEFAULT_FORMAT = "TabSeparated"
ACCESS_FILE = "access.xml"
"""File of the grants of statements, in the folder of this module, which is the current folder of the process."""

_CODE = re.compile(r"Code: (\d+)\. .*", re.DOTALL)
_NAME = re.compile(r"\w+")
SYNTAX_ERROR, UNKNOWN_SETTING, TOO_LARGE, UNKNOWN = 62, 115, 307, 1002

_STORING_FAILED = frozenset((75, 76, 241, 243, 252))
"""ClickHouse's codes of errors that keep valid rows from being stored.

CANNOT_WRITE_TO_FILE_DESCRIPTOR, CANNOT_OPEN_FILE, MEMORY_LIMIT_EXCEEDED, NOT_ENOUGH_SPACE, TOO_MANY_PARTS.
"""
RECENT_SECS = 5
"""Largest age, in seconds, of an error that counts as the failure of an insert."""


class RequestError(Exception):
    """The request cannot be run; `code` is ClickHouse's error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """The content of one HTTP request."""

    text: Iterator[bytes]
    """The statement in pieces; after an INSERT ... FORMAT, its data follows."""
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    default_format: str = DEFAULT_FORMAT
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request: the body in ClickHouse's `format`, and the counts of the header X-ClickHouse-Summary."""

    body: bytes
    format: str
    summary: dict[str, int]


class Sessions:
    """The engine on one data folder; at most one process at a time can have the folder open.

    Raises EmbeddedError if the folder cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _taken_alone(folder)
        # The name is relative: the file names itself as the file of users, for which the library looks in the current
        # folder.
        self._path = f"{folder.absolute()}?config-file={ACCESS_FILE}"
        self._turns = threading.BoundedSemaphore(QUERIES_MAX)
        try:
            # This connection stays open, because the engine ends with its last connection.
            self._anchor = chdb.connect(self._path)
            version = self._anchor.query("SELECT version(), timezone()", "TabSeparated").bytes().decode().strip()
        except RuntimeError as error:
            raise EmbeddedError(f"{folder}: cannot be opened by the engine: {error}") from None
        self.version, self.timezone = version.split("\t")

    def run(self, request: Request) -> Answer:
        """Run a request and return its answer. Raises RequestError; the request's text may then be partly unread."""
        head, rest = _until(SCANNED_BYTES_MAX, request.text)
        insert = None if request.settings.get("dialect") else find_insert(head)
        with self._turns, chdb.connect(self._path) as connection:
            try:
                _prepare(connection, request)
                # The library's streaming insert does not support parameters.
                if insert and not request.parameters:
                    before = self._failed_inserts()
                    answer = _insert(connection, insert, chain([head[insert.data_at :]], rest))
                    if self._failed_inserts() != before:
                        raise self._last_error()
                    return answer
                return _query(connection, request, _whole(head, rest), is_insert=insert is not None)
            except RuntimeError as error:
                found = _CODE.search(str(error))
                raise RequestError(*(int(found[1]), found[0]) if found else (UNKNOWN, str(error))) from None

    def _failed_inserts(self) -> str:
        """Return how many inserts of the engine failed while their rows were stored: disk full, too many parts, no memory.

        The library's streaming insert does not report such failures (chdb 4.4). The count is that of the whole engine, so
        an insert that runs at the same time as a failed one may be reported as failed, too. That is harmless: the client
        inserts its rows again, and the table drops them by their token. The other kind of insert reports the failures, but
        takes four times the work.
        """
        with chdb.connect(self._path) as connection:
            asked = "SELECT sum(value) FROM system.events WHERE event = 'FailedInsertQuery'"
            return str(connection.query(asked, "TabSeparated").bytes().decode().strip())

    def _last_error(self) -> RequestError:
        """Return the likely reason why an insert was not stored: the engine's latest error of `_STORING_FAILED`.

        If there is none, its latest error is only quoted, without its code: it may come from another request, and its code
        must not make these rows look wrong. The library itself reports wrong rows, when it reads them.
        """
        reasons = ", ".join(map(str, sorted(_STORING_FAILED)))
        with chdb.connect(self._path) as connection:
            asked = (
                "SELECT code, name, last_error_message FROM system.errors "
                f"ORDER BY code IN ({reasons}) AND last_error_time >= now() - {RECENT_SECS} DESC, last_error_time DESC LIMIT 1"
            )
            code, name, text = connection.query(asked, "TabSeparated").bytes().decode().strip().split("\t")
        if int(code) not in _STORING_FAILED:
            return RequestError(
                UNKNOWN, f"The rows were read and not stored; the engine's last error: {text} ({name})."
            )
        return RequestError(int(code), f"Code: {code}. DB::Exception: {text}. ({name})")

    def close(self) -> None:
        """End the engine."""
        self._anchor.close()
        os.close(self._lock)


def _taken_alone(folder: Path) -> int:
    handle = os.open(folder / "in-use.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise EmbeddedError(f"{folder}: is open in another process; ask that one, or end it first") from None
    return handle


def _prepare(connection: Connection, request: Request) -> None:
    settings = dict(request.settings)
    if request.read_only:
        # With `readonly` = 2, statements may change other settings; 1 is stricter. Neither SETTINGS in a statement nor a
        # later SET can change `readonly` back.
        settings["readonly"] = "1" if settings.get("readonly") == "1" else "2"
    # The dialect comes last: from there on, statements are read in it.
    names = sorted(settings, key=lambda name: name == "dialect")
    steps = [f"USE {_quoted(request.database, '`')}"] if request.database else []
    for name in names:
        if not _NAME.fullmatch(name):
            raise RequestError(UNKNOWN_SETTING, f"Setting {name!r} is neither a setting nor a part of the interface.")
    if names:
        steps.append("SET " + ", ".join(f"{name} = {_quoted(settings[name], chr(39))}" for name in names))
    if steps:
        connection.query("; ".join(steps), "Null")


def _insert(connection: Connection, insert: Insert, data: Iterator[bytes]) -> Answer:
    inserter = connection.send_insert(insert.sql, insert.format)
    try:
        for piece in data:
            if piece:
                inserter.append(piece)
        done = inserter.finish()
    finally:
        inserter.cancel()  # does nothing after `finish`
    return Answer(b"", insert.format, {"written_rows": done.rows_written, "written_bytes": done.bytes_written})


def _query(connection: Connection, request: Request, text: bytes, *, is_insert: bool) -> Answer:
    if not text.strip():
        raise RequestError(SYNTAX_ERROR, "Empty query.")
    sql_dialect = not request.settings.get("dialect")
    if sql_dialect and not is_insert and has_second_statement(text):
        raise RequestError(SYNTAX_ERROR, "Multi-statements are not allowed.")
    try:
        statement = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(SYNTAX_ERROR, f"Syntax error: the statement is not UTF-8 ({error}).") from None
    done = connection.query(statement, request.default_format, params=dict(request.parameters))
    summary = {
        "read_rows": done.rows_read(),
        "read_bytes": done.bytes_read(),
        "written_rows": done.rows_written(),
        "written_bytes": done.bytes_written(),
    }
    return Answer(done.bytes(), (asked_format(text) if sql_dialect else None) or request.default_format, summary)


def _until(size: int, pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, at least `size` if there are so many, and the pieces that follow."""
    head: list[bytes] = []
    held = 0
    while held < size and (piece := next(pieces, None)) is not None:
        head.append(piece)
        held += len(piece)
    return b"".join(head), pieces


def _whole(head: bytes, rest: Iterator[bytes]) -> bytes:
    parts, held = [head], len(head)
    for piece in rest:
        parts.append(piece)
        held += len(piece)
        if held > STATEMENT_BYTES_MAX:
            raise RequestError(TOO_LARGE, f"The statement is longer than {STATEMENT_BYTES_MAX} bytes.")
    return b"".join(parts)


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
