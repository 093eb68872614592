"""What a process did last is known after its death."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streams.quarantine import NO_LINE, Death
from streams.worker.guards.at_hand import AtHand, Place

DIES = """
import os, signal, sys
from pathlib import Path
from streams.worker.guards.at_hand import AtHand
at_hand = AtHand(Path(sys.argv[1]))
at_hand.begin(3, 1 << 40)
exec(sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("what", "last"),
    [
        ("", Place(3, Death(1 << 40, NO_LINE, 0))),
        ("at_hand.line[0] = 5", Place(3, Death(1 << 40, 5, 0))),
        ("at_hand.line[0] = 5; at_hand.begin(1, 7)", Place(1, Death(7, NO_LINE, 0))),
        ("at_hand.line[0] = 5; at_hand.note_exit(76)", Place(3, Death(1 << 40, 5, 76))),
        ("at_hand.line[0] = 5; at_hand.done()", None),
    ],
)
def test_the_next_life_reads_where_the_last_one_died(what: str, last: Place | None, tmp_path: Path) -> None:
    """After kill -9 too, and until `done` confirms the reading; a process that died with no message at hand left nothing."""
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "state"), what], check=False)

    assert AtHand(tmp_path / "state").last == last
    again = AtHand(tmp_path / "state")
    assert again.last == last
    again.done()
    assert AtHand(tmp_path / "state").last is None


def test_another_thread_sees_what_is_at_hand(tmp_path: Path) -> None:
    """Each message that is taken up has another number, the same one read again too; without one the number is zero."""
    at_hand = AtHand(tmp_path / "state")
    seen = [at_hand.look()]
    for _ in range(2):
        at_hand.begin(1, 7)
        at_hand.line[0] = 3
        seen.append(at_hand.look())
    at_hand.done()

    assert [number for number, _ in (*seen, at_hand.look())] == [0, 1, 2, 0]
    assert seen[1][1] == seen[2][1] == Place(1, Death(7, 3, 0))
