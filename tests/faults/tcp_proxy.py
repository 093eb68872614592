"""A small TCP proxy that can cut connections, refuse new ones, or hold bytes back: the network between two parts."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024


class TcpProxy:
    """Listens on a port of its own and forwards to another, in plain; its methods are for any thread."""

    def __init__(self, port: int, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._tls = tls
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._at_upload: tuple[int, Callable[[], None]] | None = None
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{port}", daemon=True)
        self._thread.start()
        assert self._listens.wait(10), f"the proxy does not listen on {port}"

    def cut(self) -> None:
        """Reset every connection there is; new ones are fine."""
        self._loop.call_soon_threadsafe(self._cut)

    def refuse(self) -> None:
        """Reset every connection, and new ones at once."""
        self._refuses = True
        self.cut()

    def stall(self) -> None:
        """Forward nothing, but keep every connection open."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def heal(self) -> None:
        """Forward everything again."""
        self._refuses = False
        self._loop.call_soon_threadsafe(self._flows.set)

    def at_upload(self, bytes_min: int, then: Callable[[], None]) -> None:
        """Call `then` once, in the middle of the next piece from a client that is at least so large."""
        self._at_upload = (bytes_min, then)

    def forget_upload(self) -> None:
        """What `at_upload` waited for did not come, and is not waited for any more."""
        self._at_upload = None

    def close(self) -> None:
        """Stop listening and reset what is open."""
        self._loop.call_soon_threadsafe(self._cut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, HOST, self.port, backlog=256, ssl=self._tls)
        )
        self._listens.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.close()

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._refuses:
            to_client.transport.abort()
            return
        self._writers.add(to_client)
        try:
            from_server, to_server = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            to_client.transport.abort()
            self._writers.discard(to_client)
            return
        self._writers.add(to_server)
        pumps = (self._pump(from_client, to_server, uploads=True), self._pump(from_server, to_client, uploads=False))
        try:
            # A side that is reset must not leave the other one waiting.
            await asyncio.gather(*pumps)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for writer in (to_client, to_server):
                self._writers.discard(writer)
                writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, uploads: bool) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._flows.wait()
            hook = self._at_upload
            if uploads and hook is not None and len(chunk) >= hook[0]:
                self._at_upload = None
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                await self._loop.run_in_executor(None, hook[1])
                return
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
