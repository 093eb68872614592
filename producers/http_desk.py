"""Where a request waits for Kafka: bodies go to the producer's loop, answers come back, and there is a bound on what waits."""

from __future__ import annotations

import threading
from collections import Counter, deque
from http import HTTPStatus

from producers.grants import Grants
from producers.inputs import Outcome
from schemas.settings import InputSettings


class Body:
    """The lines of one request, and its answer once there is one."""

    def __init__(self, client: str, value: bytes) -> None:
        self.client, self.value = client, value
        self.published: bool | None = None
        self.answered = threading.Event()


class Refused(Exception):
    """A request that is not taken: the status and what to do, in words."""

    def __init__(self, status: HTTPStatus, outcome: Outcome, words: str) -> None:
        super().__init__(words)
        self.status, self.outcome = status, outcome


class Desk:
    """Between the threads of the requests and the producer's loop: what waits for it, and how much that may be."""

    def __init__(self, settings: InputSettings) -> None:
        self.settings = settings
        self.unpacking = threading.Lock()
        """One body at a time has a size that nobody made room for."""
        self._grants = Grants(settings)
        self._lock = threading.Lock()
        self._queue: deque[Body] = deque()
        self._bytes = 0
        self._unanswered: set[Body] = set()
        self._counts: Counter[str] = Counter()
        self._closed = False

    def knows(self, authorization: str) -> bool:
        """Whether the header holds the token of a grant."""
        token = authorization.removeprefix("Bearer ")
        return token != authorization and self._grants.for_client(token=token) is not None

    def count(self, outcome: Outcome) -> None:
        """From any thread."""
        with self._lock:
            self._counts[outcome] += 1

    def take_counts(self) -> Counter[str]:
        """What was counted since the last time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts

    def reserve(self, size: int) -> None:
        """Have room for a body before it is read. Raises Refused when there is none."""
        with self._lock:
            if self._closed:
                raise stopping()
            if self._bytes and self._bytes + size > self.settings.http_waiting_bytes_max:
                raise Refused(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    Outcome.HTTP_FULL,
                    "Kafka takes less than is sent; send it again later",
                )
            self._bytes += size

    def free(self, size: int) -> None:
        """Give room back."""
        with self._lock:
            self._bytes -= size

    def publish(self, body: Body) -> None:
        """Hand a body to the loop and wait until Kafka has it. Raises Refused when it does not get it in time."""
        with self._lock:
            if self._closed:
                raise stopping()
            self._queue.append(body)
            self._unanswered.add(body)
        body.answered.wait(self.settings.http_answer_secs_max)
        with self._lock:
            self._unanswered.discard(body)
            if body.published is None and body in self._queue:
                self._queue.remove(body)
        if body.published is None:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                Outcome.HTTP_UNANSWERED,
                "Kafka did not acknowledge these lines in time; send them again, those it has will not count twice",
            )
        if not body.published:
            raise stopping()

    def next_body(self) -> Body | None:
        """For the loop: the body that waits for longest."""
        with self._lock:
            return self._queue.popleft() if self._queue else None

    def settle(self, body: Body) -> None:
        """Kafka has it."""
        body.published = True
        body.answered.set()

    def close(self) -> None:
        """Everybody who waits is told to come again."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            for body in self._unanswered:
                if body.published is None:
                    body.published = False
                    body.answered.set()


def stopping() -> Refused:
    """What is answered while we stop."""
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        Outcome.HTTP_STOPPING,
        "this producer stops; send these lines again, those Kafka has will not count twice",
    )
