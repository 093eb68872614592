"""Handling of a request: check the grant, read the body within its bounds, wait for Kafka.

`producers.network.http` lists the statuses of the responses.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from producers.network.gunzip import Gunzip
from producers.network.inputs import Outcome
from producers.network.pending_requests import Body, PendingRequests, Refused
from producers.sources.grants import Grant, Grants
from schemas.address import canonical_ip
from schemas.sections.inputs import InputSettings

RETRY_SECS = 2
"""Seconds after which a client may send a refused body again."""
_RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_JSON_ARRAY = re.compile(rb"\s*\[\s*\{")


class Requests:
    """The request handler of one HTTP input."""

    def __init__(self, path: str, settings: InputSettings, grants: Grants, pending: PendingRequests) -> None:
        self._path, self._settings, self._grants, self._pending = path, settings, grants, pending

    async def answer(self, request: web.BaseRequest, known: Callable[[], None]) -> web.Response:
        """Return the response to one request. `known` is called once the request matches a grant."""
        try:
            await self._take(request, known)
        except Refused as refused:
            self._pending.count(refused.outcome)
            return refusal(refused)
        self._pending.count(Outcome.HTTP_ACKNOWLEDGED)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _take(self, request: web.BaseRequest, known: Callable[[], None]) -> None:
        if request.method != hdrs.METH_POST:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, Outcome.HTTP_WRONG, "send lines with POST")
        if request.remote is None:
            raise _wrong(HTTPStatus.BAD_REQUEST, "the connection ended early")
        address = canonical_ip(request.remote)
        grant = self._grant(request, address)
        known()
        if request.path != self._path:
            raise _wrong(HTTPStatus.NOT_FOUND, f"send lines to the path {self._path}")
        with self._pending.admitted(self._announced(request)) as reserve:
            value = await self._body(request, reserve)
            if _JSON_ARRAY.match(value) and value.rstrip().endswith(b"]"):
                raise _wrong(HTTPStatus.BAD_REQUEST, "the body is one JSON array; send one object a line (NDJSON)")
            if value.strip():
                published = asyncio.get_running_loop().create_future()
                await self._pending.publish(Body(grant, address, value, published))

    def _grant(self, request: web.BaseRequest, address: str) -> Grant:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        grant = self._grants.for_client(
            token=token.strip() if scheme.lower() == "bearer" else "",
            certificate_names=_names(request.get_extra_info("peercert")),
            address=address,
        )
        if grant is None:
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                Outcome.HTTP_UNAUTHORIZED,
                "send the token of a grant (Authorization: Bearer TOKEN), or show its certificate, from one of its addresses",
            )
        return grant

    def _announced(self, request: web.BaseRequest) -> int:
        size = request.content_length
        if size is None or hdrs.TRANSFER_ENCODING in request.headers:
            raise _wrong(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length, not Transfer-Encoding")
        if size > self._settings.http_body_bytes_max:
            raise self._too_large()
        return size

    async def _body(self, request: web.BaseRequest, reserve: Callable[[int], None]) -> bytes:
        value = bytearray()
        try:
            async with asyncio.timeout(self._settings.http_body_secs_max):
                if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
                    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    request.writer.output_size = 0  # aiohttp must not take this for the final response
                async for piece in self._pieces(request):
                    if len(value) + len(piece) > self._settings.http_body_bytes_max:
                        raise self._too_large()
                    reserve(len(piece))
                    value += piece
        except TimeoutError:
            raise Refused(
                HTTPStatus.REQUEST_TIMEOUT,
                Outcome.HTTP_SLOW,
                "the body took too long; send smaller ones, or raise inputs.http_body_secs_max",
            ) from None
        except (OSError, web.RequestPayloadError):
            raise _wrong(HTTPStatus.BAD_REQUEST, "the body ended early") from None
        return bytes(value)

    async def _pieces(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
        if encoding == "identity":
            async for chunk in request.content.iter_any():
                yield chunk
            return
        if encoding not in ("gzip", "x-gzip"):
            raise _wrong(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send it plain or with Content-Encoding: gzip")
        gunzip = Gunzip(self._settings)
        async for chunk in request.content.iter_any():
            for piece in gunzip.feed(chunk):
                yield piece
                await asyncio.sleep(0)  # let other tasks run between two pieces
        gunzip.finish()

    def _too_large(self) -> Refused:
        limit = self._settings.http_body_bytes_max
        return Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            Outcome.HTTP_TOO_LARGE,
            f"a body has at most {limit} bytes, unpacked; send smaller ones, or raise inputs.http_body_bytes_max",
        )


def refusal(refused: Refused) -> web.Response:
    """Return the response to a refused request. The connection stays open only if the client is asked to retry."""
    headers: dict[str, str] = {}
    if refused.status in _RETRIED:
        headers[hdrs.RETRY_AFTER] = str(RETRY_SECS)
    elif refused.status is HTTPStatus.UNAUTHORIZED:
        headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="unproxy"'
    elif refused.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers[hdrs.ALLOW] = hdrs.METH_POST
    response = web.Response(status=refused.status, text=f"{refused}\n", headers=headers)
    if refused.status not in _RETRIED:
        response.force_close()
    return response


def _wrong(status: HTTPStatus, words: str) -> Refused:
    return Refused(status, Outcome.HTTP_WRONG, words)


def _names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the subjects of a verified certificate: its DNS names, else its common name (RFC 6125 section 6.4.4)."""
    if not certificate:
        return ()
    names = tuple(name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS")
    common = tuple(value for part in certificate.get("subject", ()) for key, value in part if key == "commonName")
    return names or common
