"""A small client of ClickHouse's HTTP interface, for queries from the command line.

It replaces clickhouse-connect, which takes half a second to import and sends five queries before the first own one.

    QueryRefused(Failed)     ClickHouse refused the query; the message is one readable line
    EngineAway(Failed)       no server answers at the address
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from unproxy.errors import Failed

if TYPE_CHECKING:
    from schemas.settings import Settings

CHUNK_BYTES = 256 * 1024
ERROR_CHARS_MAX = 300
OF_DEVICE = "DeviceId IN ({device:String}, lower({device:String}))"
"""SQL condition for the rows of the device in the parameter `device`.

Rows have names in lower case; users may type them in upper case. DeviceName equals DeviceId and is no part of the tables' keys.
"""
TIME = "parseDateTime64BestEffort({%s:String}, 6, 'UTC')"
"""SQL expression of a time that is a parameter; the parameter's name replaces %s."""
JSON_SETTINGS = {"output_format_json_quote_64bit_integers": "0"}

READ_ONLY = {"readonly": "2"}
"""A setting by which a query cannot change anything, whatever its user may do; 2 still allows settings, as the dialect."""

_PREFIX = re.compile(
    r"^(?:Poco::Exception\. )?Code: \d+\. (?:DB::Exception: )?(?:Received from [^ ]+ )?(?:DB::Exception: )?"
)
_SUFFIX = re.compile(r"\s*\(version [^)]*\)\s*$")
_EXPECTED = re.compile(r"\.? Expected one of: .*$", re.DOTALL)


_HINTS = {
    "UNKNOWN_DATABASE": "run `unproxy migrate`",
    "READONLY": "`unproxy query` only reads; change things with ClickHouse's own client",
    "CORRUPTED_DATA": "run `unproxy detach-damaged`",
}


class QueryRefused(Failed):
    """ClickHouse refused the query; the message states why. `code` is ClickHouse's error code, 0 if there is none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class EngineAway(Failed):
    """No server answers at this address."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client of one server: its address, database and login. Each query has its own connection."""

    url: str
    database: str
    username: str = "default"
    password: str = ""
    timeout_secs: float = 30.0
    ca_file: str = ""

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a query in SQL; `parameters` are the values of its `{name:Type}`.

        Raises QueryRefused, EngineAway, as all queries do.
        """
        settings = {"date_time_output_format": "iso", **JSON_SETTINGS}
        lines = self.lines(sql, output="JSONEachRow", settings=settings, parameters=parameters)
        return [json.loads(line) for line in lines]

    def lines(
        self,
        text: str,
        *,
        output: str,
        settings: Mapping[str, str] | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> Iterator[bytes]:
        """Yield the result, in ClickHouse's format `output`, line by line as it arrives."""
        rest = b""
        for chunk in self.chunks(text, output=output, settings=settings, parameters=parameters):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line)
        if rest:
            yield rest

    def chunks(
        self,
        text: str,
        *,
        output: str,
        settings: Mapping[str, str] | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> Generator[bytes, None, None]:
        """Yield the result, in ClickHouse's format `output`, in chunks as it arrives."""
        # The dialect is the last setting: an engine that applies them one by one must read the others as plain SQL.
        query = {"default_format": output, **_parameters(parameters), **(settings or {})}
        if self.database:
            query["database"] = self.database
        connection = self._connection()
        try:
            response = self._ask(connection, f"?{urlencode(query)}", text)
            if response.status != http.client.OK:
                code = int(response.headers.get("X-ClickHouse-Exception-Code") or 0)
                raise QueryRefused(self._refusal(response.read().decode("utf-8", "replace")), code)
            while chunk := response.read1(CHUNK_BYTES):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise EngineAway(f"{self.url}: the answer broke off: {_reason(error)}; try again") from None
        finally:
            connection.close()

    def ping(self) -> None:
        """Raise EngineAway if no ClickHouse server answers."""
        connection = self._connection()
        try:
            self._ask(connection, "ping", "")
        except http.client.HTTPException as error:
            raise EngineAway(f"{self.url}: what answers there is no ClickHouse ({type(error).__name__})") from None
        finally:
            connection.close()

    def _refusal(self, error: str) -> str:
        hints = [f"; {hint}" for name, hint in _HINTS.items() if f"({name})" in error]
        return "".join([readable(error), *hints])

    def _ask(self, connection: http.client.HTTPConnection, target: str, text: str) -> http.client.HTTPResponse:
        place = urlsplit(self.url)
        login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")
        headers = {"Authorization": f"Basic {login}", "Content-Type": "text/plain; charset=utf-8"}
        try:
            method = "POST" if text else "GET"
            connection.request(method, f"{place.path.rstrip('/')}/{target}", body=text.encode(), headers=headers)
            return connection.getresponse()
        except ssl.SSLError as error:
            reason = error.reason or str(error)
            raise EngineAway(f"{self.url}: {reason}; check clickhouse.ca_file, and clickhouse.url for https") from None
        except OSError as error:
            raise EngineAway(
                f"{self.url}: no ClickHouse answers there ({_reason(error)}); start `unproxy up`, or set clickhouse.url"
            ) from None

    def _connection(self) -> http.client.HTTPConnection:
        place = urlsplit(self.url)
        host = place.hostname or "127.0.0.1"
        if place.scheme == "https":
            from common import tls

            return http.client.HTTPSConnection(
                host, place.port or 8443, timeout=self.timeout_secs, context=tls.context("clickhouse.", self.ca_file)
            )
        return http.client.HTTPConnection(host, place.port or 8123, timeout=self.timeout_secs)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _parameters(parameters: Mapping[str, object] | None) -> dict[str, str]:
    # ClickHouse reads parameter values as TSV fields.
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n"})
    return {f"param_{name}": str(value).translate(escapes) for name, value in (parameters or {}).items()}


def readable(error: str) -> str:
    """Return an error of ClickHouse as one readable line."""
    text = _SUFFIX.sub("", error.strip())
    text = _PREFIX.sub("", text)
    text = " ".join(_EXPECTED.sub("", text).split())
    if len(text) > ERROR_CHARS_MAX:
        text = text[: ERROR_CHARS_MAX - 1] + "…"
    return text or "the engine refused the query without a reason"


def of_settings(settings: Settings) -> Client:
    """Return a client of the ClickHouse server of these settings."""
    clickhouse = settings.clickhouse
    return Client(
        clickhouse.url,
        clickhouse.database,
        clickhouse.username,
        clickhouse.password.get_secret_value(),
        clickhouse.timeout_secs,
        clickhouse.ca_file,
    )
