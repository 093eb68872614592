"""The worker of a run: the real one, that ends between two steps of a batch when a signal asks for it; or a broken one.

    python -m tests.faults.worker [BREAK]

Each break takes away one thing that the worker must not lack (see BREAKS), to see that a run finds it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from schemas.settings_file import load
from streams.worker.app import Worker, run
from streams.worker.batch import BatchProcessor
from streams.worker.delivery import Check, Delivery, OutgoingRecord
from streams.worker.guards import watchdog
from streams.worker.guards.exit_codes import Exit, end
from streams.worker.guards.lease import Lease
from streams.worker.rocksdb import StateStore
from tests.faults.stubborn import hang, know_stubborn
from unproxy.telemetry import set_up

STEPS = ("outputs delivered", "state in the changelog", "state kept locally")
HOLE_AFTER_MESSAGES = 60
BATCH_SECS = 0.5
"""How long the batches of a broken worker fill."""


def _replace(owner: object, name: str, by: object) -> None:
    """Put something else in a name's place, for the life of this process."""
    setattr(owner, name, by)


def ack_before_delivery() -> None:
    """Input is acknowledged before anything made from it is delivered."""
    handle = Worker._handle

    async def handle_acknowledged(worker: Worker, stream: Any, events: list[Any]) -> None:
        for event in events:
            # Else the commit would be cut.
            worker._commits.handled(event.message.partition, event.message.offset)
            await stream.ack(event)
        await worker.app.consumer.commit()
        await handle(worker, stream, events)

    _replace(Worker, "_handle", handle_acknowledged)


def state_before_outputs() -> None:
    """The state, with the input's offset in it, is durable before the outputs are."""
    deliver = Delivery.deliver
    held: list[tuple[Delivery, list[OutgoingRecord], Check]] = []

    async def deliver_late(delivery: Delivery, given: Iterable[OutgoingRecord], check: Check) -> dict[int, int]:
        outgoing_records = list(given)
        changelog = delivery._topics["state-changelog"]
        if any(outgoing.topic == changelog for outgoing in outgoing_records):
            done = await deliver(delivery, outgoing_records, check)
            _end_when_asked(STEPS[1])
            while held:
                await deliver(*held.pop())
            return done
        held.append((delivery, outgoing_records, check))
        return {}

    _replace(Delivery, "deliver", deliver_late)


def no_recovery_hook() -> None:
    """What was read ahead is not dropped after a recovery, and Faust may step over what it takes for a gap."""

    async def nothing(worker: Worker, *_: object) -> None:
        worker.bench.forget()

    _replace(Worker, "_hold_flow", nothing)


def local_state_first() -> None:
    """State is kept locally before the changelog has it."""
    save = BatchProcessor._save

    async def keep_and_save(bench: BatchProcessor, entries: Any, check: Check) -> None:
        for partition, some in entries.items():
            if some:
                bench.store.write(partition, some)
        await save(bench, entries, check)

    _replace(BatchProcessor, "_save", keep_and_save)


def no_lease() -> None:
    """The check that the partitions are still ours is left out."""

    async def never(*_: object) -> None:
        return None

    _replace(Lease, "check", never)


def hole_in_the_offsets() -> None:
    """A message vanishes between Kafka and the agent, once: each life that ends itself at a hole would make another one."""
    handle = Worker._handle
    seen = count()
    made = Path(load().worker.data_dir) / "hole"

    async def handle_some(worker: Worker, stream: Any, events: list[Any]) -> None:
        kept = []
        for event in events:
            if next(seen) >= HOLE_AFTER_MESSAGES and not made.exists():
                made.touch()
                await stream.ack(event)
            else:
                kept.append(event)
        if kept:
            await handle(worker, stream, kept)

    _replace(Worker, "_handle", handle_some)


BREAKS: dict[str, Callable[[], None]] = {
    "ack-before-delivery": ack_before_delivery,
    "state-before-outputs": state_before_outputs,
    "no-recovery-hook": no_recovery_hook,
    "local-state-first": local_state_first,
    "no-lease": no_lease,
    "hole-in-the-offsets": hole_in_the_offsets,
}


GUARDED = {"no-recovery-hook", "hole-in-the-offsets"}
"""Those that the continuity check is there for."""
STEP_OF_BREAK = {"state-before-outputs": STEPS[1], "local-state-first": STEPS[2], "no-lease": STEPS[0]}
"""Where a broken worker ends when it is asked to: where the break shows."""
_steps: Sequence[str] = STEPS
_asked: list[tuple[str, signal.Signals]] = []
"""The step at which to end and the signal; the latest request only."""


def _ask(signum: int, _frame: object) -> None:
    _asked[:] = [(random.choice(_steps), signal.SIGKILL if signum == signal.SIGUSR1 else signal.SIGSTOP)]


def _end_when_asked(step: str) -> None:
    if _asked and _asked[0][0] == step:
        _, how = _asked.pop()
        os.kill(os.getpid(), how)


def end_between_steps() -> None:
    """At one of the worst points of its next batch the worker kills itself on SIGUSR1, and stops itself on SIGUSR2."""
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, _ask)
    write, save = StateStore.write, BatchProcessor._save

    def write_or_end(store: StateStore, partition: int, entries: Iterable[tuple[bytes, bytes]]) -> None:
        _end_when_asked(STEPS[1])
        write(store, partition, entries)
        _end_when_asked(STEPS[2])

    async def save_or_end(bench: BatchProcessor, entries: Any, check: Check) -> None:
        if any(entries.values()):
            _end_when_asked(STEPS[0])
        await save(bench, entries, check)

    _replace(StateStore, "write", write_or_end)
    _replace(BatchProcessor, "_save", save_or_end)


def take_much_at_once() -> None:
    """Of what is at hand when a broken worker ends something must be missed; of a few lines nothing may be."""
    make = Worker.__init__

    def make_patient(worker: Worker, *arguments: Any) -> None:
        make(worker, *arguments)
        worker._wait_secs = BATCH_SECS

    _replace(Worker, "__init__", make_patient)


def report_where_it_stands() -> None:
    """When the watchdog ends the worker, print where each of its tasks waits."""
    make, stalled = Worker.__init__, end
    made: list[Worker] = []

    def make_and_keep(worker: Worker, *arguments: Any) -> None:
        make(worker, *arguments)
        made.append(worker)

    def report_and_end(code: Exit, why: str) -> NoReturn:
        if code is Exit.STALLED:
            for task in asyncio.all_tasks(made[0].app.loop):
                print("stands:", " < ".join(_awaited(task.get_coro())), file=sys.stderr)
        stalled(code, why)

    _replace(Worker, "__init__", make_and_keep)
    _replace(watchdog, "end", report_and_end)


def _awaited(waits: Any) -> list[str]:
    """What a coroutine waits in, the innermost first."""
    chain: list[str] = []
    while waits is not None:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "ag_frame", None) or getattr(waits, "gi_frame", None)
        if frame is not None:
            chain.insert(0, f"{frame.f_code.co_name}:{frame.f_lineno}")
        waits = (
            getattr(waits, "cr_await", None) or getattr(waits, "ag_await", None) or getattr(waits, "gi_yieldfrom", None)
        )
    return chain


if __name__ == "__main__":
    set_up(service=True, verbose="FAULTS_VERBOSE" in os.environ)
    if sys.argv[1:]:
        BREAKS[sys.argv[1]]()
        if sys.argv[1] not in GUARDED:
            take_much_at_once()
        _steps = (STEP_OF_BREAK.get(sys.argv[1], STEPS[0]),)
    know_stubborn(hang)
    end_between_steps()
    report_where_it_stands()
    run(load())
