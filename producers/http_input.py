"""Takes POSTed lines, and answers only once Kafka has all of them.

    204    Kafka has every line of the body
    400 401 404 405 411 413 415    the request is wrong: the answer says how; sending it again as it is changes nothing
    429 503    there is no room, no answer of Kafka, or we stop: Retry-After says when to send the whole body again

A client that got no answer sends its body again; what Kafka had by then is there twice, and is one row, as identity comes from
content. Each client's address is a sensor of its own, in the order its bodies came.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from producers.endpoint import Endpoint
from producers.grants import Grants
from producers.http_desk import Body, Desk
from producers.http_server import HttpServer
from producers.inputs import published_before
from producers.lines import CHUNK_BYTES, Lines
from producers.listening import bound, here
from producers.source import Line, Source, SourceError, SourceFile
from schemas.settings import InputSettings

log = logging.getLogger(__name__)

CLIENTS_MAX = 1_000
"""Addresses whose lines are remembered as one file; beyond it those that wait for nothing are forgotten."""
HELD_SECS_MAX = 1.0
"""Of a client that sent nothing for this long no line is held back for others that may belong to it."""
STOP_SECS_MAX = 0.5
"""For the answers under way when we stop."""


class HttpInput:
    """One address that takes lines. Raises SourceError when it cannot be listened on, or no token is set."""

    def __init__(
        self,
        source: Source,
        endpoint: Endpoint,
        settings: InputSettings,
        counts: Counter[str],
        *,
        line_bytes_max: int,
        clock: Callable[[], float],
    ) -> None:
        if not Grants(settings).has_clients:
            raise SourceError(
                f"{endpoint}: no client may send lines here; write a grant for each: [inputs.grants.NAME] with a token, and"
                " send it as Authorization: Bearer TOKEN"
            )
        self._dialect, self._endpoint, self._line_bytes_max = source.dialect, endpoint, line_bytes_max
        self._counts, self._clock = counts, clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._stopped = False
        self._desk = Desk(settings)
        self._server = bound(endpoint, lambda place: HttpServer(place, self._desk, endpoint.name))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http-input", daemon=True)
        self._thread.start()
        log.info("listening", extra={"source": str(endpoint)})

    def lines(self) -> Iterator[Line | None]:
        """Lines of the bodies, each client's in the order they came."""
        while True:
            body = self._desk.next_body() if not self._stopped else None
            if body is not None:
                yield from self._client(body.client).take(body, self._clock())
                continue
            now = self._clock()
            for client in self._clients.values():
                if now - client.quiet_since >= HELD_SECS_MAX:
                    yield from client.lines.let_go()
            yield None

    def acknowledged(self, before: Mapping[SourceFile, int]) -> None:
        """Answer the requests whose lines are published as a whole."""
        for client in self._clients.values():
            for body in client.done(published_before(client.lines.file, before)):
                self._desk.settle(body)
        self._counts.update(self._desk.take_counts())

    def stop(self) -> None:
        """Begin no other body; the one that was begun is given."""
        self._stopped = True

    def close(self) -> None:
        """Take no more, and have those who still wait send again."""
        self._desk.close()
        self._server.shutdown()
        self._thread.join()
        self._server.wait_for_answers(STOP_SECS_MAX)
        self._server.server_close()
        self._counts.update(self._desk.take_counts())

    def _client(self, address: str) -> _Client:
        client = self._clients.get(address)
        if client is None:
            file = SourceFile(self._dialect.name, str(self._endpoint), f"{here(self._endpoint)}/{address}")
            client = self._clients[address] = _Client(Lines(file, self._dialect, self._line_bytes_max))
        self._clients.move_to_end(address)
        if len(self._clients) > CLIENTS_MAX:
            idle = next((name for name, one in self._clients.items() if one is not client and not one.waiting), None)
            if idle is not None:
                del self._clients[idle]
        return client


class _Mark(NamedTuple):
    end: int
    body: Body


class _Client:
    """The bodies of one client, one after the other, as if they were a file."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.quiet_since = 0.0
        self.waiting: deque[_Mark] = deque()

    def take(self, body: Body, now: float) -> Iterator[Line]:
        """Its lines. A body ends its last line, with or without newline."""
        self.quiet_since = now
        value = body.value if body.value.endswith(b"\n") else body.value + b"\n"
        self.waiting.append(_Mark(self.lines.fed_to + len(value), body))
        for start in range(0, len(value), CHUNK_BYTES):
            yield from self.lines.feed(value[start : start + CHUNK_BYTES])
        self.lines.file.taken = self.lines.given_to

    def done(self, before: int) -> Iterator[Body]:
        """The bodies that are published as a whole."""
        while self.waiting and self.waiting[0].end <= before:
            yield self.waiting.popleft().body
