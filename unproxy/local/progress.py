"""Live progress on stderr: a panel if it is a terminal, else plain lines at a limited rate."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas.topics import TABLE_OF_TOPIC
from unproxy.local.meter import Reading
from unproxy.output import below, printable

PLAIN_SECS = 2.0
REFRESH_SECS = 0.25


class Progress:
    """Shows readings, and warnings above them."""

    def __init__(self, telemetry: str, results: list[str]) -> None:
        self._telemetry, self._results = telemetry, results
        self._console = Console(file=below(sys.stderr), highlight=False)
        # Do not redirect stdout and stderr to rich, which would interpret color codes in their text.
        live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live = live if sys.stderr.isatty() else None
        self._shown_at = 0.0
        self._shown = ""

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        if self._live:
            self._live.stop()

    def print_line(self, text: str, style: str = "") -> None:
        """Print a line above the progress."""
        self._console.print(Text(printable(text), style=style), soft_wrap=True)

    def show(self, phase: str, reading: Reading) -> None:
        """Show a reading, at a limited rate."""
        now = time.monotonic()
        if now - self._shown_at < (REFRESH_SECS if self._live else PLAIN_SECS):
            return
        self._shown_at = now
        facts = self._facts(reading)
        if self._live:
            grid = Table.grid(padding=(0, 2))
            grid.add_row(Text(printable(phase), style="bold"), "")
            for name, value in facts.items():
                grid.add_row(Text(name, style="dim"), Text(value))
            self._live.update(grid, refresh=True)
            return
        line = f"{phase}: " + ", ".join(f"{name} {value}" for name, value in facts.items())
        if line != self._shown:
            self._shown = line
            self.print_line(line)

    def _facts(self, reading: Reading) -> dict[str, str]:
        behind = sum(reading.behind(topic) for topic in self._results)
        return {
            "lines sent": f"{reading.lines:,}",
            "read": f"{reading.book.get('read', 0):,} ({reading.behind(self._telemetry):,} messages behind)",
            "connections": f"{reading.book.get('connections', 0):,} ({reading.book.get('waiting', 0):,} waiting)",
            "rows made": f"{reading.book.get('rows', 0):,}",
            "in the table": f"{reading.table_rows.get('DeviceNetworkEvents', 0):,} ({behind:,} messages behind)",
            "alerts": f"{reading.table_rows.get(TABLE_OF_TOPIC['block-alerts'], 0):,}",
        }
