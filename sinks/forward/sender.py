"""The sender thread: it sends pending alerts and retries until each is delivered or finally refused."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from sinks.base import SinkBusy
from sinks.forward.pending import PendingAlerts
from sinks.forward.queues import Item
from sinks.forward.target import Answer, Reply, Target
from sinks.sending import SendingThread

log = logging.getLogger(__name__)

PAUSE_SECS_FIRST = 0.25

Reroute = Callable[[Item, str], None]
"""A function that puts a message on the rejects topic, with the reason. Raises SinkBusy."""


class Sender(SendingThread):
    """A thread that takes pending alerts and sends them to the target."""

    def __init__(self, pending: PendingAlerts, target: Target, reroute: Reroute, retry_secs_max: float) -> None:
        super().__init__("forward-sender")
        self.answer: Answer | None = None
        """Answer to the last failed try, while the current alert is not delivered."""
        self._pending = pending
        self._target = target
        self._reroute = reroute
        self._retry_secs_max = retry_secs_max

    def run(self) -> None:
        """Send messages until the forwarder stops."""
        try:
            while (item := self._pending.take()) is not None:
                self._bring(item)
        except BaseException as error:  # noqa: BLE001  # the reading thread must end on it, not wait for ever
            self.failure = error

    def _bring(self, item: Item) -> None:
        pause = PAUSE_SECS_FIRST
        while not item.abandoned and not self._pending.stopping.wait(self._pending.hold_secs()):
            reply = self._try(item)
            if reply.answer is Answer.DELIVERED:
                self._recovered()
                self._pending.delivered(item)
                return
            if reply.answer is Answer.REFUSED:
                self._recovered()
                self._pending.rerouted(item)
                return
            self._note(item, reply)
            # Randomise the pause, so that the senders do not all retry at the same moment.
            self._pending.stopping.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311  # it is no secret
            pause = min(2 * pause, self._retry_secs_max)
        self.failing_since = self.answer = None

    def _try(self, item: Item) -> Reply:
        """Try once to deliver a message; REFUSED means that the message is on the rejects topic."""
        reply = Reply(Answer.REFUSED, item.why) if item.alert is None else self._target.send(item.raw, item.alert)
        if reply.answer is not Answer.REFUSED:
            return reply
        if item.alert is not None and not self._pending.may_reroute():
            return Reply(Answer.MISCONFIGURED, f"refuses one alert after another; the last: {reply.text}")
        try:
            self._reroute(item, reply.text)
        except SinkBusy as error:
            return Reply(Answer.UNREACHABLE, str(error))
        self._log(logging.ERROR, "alert refused for good, it went to the rejects topic", item, reply)
        return reply

    def _note(self, item: Item, reply: Reply) -> None:
        self._note_failure()
        self.answer = reply.answer
        self._pending.again(reply.answer, reply.pause_secs)
        if reply.answer is Answer.MISCONFIGURED:
            self._log(logging.ERROR, "receiver refuses until an operator acts, will retry", item, reply)
        else:
            self._log(logging.WARNING, "receiver takes nothing, will retry", item, reply)

    def _recovered(self) -> None:
        if self.failing_since is not None and self._throttle.reported_at >= self.failing_since:
            log.info("receiver takes alerts again", extra={"target": self._target.name})
        self.failing_since = self.answer = None

    def _log(self, level: int, what: str, item: Item, reply: Reply) -> None:
        if not self._throttle.due():
            return
        facts = {"target": self._target.name, "alert": item.line[1], "version": item.version, "reply": reply.text}
        log.log(level, what, extra={**facts, "waiting": self._pending.waiting})
