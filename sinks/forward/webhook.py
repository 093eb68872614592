"""A webhook: one signed POST per version of an alert; the body is the message of `block-alerts`, byte for byte."""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError, SSLError
from urllib3.response import BaseHTTPResponse

from common import tls
from schemas.settings import ForwardSettings, SettingsError
from sinks.forward.alert import ForwardedAlert
from sinks.forward.target import Answer, Reply, content_of

ID_HEADER = "X-Unproxy-Alert-Id"
VERSION_HEADER = "X-Unproxy-Alert-Version"
TIMESTAMP_HEADER = "X-Unproxy-Timestamp"
SIGNATURE_HEADER = "X-Unproxy-Signature"

REFUSED = frozenset({400, 409, 413, 422})
"""Statuses that reject the alert itself."""
BUSY = frozenset({408, 425, 429, 503})

PAUSE_SECS_MAX = 600.0
"""Upper bound for the seconds of a Retry-After."""
BODY_BYTES_MAX = 2_048
"""Number of bytes that are read of a response; after a longer response, the connection is closed."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {"content-type", "content-length", "transfer-encoding", "host", "connection"}


class Webhook:
    """A receiver over HTTP, on persistent connections."""

    def __init__(self, settings: ForwardSettings) -> None:
        url = settings.url.get_secret_value()
        if not url:
            raise SettingsError("forward.url: is missing; set it to where alerts should be posted")
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.netloc}"
        self.parallel = settings.parallel_max
        self._path = urllib3.util.parse_url(url).request_uri
        self._secret = secret_of(settings)
        self._headers = {"User-Agent": "unproxy", **headers_of(settings), "Content-Type": "application/json"}
        secure = {}
        if parts.scheme == "https":
            secure["ssl_context"] = tls.context("forward.", settings.ca_file, settings.client_cert_file)
        self._pool = urllib3.connection_from_url(
            self.name,
            maxsize=self.parallel,
            timeout=urllib3.Timeout(connect=settings.timeout_secs, read=settings.timeout_secs),
            **secure,
        )

    @property
    def signs(self) -> bool:
        """Whether there is a secret to sign with."""
        return bool(self._secret)

    def send(self, raw: bytes, alert: ForwardedAlert) -> Reply:
        """Send the alert in one POST request and return the result; redirects are not followed."""
        now = time.time()
        headers = {**self._headers, ID_HEADER: alert.AlertId, VERSION_HEADER: str(alert.Version)}
        headers |= signed(self._secret, int(now), raw)
        try:
            response = self._pool.urlopen(
                "POST", self._path, body=raw, headers=headers, retries=False, redirect=False, preload_content=False
            )
            body = _beginning(response)
        except HTTPError as error:
            return _no_answer(error)
        return reply_of(response.status, response.headers.get("Retry-After", ""), now)._replace(body=body)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


def signed(secret: bytes, timestamp: int, body: bytes) -> dict[str, str]:
    """Return headers that prove sender and time: an HMAC-SHA256 over `timestamp.body`; none if the secret is empty.

    `timestamp` is in seconds since 1970.
    """
    if not secret:
        return {}
    digest = hmac.new(secret, b"%d.%b" % (timestamp, body), hashlib.sha256).hexdigest()
    return {TIMESTAMP_HEADER: str(timestamp), SIGNATURE_HEADER: f"sha256={digest}"}


def reply_of(status: int, retry_after: str, now: float) -> Reply:
    """Return the reply that an HTTP status means.

    `retry_after` is the value of the header Retry-After, "" if there is none; `now` is in seconds since 1970.
    """
    try:
        text = f"answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        text = f"answered {status}"
    if 200 <= status < 300:
        return Reply(Answer.DELIVERED, text)
    if status in REFUSED:
        return Reply(Answer.REFUSED, text)
    if status in BUSY:
        return Reply(Answer.BUSY, text, pause_of(retry_after, now))
    if status >= 500:
        return Reply(Answer.FAILED, text, pause_of(retry_after, now))
    if 300 <= status < 400:
        return Reply(Answer.MISCONFIGURED, f"{text}; redirects are not followed, set forward.url to where it leads")
    return Reply(Answer.MISCONFIGURED, f"{text}; check forward.url, the secret and forward.headers_file")


def pause_of(retry_after: str, now: float) -> float:
    """Return the seconds that a Retry-After requests (RFC 9110 section 10.2.3), given as a number or a date; 0 if neither."""
    try:
        secs = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else _until(retry_after) - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(secs, 0.0), PAUSE_SECS_MAX)


def secret_of(settings: ForwardSettings) -> bytes:
    """Return the secret to sign with; empty if there is none. Raises SettingsError."""
    if not settings.secret_file:
        return settings.secret.get_secret_value().encode()
    secret = content_of("secret_file", settings.secret_file).strip()
    if not secret:
        raise SettingsError(f"forward.secret_file: {settings.secret_file} is empty; write the secret into it")
    return secret.encode()


def headers_of(settings: ForwardSettings) -> dict[str, str]:
    """Return the headers to add to each request. Raises SettingsError, which names a wrong line but not its content."""
    found: dict[str, str] = {}
    content = content_of("headers_file", settings.headers_file) if settings.headers_file else ""
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, value = line.partition(":")
        place = f"forward.headers_file: {settings.headers_file} line {number}"
        if not colon or not _TOKEN.fullmatch(name) or not value.strip().isprintable() or not value.isascii():
            raise SettingsError(f"{place} is not `Name: value`")
        if name.lower() in _OURS or name.lower().startswith("x-unproxy-"):
            raise SettingsError(f"{place} sets {name}, which unproxy sets itself; remove it")
        found[name] = value.strip()
    return found


def _until(date: str) -> float:
    when = parsedate_to_datetime(date)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _beginning(response: BaseHTTPResponse) -> str:
    """Return at most `BODY_BYTES_MAX` bytes of the response as text.

    A response that is read to its end leaves the connection reusable; after a longer one, the connection is closed.
    """
    body = response.read(BODY_BYTES_MAX + 1, decode_content=False)
    if len(body) > BODY_BYTES_MAX:
        response.close()
    response.release_conn()
    return body[:BODY_BYTES_MAX].decode("utf-8", "replace")


def _no_answer(error: HTTPError) -> Reply:
    if isinstance(error, SSLError) and isinstance(error.args[0], ssl.SSLCertVerificationError):
        why = error.args[0].verify_message
        return Reply(
            Answer.MISCONFIGURED, f"its certificate is not trusted ({why}); check forward.ca_file and the name"
        )
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError)) and not isinstance(error, NewConnectionError):
        return Reply(Answer.TIMEOUT, "did not answer in time")
    return Reply(Answer.UNREACHABLE, f"no connection: {error}")
