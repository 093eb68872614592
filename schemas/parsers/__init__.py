"""One file a sensor. Adding a file here is all it takes: discovery, contract tests, metrics and docs find it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from schemas.events import Dialect


@cache
def dialects() -> dict[str, Dialect]:
    """Return every dialect by name: each module in the packages here that declares DIALECT."""
    found = {}
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        dialect = getattr(importlib.import_module(module.name), "DIALECT", None)
        if dialect is None:
            continue
        assert isinstance(dialect, Dialect), f"{module.name}: DIALECT must be a Dialect"
        assert dialect.name not in found, f"two dialects are called {dialect.name}"
        found[dialect.name] = dialect
    return found
