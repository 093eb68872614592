"""Immediate exit of a process that must not continue."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

log = logging.getLogger(__name__)

STALLED = 76
"""Exit code of a process that stalled although it could have worked; its supervisor restarts it."""


def leave(code: int, who: str, why: str) -> NoReturn:
    """Log `why` and end the process at once, from any thread; no finalizer runs and nothing more is acknowledged."""
    if code:
        log.error("%s ends itself with exit code %d: %s", who, code, why, exc_info=sys.exc_info()[0] is not None)
    else:
        log.info("%s ends: %s", who, why)
    for handler in logging.getLogger().handlers:
        handler.flush()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
