"""Import of a file of indicators: publishes its new and changed entries to the topic, and counts all entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from common.throttle import Throttle
from schemas.indicator_input import Refused
from schemas.indicator_topic import key_of, value_of
from schemas.indicator_values import Why
from unproxy.indicators.reading import Found
from unproxy.indicators.topic import Board
from unproxy.output import NOTIFY_SECS


@dataclass(slots=True)
class Account:
    """Counts of the entries of a file."""

    read: int = 0
    published: int = 0
    """Number of new or changed entries."""
    there: int = 0
    """Number of entries that the topic has in the same form already, or that the file repeats."""
    refused: Counter[Why] = field(default_factory=Counter)
    """Number of refused entries, by reason."""
    groups: set[str] = field(default_factory=set)
    """Device groups that the entries name."""

    def in_words(self, dry_run: bool) -> Iterator[str]:
        """Yield the account as lines of text."""
        done = "to publish" if dry_run else "published, acknowledged"
        yield f"{counted(self.read)}: {self.published:,} {done}, {self.there:,} there already, {self.refused.total():,} refused"
        yield from (f"{count:>12,} refused: {why}" for why, count in self.refused.most_common())


def counted(entries: int) -> str:
    """Return a number of entries in words."""
    return f"{entries:,} {'entry' if entries == 1 else 'entries'}"


def carry(entries: Iterable[Found], board: Board | None, notify: Callable[[str], None]) -> Account:
    """Publish the new and changed entries and return the counts; without a board, only count.

    `notify` is called with each refused entry and, at a limited rate, with the progress. Raises Fixable, KafkaAway,
    Failed and Stopped.
    """
    account = Account()
    known = board.latest(hash) if board is not None else {}
    throttle = Throttle(NOTIFY_SECS, at_once=False)
    for found in entries:
        if board is not None:
            board.wait.check_stop()
        account.read += 1
        if isinstance(found.what, Refused):
            account.refused[found.what.why] += 1
            notify(found.refusal())
        else:
            account.groups.update(found.what.groups)
            key, digest = key_of(found.what), hash(value_of(found.what))
            if known.get(key) == digest:
                account.there += 1
            else:
                known[key] = digest
                account.published += 1
                if board is not None:
                    board.put(found.what)
        if throttle.due():
            notify(f"{counted(account.read)} read, {account.refused.total():,} refused")
    if board is not None:
        board.flush()
    return account
