"""The HTTP input: it accepts POSTed lines and answers only once Kafka has all of them.

    204    Kafka has every line of the body
    400 401 404 405 411 413 415    the request is wrong: the answer gives the reason; an unchanged retry fails again
    408    the body did not arrive in time
    429 503    no room, no answer of Kafka, or a stop: send the whole body again after the time in Retry-After

A client that got no answer sends its body again. Lines that Kafka already had are then published twice but become one
row, because the identity of a row is computed from the content of its line. Each pair of grant and client address is a
sensor of its own; its bodies keep their order.

    server's thread (http_server, http_requests)          producer's thread (HttpInput)
    header, grant, body ──► PendingRequests ─────────────► lines ──► Kafka
    204 ◄────────────────── Body.answer ◄──────────────── acknowledged
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from socket import gethostname

from producers.files.lines import Lines
from producers.network.http_requests import Requests
from producers.network.http_server import HttpServer
from producers.network.inputs import VirtualFile
from producers.network.pending_requests import Body, PendingRequests
from producers.publish.publisher import PublisherFailed
from producers.sources.endpoint import Endpoint, Scheme
from producers.sources.grants import Grants
from producers.sources.source import Line, Source, SourceError, SourceFile
from schemas.sections.inputs import InputSettings

log = logging.getLogger(__name__)

CLIENTS_MAX = 1_000
"""Number of clients that are kept as virtual files. Above it, clients without a waiting body are evicted."""


class HttpInput:
    """An HTTP source that listens on one address.

    The constructor raises SourceError if the address cannot be bound, or if no client can match a grant.
    """

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
        grants = Grants(settings)
        verified = endpoint.scheme is Scheme.HTTPS and bool(settings.http_tls_client_ca_file)
        if not grants.has_clients(certificates=verified):
            raise SourceError(
                f"{endpoint}: no client may send lines here; write a grant for each: [inputs.grants.NAME] with a token, which"
                " it sends as Authorization: Bearer TOKEN, or over https:// with certificates and inputs.http_tls_client_ca_file"
            )
        self._source, self._endpoint, self._line_bytes_max = source, endpoint, line_bytes_max
        self._counts, self._clock = counts, clock
        self._clients: OrderedDict[tuple[str, str], VirtualFile[Body]] = OrderedDict()
        self._stopped = False
        self._pending = PendingRequests(settings)
        requests = Requests(f"/{endpoint.name}", settings, grants, self._pending)
        self._server = HttpServer(endpoint, settings, requests.answer, self._pending)
        log.info("listening", extra={"source": str(endpoint)})

    def lines(self) -> Iterator[Line | None]:
        """Yield the lines of the bodies, in order per client; None while there are none.

        Raises PublisherFailed if the server ended because of an error.
        """
        while True:
            body = self._pending.next_body() if not self._stopped else None
            if body is not None:
                line = None
                for line in self._client(body).take(body.value, body, self._clock()):
                    yield line
                if line is None:
                    yield None  # a sequence of bodies without lines must not block the producer
            elif not self._server.serves:
                raise PublisherFailed(f"{self._endpoint}: the server ended, its error is in the log; start again")
            else:
                now = self._clock()
                for client in self._clients.values():
                    yield from client.released(now)
                yield None

    def acknowledged(self, before: Mapping[SourceFile, int]) -> None:
        """Answer the requests whose bodies are completely published. `before` is described at `Input.acknowledged`."""
        for client in self._clients.values():
            for body in client.published(before):
                body.answer(True)
        self._counts.update(self._pending.take_counts())

    def stop(self) -> None:
        """Begin no further body; `lines` completes the current one."""
        self._stopped = True

    def close(self) -> None:
        """Answer waiting requests with 503, so that their clients send again, and stop the server."""
        self._pending.close()
        self._server.close()
        self._counts.update(self._pending.take_counts())

    def _client(self, body: Body) -> VirtualFile[Body]:
        key = body.grant.name, body.address
        client = self._clients.get(key)
        if client is None:
            sensor = f"{gethostname()}:{self._endpoint.scheme}://{self._endpoint.places[0]}/{'/'.join(key)}"
            dialect = self._source.dialect
            file = SourceFile(dialect.name, str(self._endpoint), sensor, grant=body.grant)
            lines = Lines(file, dialect, self._line_bytes_max, self._source.failures)
            client = self._clients[key] = VirtualFile(lines, self._clock())
        self._clients.move_to_end(key)
        if len(self._clients) > CLIENTS_MAX:
            idle = next((known for known, one in self._clients.items() if one is not client and not one.waiting), None)
            if idle is not None:
                del self._clients[idle]
        return client
