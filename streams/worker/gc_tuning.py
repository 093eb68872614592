"""How the garbage collector treats a pipeline's state: as the plain data it is."""

from __future__ import annotations

import gc

YOUNG_MAX = 100_000


def tune_collector() -> None:
    """Look for cycles seldom. What waits in a pipeline has none, and a walk over a million connections finds nothing.

    In one comparison at 100,000 open connections a collector that was switched off saved a tenth of the cost of an event.
    Cycles made elsewhere (asyncio, Faust) are still found, only later.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 50, 100)
