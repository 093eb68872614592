"""Logging of all commands: one line per event on stderr, with a constant message and facts as key=value."""

from __future__ import annotations

import logging
import sys
import time
from textwrap import indent

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


def _value(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(char.isspace() or char == '"' for char in text) else text


def set_up(*, service: bool, verbose: bool = False) -> None:
    """Set up logging to stderr: a service logs its work (info), other commands only unexpected events (warning).

    With `verbose`, everything is logged (debug).
    """
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
