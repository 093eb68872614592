"""Squid as Debian builds it, unpacked and not installed: its configuration, and what its log shows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.live.errands import ADDRESSES, FORBIDDEN
from tests.live.stage import PROXY, PROXY_6, PROXY_PORT, UNPRIVILEGED, CannotRun, Stage, WentWrong, await_that

ABORTED = "_ABORTED"
QUIET_SECS = 0.5
CONFIGURATION = """\
http_port {proxy}:{port}
http_port [{proxy_6}]:{port}
visible_hostname proxy.example
hosts_file {folder}/hosts
dns_nameservers 127.0.0.1
dns_timeout 1 seconds
dns_retransmit_interval 1 seconds
acl forbidden dstdomain {forbidden}
http_access deny forbidden
http_access allow all
cache deny all
logformat unproxy {{"ts_start":"%tS","ts_end":"%ts.%03tu","dur_ms":"%tr","client_ip":"%>a","client_port":"%>p",\
"proxy_ip":"%>la","proxy_port":"%>lp","method":"%rm","url":"%ru","status":"%>Hs","tag":"%Ss","hier":"%Sh",\
"server_ip":"%<a","server_port":"%<p","bytes_out":"%<st","bytes_in":"%>st","user":"%un"}}
access_log stdio:{folder}/access.jsonl unproxy
cache_log {folder}/cache.log
buffered_logs off
error_directory {place}/share/errors
icon_directory {place}/share/icons
mime_table {place}/share/mime.conf
pid_filename none
netdb_filename none
coredump_dir none
unlinkd_program {place}/unlinkd
pinger_enable off
shutdown_lifetime 1 seconds
max_filedescriptors 8192
"""


@dataclass(frozen=True)
class Logged:
    """A line of squid's log."""

    client_ip: str
    client_port: int
    method: str
    url: str
    status: int
    tag: str

    @property
    def host(self) -> str:
        """Of the target, lower case."""
        rest = self.url if self.method == "CONNECT" else self.url.partition("://")[2].partition("/")[0]
        name, colon, port = rest.rpartition(":")
        return (name if colon and port.isdigit() else rest).lower().rstrip(".")

    @property
    def done(self) -> bool:
        """The destination was reached, and its answer, or a tunnel to it, went to the client."""
        reached = self.tag.startswith(("TCP_MISS", "TCP_TUNNEL")) and ABORTED not in self.tag
        return reached and 200 <= self.status < 500


def logged(path: Path) -> Iterator[Logged]:
    """Every line of a log."""
    for line in map(json.loads, path.read_text().splitlines()):
        yield Logged(
            line["client_ip"], int(line["client_port"]), line["method"], line["url"], int(line["status"]), line["tag"]
        )


class Squid:
    """A running squid."""

    def __init__(self, stage: Stage, package: Path, folder: Path) -> None:
        place = unpacked(package, folder)
        user = folder / "squid"
        user.mkdir()
        os.chown(user, UNPRIVILEGED, UNPRIVILEGED)
        (user / "hosts").write_text("".join(f"{address} {name}\n" for name, address in ADDRESSES.items()))
        settings = CONFIGURATION.format(
            proxy=PROXY, proxy_6=PROXY_6, port=PROXY_PORT, folder=user, place=place, forbidden=FORBIDDEN
        )
        (user / "squid.conf").write_text(settings)
        self._log, self._reported = user / "access.jsonl", 0
        words: list[str | Path] = [
            "env",
            f"LD_LIBRARY_PATH={place / 'lib'}",
            place / "squid",
            "-N",
            "-f",
            user / "squid.conf",
        ]
        process = stage.far(words, "squid", user=UNPRIVILEGED)
        cache_log = user / "cache.log"

        def listens() -> bool:
            if process.poll() is not None:
                raise WentWrong(f"squid ended with {process.returncode}: {stage.output('squid')[-500:]}")
            return cache_log.exists() and cache_log.read_text(errors="replace").count("Accepting HTTP") == 2

        await_that(listens, "squid listens")

    def log(self) -> list[Logged]:
        """What it logged since last asked, once it has no more to log."""
        size = -1
        while size != (size := self._log.stat().st_size if self._log.exists() else 0):
            time.sleep(QUIET_SECS)
        lines = list(logged(self._log)) if size else []
        new, self._reported = lines[self._reported :], len(lines)
        return new


def unpacked(package: Path, folder: Path) -> Path:
    """Its files where the unprivileged user may read them. Raises CannotRun."""
    binary, share = package / "usr/sbin/squid", package / "usr/share/squid"
    if not binary.exists():
        raise CannotRun(f"{package}: no squid here; `make live` fetches Debian's package")
    place = folder / "squid-files"
    (place / "lib").mkdir(parents=True)
    shutil.copy(binary, place / "squid")
    shutil.copy(package / "usr/lib/squid/unlinkd", place)
    for library in package.glob("usr/lib/*-linux-gnu/*.so*"):
        shutil.copy(library, place / "lib")
    shutil.copytree(share / "errors/en", place / "share/errors")
    shutil.copytree(share / "icons", place / "share/icons")
    shutil.copy(share / "mime.conf", place / "share")
    subprocess.run(["chmod", "-R", "a+rX", place], check=True)
    return place
