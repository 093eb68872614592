"""Logging of all commands: one line per event on stderr, with a constant message and facts as key=value.

With the setting `log.format = "json"` each line is a JSON object, also what a library or a crash writes to stderr.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from textwrap import indent
from types import TracebackType

from unproxy.output import printable

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CHATTY = ("aiokafka", "faust", "mode", "kafka", "urllib3", "clickhouse_connect", "asyncio")


class FieldsFormatter(logging.Formatter):
    """Formats a log record: time, level, logger, message and facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line; the stack trace follows if there is one."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        facts = [f"{key}={_value(value)}" for key, value in vars(record).items() if key not in _STANDARD]
        head = f"{when}.{int(record.msecs):03d}Z {record.levelname.lower():7} {record.name}: {record.getMessage()}"
        line = printable(" ".join([head, *facts]))
        # The stack trace is indented, so that no line of an error's text looks like a record.
        return f"{line}\n{indent(self.formatException(record.exc_info), '  ')}" if record.exc_info else line


LINE_CHARS_MAX = 64 * 1024
"""Longest text that is kept until its line ends, in characters; a longer one becomes a record as it is."""


class JsonFormatter(logging.Formatter):
    """Formats a log record as one JSON object: time, level, logger, message, fields, and exception as one string."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of ASCII."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        made: dict[str, object] = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "fields": {key: value for key, value in vars(record).items() if key not in _STANDARD},
        }
        if record.exc_info:
            made["exception"] = self.formatException(record.exc_info)
        return json.dumps(_plain(made))


def _plain(value: object) -> object:
    """Return a value as every JSON reader takes it: no lone surrogates, no NaN, whole numbers of 64 bits, no other types."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping):
        return {str(_plain(str(key))): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value).encode("utf-8", "backslashreplace").decode()


class _Records(io.TextIOBase):
    """Takes the place of sys.stderr: what is written past the loggers becomes a record for each line."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler
        self._rest = ""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Make a record of each complete line."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(None, lines):
            self._record(line)
        if len(self._rest) > LINE_CHARS_MAX:
            self.finish()
        return len(text)

    def finish(self) -> None:
        """Make a record of a line that has no end."""
        if self._rest:
            self._record(self._rest)
            self._rest = ""

    def _record(self, line: str) -> None:
        self._handler.handle(
            logging.makeLogRecord({"name": "stderr", "levelno": logging.INFO, "levelname": "INFO", "msg": line})
        )


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("unproxy").critical("crashed", exc_info=(kind, error, trace))


def use_json() -> None:
    """Write each record, and whatever else goes to sys.stderr, as one line of JSON."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter())
        if not isinstance(sys.stderr, _Records):
            sys.stderr = records = _Records(handler)
            sys.excepthook = _crashed
            atexit.register(records.finish)


def report_error(message: str) -> bool:
    """Log why a command ends if logs are JSON; return whether they are."""
    if isinstance(sys.stderr, _Records):
        logging.getLogger("unproxy").error(message)
        return True
    return False


def _value(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(char.isspace() or char == '"' for char in text) else text


def set_up(*, service: bool, verbose: bool = False) -> None:
    """Set up logging to stderr: a service logs its work (info), other commands only unexpected events (warning).

    With `verbose`, everything is logged (debug).
    """
    if isinstance(sys.stderr, _Records):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO if service else logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
    if not verbose:
        # urllib3 warns at each retry; its callers log their retries themselves.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
