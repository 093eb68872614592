"""One module a command, or a family of them; each adds itself to the app."""

from __future__ import annotations

import typer

from unproxy.commands import (
    alerts,
    check,
    coverage,
    event,
    forward,
    indicators,
    kafka,
    migrate,
    parts,
    produce,
    query,
    refill,
    rejects,
    replay,
    sensor,
    simulate,
    suppress,
    timeline,
    up,
)

FIXABLE_NAMES = frozenset({"Fixable", "SettingsError", "EmbeddedError", "SourceError", "ClickException"})
"""Errors whose message says what to do. By name: importing the rooms they are from would cost every --help its time,
and typer brings its own copy of click in some versions."""

_IN_ORDER = (
    up,
    replay,
    query,
    timeline,
    coverage,
    event,
    alerts,
    indicators,
    suppress,
    rejects,
    refill,
    produce,
    sensor,
    simulate,
    parts,
    forward,
    migrate,
    kafka,
    check,
)


def register(app: typer.Typer) -> None:
    """All verbs, in the order in which a newcomer meets them."""
    for module in _IN_ORDER:
        module.register(app)
