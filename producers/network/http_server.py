"""An HTTP server in its own thread, which accepts connections within bounds and passes requests to `answer`.

A connection is opened before the client's grant is known. Therefore, a client must send its request header in time, and
connections are bounded per client network and in total. If there is no room, the oldest connection that has not
authenticated yet is closed for the new one. A connection authenticates by a request that matches a grant.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web

from producers.network.http_requests import refusal
from producers.network.inputs import Outcome
from producers.network.pending_requests import PendingRequests, Refused
from producers.sources.endpoint import Endpoint, Scheme
from producers.sources.source import SourceError
from schemas.address import split_authority
from schemas.sections.inputs import InputSettings

log = logging.getLogger(__name__)

Answer = Callable[[web.BaseRequest, Callable[[], None]], Awaitable[web.Response]]

BACKLOG = 128
HEADER_LINE_BYTES_MAX, HEADERS_MAX = 4_096, 64
"""Bounds of a header, at most 256 KiB in total."""
LINGER_SECS = 2.0
"""Seconds for which the rest of a refused request is read, so that the client receives the response (RFC 9112 section 9.6).

Also the time limit for closing TLS.
"""
ACCEPT_PAUSE_SECS = 0.1
"""Pause after a failed accept: the connection was closed already, or no file descriptor is left."""
STOP_SECS_MAX = 0.5
"""Seconds for which a stop of the server waits for requests in progress."""
NETWORK_BITS_IPV6 = 64
"""Prefix length of an IPv6 network whose addresses usually all belong to one subscriber (RFC 6177)."""


class HttpServer:
    """A server that runs from its creation until `close`.

    `answer` receives each request and a function to call once the request matches a grant. The constructor raises
    SourceError if the address cannot be bound or the TLS settings are invalid.
    """

    def __init__(self, endpoint: Endpoint, settings: InputSettings, answer: Answer, pending: PendingRequests) -> None:
        self._settings, self._answer, self._pending = settings, answer, pending
        self._tls = _tls(endpoint, settings) if endpoint.scheme is Scheme.HTTPS else None
        self._listener = _listen(endpoint, settings)
        self._connections: dict[_Connection, str] = {}
        self._per_network: Counter[str] = Counter()
        self._unknown: dict[_Connection, None] = {}
        """Connections that have not authenticated yet, the oldest first."""
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="http-input", daemon=True)
        self._thread.start()

    @property
    def serves(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Close the listener, wait up to `STOP_SECS_MAX` for requests in progress, and end the thread."""
        if self.serves:
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, self._listener:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = web.Server(self._handle)
        accepting = asyncio.create_task(self._accept(server))
        stopped = asyncio.create_task(self._stopped.wait())
        await asyncio.wait({accepting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():
            accepting.result()  # raises the exception of the task
        accepting.cancel()
        server.pre_shutdown()
        await server.shutdown(STOP_SECS_MAX)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        return await self._answer(request, partial(self._unknown.pop, request.protocol, None))

    async def _accept(self, server: web.Server) -> None:
        while True:
            # Let accepted connections run, and in a flood of connections all other tasks.
            await asyncio.sleep(0)
            try:
                stream, place = await self._loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE_SECS)
                continue
            network = network_of(place[0])
            if not self._make_room(network):
                self._pending.count(Outcome.HTTP_FULL)
                stream.close()
                continue
            connection = _Connection(server, self._loop, self._settings, self._pending, self._forget)
            self._connections[connection] = network
            self._per_network[network] += 1
            self._unknown[connection] = None
            connection.beginning = asyncio.create_task(self._begin(connection, stream))

    async def _begin(self, connection: _Connection, stream: socket.socket) -> None:
        tls: dict[str, Any] = {}
        if self._tls is not None:
            tls = {
                "ssl": self._tls,
                "ssl_handshake_timeout": self._settings.http_header_secs_max,
                "ssl_shutdown_timeout": LINGER_SECS,
            }
        try:
            await self._loop.connect_accepted_socket(lambda: connection, stream, **tls)
        except OSError:  # the client closed the connection, or the TLS handshake failed
            self._forget(connection)

    def _make_room(self, network: str) -> bool:
        """Make room for a connection from this client network.

        If the limit of the network is reached, close its oldest connection that has not authenticated yet; if the total
        limit is reached, the oldest such connection of any network. Return False if there is none to close.
        """
        if self._per_network[network] >= self._settings.http_connections_per_address_max:
            oldest = next((one for one in self._unknown if self._connections[one] == network), None)
        elif len(self._connections) >= self._settings.http_connections_max:
            oldest = next(iter(self._unknown), None)
        else:
            return True
        if oldest is None:
            return False
        self._pending.count(Outcome.HTTP_FULL)
        self._forget(oldest)
        oldest.abort()
        return True

    def _forget(self, connection: _Connection) -> None:
        self._unknown.pop(connection, None)
        network = self._connections.pop(connection, None)
        if network is not None:
            self._per_network[network] -= 1
            if not self._per_network[network]:
                del self._per_network[network]


class _Connection(web.RequestHandler):
    """One connection. It is closed if a request header does not arrive completely in time after its start or last response."""

    beginning: asyncio.Task[None]

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        settings: InputSettings,
        pending: PendingRequests,
        ended: Callable[[_Connection], None],
    ) -> None:
        options: dict[str, Any] = {
            # Arriving bytes do not extend this timeout, so it is also the time limit for the header.
            "keepalive_timeout": settings.http_header_secs_max,
            "max_line_size": HEADER_LINE_BYTES_MAX,
            "max_field_size": HEADER_LINE_BYTES_MAX,
            "max_headers": HEADERS_MAX,
            "lingering_time": LINGER_SECS,
            "auto_decompress": False,
            "access_log": None,
        }
        super().__init__(server, loop=loop, **options)
        self._pending, self._ended = pending, ended

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. Close the connection if a request target crashes the parser, instead of logging a traceback."""
        try:
            super().data_received(data)
        except (ValueError, LookupError):
            self._pending.count(Outcome.HTTP_WRONG)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection from the server's connection limits (asyncio callback)."""
        super().connection_lost(exc)
        self._ended(self)

    def abort(self) -> None:
        """End the connection at once, even during its TLS handshake."""
        if self.transport is not None:
            self.transport.abort()
        else:
            self.beginning.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to malformed HTTP or after an internal error (aiohttp callback)."""
        del request, message
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request failed", exc_info=exc)
        words = "the request's header is not well-formed, or too long" if status < 500 else "this is our mistake"
        refused = Refused(HTTPStatus(status), Outcome.HTTP_WRONG, words)
        self._pending.count(refused.outcome)
        return refusal(refused)


def network_of(address: str) -> str:
    """Return the network whose connections are limited together: an IPv4 address itself, or the /64 of an IPv6 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, NETWORK_BITS_IPV6), strict=False))


def _listen(endpoint: Endpoint, settings: InputSettings) -> socket.socket:
    host, port = split_authority(endpoint.places[0], 0)
    is_ipv6 = ":" in host
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if is_ipv6 else socket.AF_INET, backlog=BACKLOG, dualstack_ipv6=is_ipv6
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            todo = "another program listens there; stop it, or name another port"
        elif error.errno in (errno.EACCES, errno.EPERM):
            todo = "ports below 1024 need a right (CAP_NET_BIND_SERVICE); name a higher port"
        elif error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            todo = "this machine does not have that address; name one of its own, or 0.0.0.0"
        else:
            todo = str(error.strerror)
        raise SourceError(f"{endpoint}: cannot be listened on: {todo}") from None
    plain = endpoint.scheme is Scheme.HTTP and not settings.http_plaintext_allowed
    if plain and not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        listener.close()
        raise SourceError(
            f"{endpoint}: without TLS, tokens and lines could be read on the network; write https://{endpoint.places[0]}/"
            " with inputs.http_tls_cert_file, or listen on 127.0.0.1 behind a proxy that has TLS, or set"
            " inputs.http_plaintext_allowed"
        )
    listener.setblocking(False)
    return listener


def _tls(endpoint: Endpoint, settings: InputSettings) -> ssl.SSLContext:
    if not settings.http_tls_cert_file:
        raise SourceError(f"{endpoint}: has no certificate; set inputs.http_tls_cert_file, and http_tls_key_file")
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.http_tls_client_ca_file or None)
        context.load_cert_chain(settings.http_tls_cert_file, settings.http_tls_key_file or None)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{endpoint}: inputs.http_tls_cert_file, _key_file or _client_ca_file cannot be used: {error}; each has to be a"
            " PEM file that this user can read"
        ) from None
    if settings.http_tls_client_ca_file:
        # A client without a certificate may have the token of a grant. A certificate that a client sends must be valid.
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
