"""SQL for the latest versions of few rows: without FINAL, which reads every part of the table that a key can be in.

`NAME_history` shows every version that is stored. The rows that meet a condition are found in it in three steps:

1. candidates: rows of which any version meets the condition. The latest version of a wanted row meets it, so that row is
   among them.
2. the highest Version of each candidate, over all its versions, whatever they contain;
3. the versions that meet the condition and have that number.

The result equals that of the same condition on the view `NAME`. The projections of `schemas.ddl` make each step read few rows.
Measurements: docs/decisions/0013-time-order.md.
"""

from __future__ import annotations


def latest(history: str, columns: str, condition: str, *, only_if: str = "true", candidates_max: int = 0) -> str:
    """Return a SELECT of the latest versions that meet a condition.

    `history` is the name of the view with all versions, as SQL, and `columns` what to select. `condition` refers to its
    columns as `t.NAME`, and depends on the row alone. `only_if` is a condition on no row: if it is false, there are no rows. It
    must be false where there may be more candidates than `candidates_max`, unless that is 0.
    """
    return (
        f"SELECT {columns} FROM {history} AS t WHERE {only_if} AND {condition} AND (t.DeviceId, t.RecordId, t.Version) "
        f"IN ({highest(history, condition, candidates_max)}) LIMIT 1 BY t.DeviceId, t.RecordId"
    )


def highest(history: str, condition: str, candidates_max: int = 0) -> str:
    """Return a SELECT of the identity and the highest Version of each row of which any version meets the condition."""
    limit = f" LIMIT {candidates_max}" if candidates_max else ""
    return (
        f"SELECT t.DeviceId, t.RecordId, max(t.Version) FROM {history} AS t WHERE cityHash64(t.RecordId) IN "
        f"(SELECT cityHash64(t.RecordId) FROM {history} AS t WHERE {condition}{limit}) GROUP BY t.DeviceId, t.RecordId"
    )
