"""An import: every entry of a file to the topic, but those that are there already, and what was refused."""

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
    """What became of the entries of a file."""

    read: int = 0
    published: int = 0
    """New or changed."""
    there: int = 0
    """On the topic just so, or more than once in the file."""
    refused: Counter[Why] = field(default_factory=Counter)
    groups: set[str] = field(default_factory=set)
    """Device groups that they name."""

    def in_words(self, dry_run: bool) -> Iterator[str]:
        """Yield the account as lines of text."""
        done = "to publish" if dry_run else "published, acknowledged"
        yield f"{counted(self.read)}: {self.published:,} {done}, {self.there:,} there already, {self.refused.total():,} refused"
        yield from (f"{count:>12,} refused: {why}" for why, count in self.refused.most_common())


def counted(entries: int) -> str:
    """Return a number of entries in words."""
    return f"{entries:,} {'entry' if entries == 1 else 'entries'}"


def carry(entries: Iterable[Found], board: Board | None, notify: Callable[[str], None]) -> Account:
    """Publish new entries; without a board only count them. Raises Fixable, KafkaAway, Failed, Stopped."""
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
