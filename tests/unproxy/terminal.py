"""A program on a terminal of its own, what it sends there, and text that tries to steer terminals."""

from __future__ import annotations

import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from fcntl import ioctl
from select import select

SECS_MAX = 120.0
POLL_SECS = 0.1
HOSTILE = (
    "\x1b]52;c;aGk=\x07|\x1b[8mhidden|\x9b2J|\u202egpj.exe|\u2066|\ufeff|\u200b|\u2028|\x7f|\r\x0boverwritten|"
    "[red]markup[/red]\nforged"
)
"""Clipboard (OSC 52), concealed text, a C1 control sequence, bidi, zero width, overwriting, rich's markup, a second line."""

_OWN = re.compile(
    "\x1b\\[(?:0|1|2|31|33)m"  # colors
    "|\r\x1b\\[K"  # the line of `replay`
    "|\x1b\\[\\?25[lh]|\r\x1b\\[2K(?:\x1b\\[1A\x1b\\[2K)*"  # the panel of `up`
)
"""What the program itself sends to a terminal."""


def strange(sent: str) -> list[str]:
    """The lines with characters that are neither printable nor the program's own."""
    return [line for line in _OWN.sub("", sent).split("\n") if not line.isprintable()]


class Terminal:
    """A process whose stdout and stderr are a terminal, with nothing between them and us."""

    def __init__(self, *command: str, environment: Mapping[str, str] | None = None, cwd: str | None = None) -> None:
        self._ours, its = pty.openpty()
        mode = termios.tcgetattr(its)
        mode[1] &= ~termios.OPOST  # or a line feed would come with a carriage return
        termios.tcsetattr(its, termios.TCSANOW, mode)
        ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=its, stderr=its, env=environment, cwd=cwd, start_new_session=True
        )
        os.close(its)
        self._sent = b""

    @property
    def sent(self) -> str:
        """What came so far."""
        return self._sent.decode("utf-8", "surrogateescape")

    def until(self, fact: Callable[[str], object]) -> None:
        """Read until this is so of what was sent."""
        deadline = time.monotonic() + SECS_MAX
        while not fact(self.sent):
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"not within {SECS_MAX:g} s: {self.sent!r}")
            if select([self._ours], [], [], POLL_SECS)[0]:
                assert self._more(), f"it ended: {self.sent!r}"

    def until_end(self) -> str:
        """Read to the end; what was sent."""
        while self._more():
            pass
        os.close(self._ours)
        self.process.wait()
        return self.sent

    def end(self, how: signal.Signals = signal.SIGINT) -> str:
        """Send a signal and read to the end; what was sent."""
        self.process.send_signal(how)
        return self.until_end()

    def _more(self) -> bool:
        ready, _, _ = select([self._ours], [], [], SECS_MAX)
        if not ready:
            self.process.kill()
            raise AssertionError(f"silent for {SECS_MAX:g} s after: {self.sent!r}")
        try:
            chunk = os.read(self._ours, 65_536)
        except OSError:  # Linux raises EIO when the last writer is gone
            return False
        self._sent += chunk
        return bool(chunk)
