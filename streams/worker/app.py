"""The Faust worker: moves messages between Kafka and the pipelines; contains no correlation rules.

    telemetry ── batches ─────► BatchProcessor.handle ──► network-events, device-events, block-alerts, rejects,
        ▲                        ▲   │        sensor-gaps, device-coverage, protection-modes
      Ticker                     │   └──► state: RocksDB, changelog
    indicators ── IndicatorFeed ─┘

Faust provides the consumer group, the assignment of partitions, the recovery of the state and the commits. `exit_codes.py`
documents the order of the steps and why it prevents loss. Importing this module opens nothing; `run` is the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import faust

from common.health import Looks
from schemas.settings import Settings
from schemas.topics import TELEMETRY, topic_name
from streams.alerts.policy import Policy
from streams.pipeline import Message, Pipeline
from streams.worker.batch import BatchProcessor, MakePipeline
from streams.worker.commits import Commits
from streams.worker.counters import WorkerCounters
from streams.worker.delivery import Delivery, OutgoingRecord
from streams.worker.faust_settings import faust_settings
from streams.worker.gc_tuning import tune_collector
from streams.worker.group_offsets import GroupView
from streams.worker.guards.at_hand import AtHand
from streams.worker.guards.deaths import Deaths
from streams.worker.guards.disk import blame_disk, watch_store
from streams.worker.guards.exit_codes import Exit, end
from streams.worker.guards.lease import Lease
from streams.worker.guards.reject_guard import RejectGuard
from streams.worker.guards.watchdog import Watchdog
from streams.worker.header_names import read_any_header_name
from streams.worker.health import WorkerFacts
from streams.worker.indicator_feed import FeedError, IndicatorFeed
from streams.worker.intake import batches
from streams.worker.logs import quiet_libraries
from streams.worker.metrics import serve_pages
from streams.worker.rocksdb import StateStore
from streams.worker.startup import own_folder, wait_for_kafka
from streams.worker.ticker import Ticker

log = logging.getLogger(__name__)

BOOKS_SECS_MAX = 2.0
FEED_SECS_MAX = 300.0
"""Timeout for the first read of the indicators. A million of them take half a minute."""


class Worker:
    """One worker: the Faust app and everything that guards it."""

    def __init__(
        self,
        settings: Settings,
        partitions: int,
        make_pipeline: MakePipeline,
        policy: Policy,
        feed: IndicatorFeed,
        counters: WorkerCounters,
        facts: WorkerFacts,
        at_hand: AtHand,
        deaths: Deaths,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        worker = settings.worker
        self._feed = feed
        self._at_hand = at_hand
        self.counters, self.facts = counters, facts
        # Services without a loop take the current thread's; the threads of the pages and of the watchdog have none.
        self.app = faust.App(worker.group, loop=loop, **faust_settings(settings, partitions))
        self._messages_max = worker.batch_messages_max
        self._wait_secs = worker.batch_wait_secs
        self._topic = topic_name(settings, TELEMETRY)
        self.own: frozenset[int] = frozenset()
        """Input partitions that are assigned now."""
        self._commits = Commits(self._topic)
        self._input = self.app.topic(self._topic, key_type=bytes, value_type=bytes, allow_empty=True)
        self.table: Any = self.app.Table(
            "state",
            key_type=bytes,
            value_type=bytes,
            partitions=partitions,
            # Bytes per partition. The store is read once, from beginning to end, so a larger cache has no use.
            options={"block_cache_size": 2 << 20, "write_buffer_size": 8 << 20},
        )
        self._data_dir = Path(worker.data_dir)
        self._lease = Lease(worker.session_timeout_secs, self._data_dir, self.counters)
        self.group = GroupView(settings)
        self.bench = BatchProcessor(
            correlation=settings.correlation,
            make_pipeline=make_pipeline,
            policy=policy,
            delivery=Delivery(settings, self._send, self.counters),
            store=StateStore(self.table),
            lease=self._lease,
            stands_at=self.group.stands_at,
            deaths_in=deaths.of,
            counters=self.counters,
            rejects=RejectGuard(worker, self.counters),
            at_hand=at_hand,
            long_secs=worker.stall_secs_max / 3,
        )
        self.app.agent(self._input, concurrency=1, name="correlate")(self._correlate)
        self.app.task(Ticker(self._topic, self._send, lambda: self.own, self.counters).run)
        self.app.on_partitions_assigned.connect(self._assigned)
        self.app.on_partitions_revoked.connect(self._revoked)
        self.table.on_recover(self._hold_flow)
        tables: Any = self.app.tables
        tables.sleep = _no_sleep  # Faust waits a second for tables created later; this one exists
        tables.loop = tables.recovery.loop = loop

    async def _correlate(self, stream: Any) -> None:
        try:
            async for events in batches(stream, self._messages_max, self._wait_secs):
                await self._handle(stream, events)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # any exception: leaving the agent by it would acknowledge the batch
            blame_disk(error, self._data_dir)
            self._at_hand.note_exit(Exit.UNEXPECTED)
            end(Exit.UNEXPECTED, f"a batch failed: {error!r}")

    async def _handle(self, stream: Any, events: list[Any]) -> None:
        # No message is assessed with indicators that may have changed. The membership is read after this wait, which
        # may be long: a batch that begins under an ended membership blocks the next one forever.
        await self._feed.wait_fresh(max(_logged_ms(event.message) for event in events))
        generation = self._lease.membership().generation
        batch: dict[int, list[Message]] = {}
        for event in events:
            message = event.message
            if message.generation_id != generation:
                # The batch was read before a rebalance, and the partition's present owner reads it again. Faust's stream keeps
                # the last
                # message that it took, and a rebalance cannot end while that message counts as unacknowledged.
                self.app.consumer.unacked.discard(message)
                self.counters.messages_stale += 1
                continue
            batch.setdefault(message.partition, []).append(_message(message))
        if not batch:
            return
        await self.bench.handle(batch)
        for partition, messages in batch.items():
            self._commits.handled(partition, messages[-1].offset)
        left = []
        for event in events:
            message = event.message
            if message.generation_id != generation:
                continue
            if message.offset > batch[message.partition][-1].offset:
                left.append(event)
            else:
                await stream.ack(event)
        if left:
            await self.app.consumer.commit()
            await self._handle(stream, left)

    async def _send(self, outgoing: OutgoingRecord) -> Any:
        # Kafka's compaction removes a key whose value is null.
        value = outgoing.value or None
        return await self.app.producer.send(
            outgoing.topic, outgoing.key, value, outgoing.partition, None, list(outgoing.headers)
        )

    async def _hold_flow(self, *_: object) -> None:
        """Stop the flow after each recovery, so that records read ahead are dropped.

        Faust clears its queues only after reading has resumed. Faust itself resumes the consumer and the flow control, right
        after it has moved back to the committed offsets.
        """
        consumer: Any = self.app.consumer
        consumer.stop_flow()
        self.app.flow_control.suspend()
        consumer._add_gap = _no_gap
        self.bench.forget()
        self.facts.recovered = True

    async def _assigned(self, _app: Any, /, *args: Any, **_: Any) -> None:
        (assigned,) = args
        consumer: Any = self.app.consumer
        self._lease.watch(consumer._thread._consumer._coordinator)
        self._commits.watch(consumer)
        self._commits.forget()
        self.bench.forget()
        self.own = frozenset(tp.partition for tp in assigned if tp.topic == self._topic)
        self.facts.joined = True
        self.counters.rebalances["assigned"] += 1

    async def _revoked(self, *_: Any, **__: Any) -> None:
        self._lease.joining()  # aiokafka calls this right before it requests partitions, also the first time
        self.own = frozenset()
        self._commits.forget()
        self.bench.forget()
        self.facts.joined = self.facts.recovered = False
        self.counters.rebalances["revoked"] += 1

    def books(self) -> list[dict[str, int]]:
        """Return the pipelines' counters, for another thread; an empty list if the event loop is busy for BOOKS_SECS_MAX.

        The event loop reads them, so nothing changes them meanwhile.
        """

        async def read() -> list[dict[str, int]]:
            return self.bench.books()

        try:
            return asyncio.run_coroutine_threadsafe(read(), self.app.loop).result(BOOKS_SECS_MAX)
        except TimeoutError:
            return []

    def sign_of_work(self) -> object:
        """Return a value that changes while a recovery or a large batch progresses, when nothing can be committed."""
        tables: Any = self.app.tables
        recovery = tables.recovery
        if not recovery.in_recovery:
            return self.bench.goes_forward()
        return sum(offset or 0 for offset in dict(recovery.active_offsets).values())  # None until it is known


class FaustProcess(faust.Worker):
    """Faust's process: runs the app until a signal and records that a stop was requested."""

    stop_asked = False

    def install_signal_handlers(self) -> None:
        """Install Python's own handlers, as asyncio's are not called while the event loop is busy."""
        for wanted in (signal.SIGTERM, signal.SIGINT):
            signal.signal(wanted, self._on_stop_signal)

    def _on_stop_signal(self, signum: int, _frame: object) -> None:
        self.stop_asked = True
        self.loop.call_soon_threadsafe(self._begin_to_stop, signal.Signals(signum))

    def _begin_to_stop(self, signum: signal.Signals) -> None:
        log.info("stopping", extra={"signal": signum.name})
        self._schedule_shutdown(signum)

    def _shutdown_loop(self) -> None:
        """Raise the reason of a crash, if any; replaces Faust's own shutdown.

        At this point the app has stopped and committed. Faust's own shutdown gives tasks one more second, which no task needs.
        """
        if self.crash_reason:
            raise self.crash_reason


def run(settings: Settings, make_pipeline: MakePipeline = Pipeline) -> NoReturn:
    """Run a worker until SIGTERM or SIGINT, then end the process. Raises SettingsError when it cannot start."""
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: end(Exit.DONE, "stopped while it waited for Kafka"))
    quiet_libraries()
    read_any_header_name()
    data_dir = Path(settings.worker.data_dir)
    try:
        lock, at_hand = own_folder(data_dir), AtHand(data_dir)
    except OSError as error:
        blame_disk(error, data_dir)
        raise
    counters, facts = WorkerCounters(), WorkerFacts(Looks(silent_since=time.monotonic()))
    policy = Policy(settings.protection)
    feed = IndicatorFeed(settings, policy.indicators, policy.suppressions)
    worker: Worker | None = None
    # Serve the pages before Kafka is reachable: they show what the worker waits for.
    serve_pages(settings.worker, counters, facts, lambda: worker.books() if worker else [], feed.families)
    partitions = wait_for_kafka(settings)
    try:
        feed.load(FEED_SECS_MAX)
    except FeedError as error:
        end(Exit.UNEXPECTED, str(error))
    deaths = Deaths(settings)
    if at_hand.last is not None:
        partition, death = at_hand.last
        log.warning(
            "the last process died in the middle of a message", extra={"partition": partition, **death._asdict()}
        )
        deaths.register(partition, death)
        at_hand.done()
    facts.started = True
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(settings, partitions, make_pipeline, policy, feed, counters, facts, at_hand, deaths, loop)
    worker.app.finalize()
    worker.app.worker_init()
    watch_store(worker.table.data, data_dir)  # opens the store
    # Keep the logging set-up: Faust's own switches the root logger to DEBUG at some levels.
    process = FaustProcess(worker.app, quiet=True, override_logging=False, redirect_stdouts=False, loop=loop)
    process.spinner = None
    Watchdog(
        worker.group,
        facts.looks,
        stall_secs_max=settings.worker.stall_secs_max,
        stop_secs_max=settings.worker.stop_secs_max,
        partitions=partitions,
        own_partitions=lambda: worker.own,
        sign_of_work=worker.sign_of_work,
        stopping=lambda: process.stop_asked or worker.app.should_stop,
        stop_asked=lambda: process.stop_asked,
        busy=lambda: worker.bench.busy,
        at_hand=at_hand,
    ).start()
    tune_collector()
    log.info("worker starts", extra={"group": settings.worker.group, "worker": settings.worker.name})
    try:
        process.execute_from_commandline()
    except SystemExit as leaving:
        if leaving.code:
            if process.crash_reason is not None:
                blame_disk(process.crash_reason, data_dir)
            end(Exit.UNEXPECTED, "Faust gave up; its error is above")
    os.close(lock)
    end(Exit.DONE, "stopped")


def _logged_ms(raw: Any) -> int:
    return int(1000 * raw.timestamp + 0.5)


def _message(raw: Any) -> Message:
    return Message.read(raw.offset, _logged_ms(raw), raw.key, raw.value, dict(raw.headers or ()))


async def _no_sleep(*_: object) -> None:
    """Replace Faust's own sleep where there is nothing to wait for."""


async def _no_gap(*_: object) -> None:
    """Replace Faust's own gap handling: never commit past unread offsets (continuity.py detects holes)."""
