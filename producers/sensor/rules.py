"""Rules of the packet filter that lead what goes to the proxies into our queue, and nothing else.

With `nft` a table of our own, where the kernel has its `queue` statement; else with `iptables` and `ip6tables` a chain of our
own and the one rule that leads into it. The name tells whose it is: it is removed at the end, and what a killed sensor left
by the next one. Nobody else's rules are looked at or touched.

The rules stand before address translation (priority `mangle`), so that a packet has the addresses that its socket has. With
`bypass` the kernel lets everything pass while nobody listens to the queue: a sensor that is dead blocks nothing.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from producers.sensor.owner import is_left, own_name

log = logging.getLogger(__name__)

ProxyAddress = tuple[str, int]
"""A canonical address, "" for any, and a port."""

COMMAND_SECS = 10
"""A command of the packet filter that takes longer is given up; it may wait for another's lock."""
LOCK_SECS = "5"
_PLACES = ("/usr/sbin", "/sbin", "/usr/local/sbin")
_SAID_CHARS_MAX = 200


class NoRules(Exception):
    """The rules cannot be had; the message says why."""


class Filter(Protocol):
    """A way to put the rules in."""

    name: str

    def put(self, proxies: Iterable[ProxyAddress], queue: int) -> None:
        """Put the rules in, in place of earlier ones of ours. Raises NoRules, with nothing left behind."""

    def remove(self) -> None:
        """Take ours out; what is not there is no matter."""

    def remove_left(self) -> list[str]:
        """Take out what killed sensors left; gives the names."""


class Nft:
    """A table of our own of the family `inet`."""

    name = "nft"

    def __init__(self) -> None:
        self._own = own_name()

    def put(self, proxies: Iterable[ProxyAddress], queue: int) -> None:
        """One transaction: all of it, or nothing. Raises NoRules."""
        rules = "\n".join(
            f"{_nft_address(address)}tcp dport {port} queue num {queue} bypass" for address, port in sorted(proxies)
        )
        _run(
            ["nft", "-f", "-"],
            f"table inet {self._own} {{}}\ndelete table inet {self._own}\ntable inet {self._own} {{\n"
            f"chain output {{\ntype filter hook output priority -150; policy accept;\n{rules}\n}}\n}}\n",
        )

    def remove(self) -> None:
        """Take the table out."""
        with suppress(NoRules):
            _run(["nft", "delete", "table", "inet", self._own])

    def remove_left(self) -> list[str]:
        """Tables of killed sensors."""
        with suppress(NoRules):
            words = (line.split() for line in _run(["nft", "list", "tables"]).splitlines())
            left = [line[2] for line in words if line[:2] == ["table", "inet"] and is_left(line[2])]
            for name in left:
                _run(["nft", "delete", "table", "inet", name])
            return left
        return []


class Iptables:
    """A chain of our own in the table `mangle`, for IPv4 and, where the machine has it, IPv6."""

    name = "iptables"

    def __init__(self) -> None:
        self._own = own_name()

    def put(self, proxies: Iterable[ProxyAddress], queue: int) -> None:
        """The chain first, then the rule that leads into it. Raises NoRules."""
        wanted = sorted(proxies)
        self.remove()
        try:
            self._put("iptables", [one for one in wanted if ":" not in one[0]], queue)
        except NoRules:
            self.remove()
            raise
        try:
            self._put("ip6tables", [one for one in wanted if ":" in one[0] or not one[0]], queue)
        except NoRules as error:
            _take_out("ip6tables", self._own)
            if any(":" in address for address, _ in wanted):
                self.remove()
                raise
            log.warning("requests over IPv6 are not stopped inline", extra={"reason": str(error)})

    def remove(self) -> None:
        """Take rule and chain out."""
        for command in ("iptables", "ip6tables"):
            _take_out(command, self._own)

    def remove_left(self) -> list[str]:
        """Chains of killed sensors."""
        left: dict[str, None] = {}
        for command in ("iptables", "ip6tables"):
            with suppress(NoRules):
                for line in _tables(command, "-S").splitlines():
                    words = line.split()
                    if len(words) == 2 and words[0] == "-N" and is_left(words[1]):
                        _take_out(command, words[1])
                        left[words[1]] = None
        return list(left)

    def _put(self, command: str, proxies: list[ProxyAddress], queue: int) -> None:
        if not proxies:
            return
        _tables(command, "-N", self._own)
        for address, port in proxies:
            to = ["-d", address] if address else []
            _tables(
                command, "-A", self._own, *to, "-p", "tcp", "--dport", str(port),
                "-j", "NFQUEUE", "--queue-num", str(queue), "--queue-bypass",
            )  # fmt: skip
        _tables(command, "-I", "OUTPUT", "1", "-p", "tcp", "-j", self._own)


def filters() -> list[Filter]:
    """The ways there are on this machine, the better first."""
    return [Nft(), Iptables()]


def _take_out(command: str, chain: str) -> None:
    for words in (("-D", "OUTPUT", "-p", "tcp", "-j", chain), ("-F", chain), ("-X", chain)):
        with suppress(NoRules):
            _tables(command, *words)


def _tables(command: str, *words: str) -> str:
    return _run([command, "-w", LOCK_SECS, "-t", "mangle", *words])


def _run(words: list[str], given: str = "") -> str:
    command = shutil.which(words[0], path=os.pathsep.join((os.environ.get("PATH", ""), *_PLACES)))
    if command is None:
        raise NoRules(f"there is no {words[0]}")
    try:
        done = subprocess.run(
            [command, *words[1:]], input=given, capture_output=True, text=True, check=False, timeout=COMMAND_SECS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoRules(f"{words[0]}: {error}") from None
    if done.returncode:
        said = done.stderr.strip().partition("\n")[0][:_SAID_CHARS_MAX]
        raise NoRules(f"{words[0]}: {said or f'ended with {done.returncode}'}")
    return done.stdout


def _nft_address(address: str) -> str:
    if not address:
        return ""
    return f"{'ip6' if ':' in address else 'ip'} daddr {address} "
