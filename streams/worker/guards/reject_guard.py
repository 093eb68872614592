"""The guard against too many rejected lines: it sets a metric, logs and, if `worker.stop_on_rejects` is set, ends the worker.

It ends the worker before anything of the current batch is delivered or acknowledged. The supervisor restarts the worker, which
ends again until the lines can be read or the setting is changed. Meanwhile the offsets do not move and nothing is rerouted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from schemas.events import Reason, Reject
from schemas.settings import WorkerSettings
from streams.pipeline import Output
from streams.worker.counters import WorkerCounters
from streams.worker.guards.exit_codes import Exit, end
from streams.worker.guards.reject_rate import RejectRate

log = logging.getLogger(__name__)

EXAMPLE_CHARS_MAX = 200


class RejectGuard:
    """The check of the rejects in each batch of one worker."""

    def __init__(self, worker: WorkerSettings, counters: WorkerCounters) -> None:
        self._worker = worker
        self._counters = counters
        folder = Path(worker.data_dir)
        self._mark = folder.with_name(folder.name + ".stopped-on-rejects")
        """Marker file: it exists from a stop because of rejects until a later process finds their share acceptable again."""
        self._marked = self._mark.exists()
        self._rate = RejectRate(
            worker.reject_rate_max,
            worker.reject_window_secs,
            worker.reject_lines_min,
            doubted=self._marked and worker.stop_on_rejects,
        )
        counters.reject_rate_over = self._rate.doubted

    def judge(self, outputs: Sequence[Output]) -> None:
        """Count the lines and rejects of outputs before their delivery; end the process if the worker must stop."""
        before, rate = self._rate.over, self._rate
        # Lines refused as not allowed do not count: otherwise forged lines could stop the worker.
        rejects = [one for output in outputs for one in output.rejects if one.reason is not Reason.NOT_ALLOWED]
        over = rate.note(sum(output.lines for output in outputs), len(rejects), time.monotonic())
        self._counters.reject_rate = rate.share
        self._counters.reject_rate_over = over or rate.doubted
        if over and self._worker.stop_on_rejects:
            self._mark.touch()
            end(Exit.REJECTS, f"{self._in_words()}; {_example(rejects)}")
        if over and not before:
            log.error("too many lines are rejected", extra={"why": f"{self._in_words()}; {_example(rejects)}"})
        elif before and not over:
            log.warning("the share of rejected lines is below its limit again", extra={"share": round(rate.share, 4)})
        if self._marked and not over and not rate.doubted:
            self._marked = False
            self._mark.unlink(missing_ok=True)

    def _in_words(self) -> str:
        rate, worker = self._rate, self._worker
        return (
            f"{rate.rejected} of {rate.lines} lines within {worker.reject_window_secs:g} s were rejected, more than"
            f" worker.reject_rate_max = {worker.reject_rate_max:g} allows"
        )


def _example(rejects: Sequence[Reject]) -> str:
    """Return the latest reject in words, as the topic may not have it yet."""
    if not rejects:
        return "see `unproxy rejects`"
    last = rejects[-1]
    where = f"dialect {last.dialect!r}, device {last.device!r}"
    return f"the latest one is {last.reason} ({where}): {last.detail[:EXAMPLE_CHARS_MAX]}"
