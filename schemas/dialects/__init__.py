"""One file a sensor. Adding a file here is all it takes: discovery, contract tests, metrics and docs find it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from schemas.events import Dialect


@cache
def dialects() -> dict[str, Dialect]:
    """Every dialect by name: each module beside this one that declares DIALECT."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        dialect = importlib.import_module(f"{__name__}.{module.name}").DIALECT
        assert isinstance(dialect, Dialect), f"schemas/dialects/{module.name}.py must declare DIALECT = Dialect(...)"
        assert dialect.name not in found, f"two dialects are called {dialect.name}"
        found[dialect.name] = dialect
    return found
