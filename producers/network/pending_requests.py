"""Requests that wait for Kafka: the server's thread passes bodies to the producer's thread, which returns the results.

The number of requests and the bytes of their bodies are bounded.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from producers.network.inputs import Outcome
from producers.sources.grants import Grant
from schemas.sections.inputs import InputSettings


class Refused(Exception):
    """A refused request: the status, the outcome that it counts as, and what the client should do."""

    def __init__(self, status: HTTPStatus, outcome: Outcome, words: str) -> None:
        super().__init__(words)
        self.status, self.outcome = status, outcome


@dataclass(slots=True, eq=False)
class Body:
    """The lines of one request. `published` becomes True when Kafka has all of them, False when the producer stops."""

    grant: Grant
    address: str
    value: bytes
    published: asyncio.Future[bool]

    def answer(self, published: bool) -> None:
        """Pass the result to the server's thread, which completes the request. Called from the producer's thread."""
        loop = self.published.get_loop()
        if not loop.is_closed():  # the server may have ended
            loop.call_soon_threadsafe(self._set, published)

    def _set(self, published: bool) -> None:
        if not self.published.done():
            self.published.set_result(published)


class PendingRequests:
    """The requests that are in progress, and the queue of bodies. A lock protects what both threads use."""

    def __init__(self, settings: InputSettings) -> None:
        self._requests_max, self._bytes_max = settings.http_requests_waiting_max, settings.http_waiting_bytes_max
        self._answer_secs_max = settings.http_answer_secs_max
        self._requests = self._bytes = 0
        self._lock = threading.Lock()
        self._queue: deque[Body] = deque()
        self._unanswered: set[Body] = set()
        self._counts: Counter[str] = Counter()
        self._closed = False

    @contextmanager
    def admitted(self, size: int) -> Iterator[Callable[[int], None]]:
        """Admit a request that announces `size` bytes; yield the function that reserves bytes as they arrive.

        Bytes are reserved on arrival, so that a slow client occupies no room for bytes that it does not send. The
        admission and the function raise Refused if there is no room, and the admission also while stopping.
        """
        held = 0

        def room_for(more: int) -> None:
            if self._bytes > held and self._bytes + more > self._bytes_max:
                raise _full()

        def reserve(more: int) -> None:
            nonlocal held
            room_for(more)
            self._bytes += more
            held += more

        if self._closed:
            raise _stopping()
        if self._requests >= self._requests_max:
            raise _full()
        room_for(size)
        self._requests += 1
        try:
            yield reserve
        finally:
            self._requests -= 1
            self._bytes -= held

    async def publish(self, body: Body) -> None:
        """Pass a body to the producer and wait until Kafka has it. Raises Refused after a timeout or when stopping."""
        with self._lock:
            if self._closed:
                raise _stopping()
            self._queue.append(body)
            self._unanswered.add(body)
        try:
            async with asyncio.timeout(self._answer_secs_max):
                published = await body.published
        except TimeoutError:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                Outcome.HTTP_UNANSWERED,
                "Kafka did not acknowledge these lines in time; send them again, those it has will not count twice",
            ) from None
        finally:
            with self._lock:
                self._unanswered.discard(body)
                if body in self._queue:
                    self._queue.remove(body)
        if not published:
            raise _stopping()

    def count(self, outcome: Outcome) -> None:
        """Count the outcome of a request or a connection."""
        with self._lock:
            self._counts[outcome] += 1

    def take_counts(self) -> Counter[str]:
        """Return the counts since the last call."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts

    def next_body(self) -> Body | None:
        """Return the body that waits longest, None if there is none. Called from the producer's thread."""
        with self._lock:
            return self._queue.popleft() if self._queue else None

    def close(self) -> None:
        """Refuse waiting and further requests, because the producer stops."""
        with self._lock:
            self._closed = True
            for body in self._unanswered:
                body.answer(False)


def _full() -> Refused:
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS, Outcome.HTTP_FULL, "Kafka takes less than is sent; send it again later"
    )


def _stopping() -> Refused:
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        Outcome.HTTP_STOPPING,
        "this producer stops; send these lines again, those Kafka has will not count twice",
    )
