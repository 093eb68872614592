"""The batch processor: a pipeline per input partition, and the steps of a batch in the one safe order (see exit_codes.py)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from schemas.events import Reason, Reject
from schemas.logins import masked
from schemas.settings import CorrelationSettings
from streams.alerts.policy import Policy
from streams.pipeline import Message, Output, Pipeline
from streams.quarantine import Death, Refused, refused_after
from streams.worker.counters import WorkerCounters
from streams.worker.delivery import Check, Delivery
from streams.worker.guards.at_hand import AtHand
from streams.worker.guards.continuity import Continuity
from streams.worker.guards.exit_codes import Exit, end
from streams.worker.guards.lease import Lease
from streams.worker.guards.reject_guard import RejectGuard
from streams.worker.rocksdb import Entry, StateStore

log = logging.getLogger(__name__)

PORTION_BYTES = 2 << 20
"""Bytes of input that a pipeline takes before its output is collected."""
REJECTS_TOGETHER_MAX = 20_000
"""Number of rejects that are delivered at once before the batch ends; a file of no sensor may cause a million in a batch."""

StandsAt = Callable[[int], int]
"""Function that asks the broker for the offset at which the group resumes in a partition; may block."""
DeathsIn = Callable[[int], Iterable[Death]]
"""Function that asks the broker for the worker deaths in a partition; may block."""
MakePipeline = Callable[[CorrelationSettings, Policy], Pipeline]


@dataclass(kw_only=True, eq=False)
class BatchProcessor:
    """The pipelines of the assigned partitions, and the processing of their batches."""

    correlation: CorrelationSettings
    make_pipeline: MakePipeline
    policy: Policy
    delivery: Delivery
    store: StateStore
    lease: Lease
    stands_at: StandsAt
    deaths_in: DeathsIn
    counters: WorkerCounters
    rejects: RejectGuard
    at_hand: AtHand
    long_secs: float
    """Seconds after which a batch counts as a large one."""
    busy: bool = field(default=False, init=False)
    """Whether a batch is being processed."""
    _refused: dict[int, Mapping[int, Refused]] = field(default_factory=dict, init=False)
    """Messages and lines that must not be read, by partition and offset."""
    _continuity: Continuity = field(default_factory=Continuity, init=False)
    _pipelines: dict[int, Pipeline] = field(default_factory=dict, init=False)
    _began: float = field(default=0.0, init=False)

    def forget(self) -> None:
        """Drop all pipelines and offsets: after an assignment or a revocation they may be outdated."""
        self._pipelines.clear()
        self._continuity.forget()
        self._refused.clear()

    def books(self) -> list[dict[str, int]]:
        """Return the counters of the pipelines of the assigned partitions."""
        return [pipeline.book() for pipeline in self._pipelines.values()]

    def goes_forward(self) -> int | None:
        """Return a number that changes while a large batch is delivered, when nothing can be committed; None at other times."""
        long = self.busy and time.monotonic() - self._began > self.long_secs
        # A copy: the watchdog's thread calls this while topics may be added.
        return sum(tuple(self.counters.delivered.values())) if long else None

    async def handle(self, batch: dict[int, list[Message]]) -> None:
        """Turn messages into durable outputs and state. When it returns, the messages may be acknowledged.

        It removes from the batch all messages behind one that must not be read, or not in full. The caller passes them again
        once that message is acknowledged.
        """
        self.busy, self._began = True, time.monotonic()
        born = self.lease.membership()
        check = partial(self.lease.check, born)

        made: list[tuple[int, Output]] = []
        rejects = 0
        touched: dict[int, Pipeline] = {}
        for part, messages in batch.items():
            pipeline = touched[part] = await self._pipeline(part, messages)
            if self._refused[part]:
                _cut_behind(messages, self._refused[part])
            for portion in _portions(messages):
                output = self._take(part, pipeline, portion)
                made.append((part, output))
                rejects += len(output.rejects)
                if rejects > REJECTS_TOGETHER_MAX:
                    await self._deliver(made, check)
                    made, rejects = [], 0
            await asyncio.sleep(0)  # lets commits and heartbeats run between partitions
        await self._deliver(made, check)
        now = time.time()
        for messages in batch.values():
            self.counters.note_delivered(messages, now)

        await self._save({part: pipeline.checkpoint() for part, pipeline in touched.items()}, check)

        await check()
        self.counters.batches += 1
        handled = sum(len(messages) for messages in batch.values())
        self.counters.messages += handled
        self.counters.batch_messages.add(handled)
        self.busy = False

    async def _deliver(self, made: Sequence[tuple[int, Output]], check: Check) -> None:
        """Deliver outputs, each with its partition, after the reject guard has passed them."""
        self.rejects.judge([output for _, output in made])
        await self.delivery.deliver(chain.from_iterable(self.delivery.outgoing_records(*some) for some in made), check)

    def _take(self, part: int, pipeline: Pipeline, portion: Sequence[Message]) -> Output:
        """Return a pipeline's output for some messages; messages and lines that ended workers before are rejected unread."""
        refused, begin = self._refused[part], self.at_hand.begin
        unread: list[Reject] = []
        for message in portion:
            what = refused.get(message.offset) if refused else None
            if what is not None:
                self.counters.quarantined += 1
                log.error(
                    "message that ended workers is rejected",
                    extra={"partition": part, "why": what.detail},
                )
                if what.whole:
                    unread.append(_whole(message, what))
                    continue
            begin(part, message.offset)
            pipeline.take(message, what)
        output = pipeline.drain()
        self.at_hand.done()
        output.rejects.extend(unread)
        return output

    async def _pipeline(self, part: int, messages: Sequence[Message]) -> Pipeline:
        """Return the pipeline of a partition; after an assignment, restore it from the local store.

        Ends the process with Exit.HOLE if offsets are missing before or between the messages.
        """
        first = messages[0].offset
        if not self._continuity.knows(part):
            loop = asyncio.get_running_loop()
            start, deaths = await asyncio.gather(
                loop.run_in_executor(None, self.stands_at, part), loop.run_in_executor(None, self.deaths_in, part)
            )
            _end_at_hole(self._continuity.begin(part, first, start))
            self._refused[part] = refused_after(deaths, start)
            pipeline = self.make_pipeline(self.correlation, self.policy)
            pipeline.current_line = self.at_hand.line
            for some in self.store.pieces(part):
                pipeline.restore(some)
                await asyncio.sleep(0)  # a million connections take seconds; commits of other partitions go on
            self._pipelines[part] = pipeline
        _end_at_hole(self._continuity.follow(part, [message.offset for message in messages]))
        return self._pipelines[part]

    async def _save(self, entries: Mapping[int, Sequence[Entry]], check: Check) -> None:
        """Write state to the changelog partition of its input partition, then to the local store.

        In this order the local store holds nothing that the changelog lacks. In the other order, a process that dies in between
        leaves entries in its local store only. Once its partition came back, they would stand beside what other workers made
        of the same input.
        """
        outgoing_records = [
            self.delivery.entry(part, key, value) for part, some in entries.items() for key, value in some
        ]
        offsets = await self.delivery.deliver(outgoing_records, check)
        # Entries of an ended membership may be behind those of other workers in the changelog: then note no offset.
        await check()
        for part, offset in offsets.items():
            self.store.write(part, entries[part])
            self.store.note_changelog(part, offset)
        self.counters.checkpoint_entries += len(outgoing_records)
        self.counters.checkpoint_bytes += sum(len(outgoing.value) for outgoing in outgoing_records)


def _end_at_hole(wrong: str) -> None:
    if wrong:
        end(Exit.HOLE, wrong)


def _cut_behind(messages: list[Message], refused: Mapping[int, Refused]) -> None:
    """Remove the messages after the first one that must not be read, or not in full."""
    for number, message in enumerate(messages, 1):
        if message.offset in refused:
            del messages[number:]
            return


def _whole(message: Message, refused: Refused) -> Reject:
    """Return the reject for a message that is not read at all."""
    device, raw = message.key.decode(errors="replace"), masked(message.value)
    return Reject(Reason.STOPS_WORKER, refused.detail, raw, message.dialect, device, message.keyed, message.claims)


def _portions(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Split messages, in order, into portions; each one ends once it has PORTION_BYTES."""
    some: list[Message] = []
    size = 0
    for message in messages:
        some.append(message)
        size += len(message.value)
        if size >= PORTION_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some
